//! Processes, as /proc shows them to everybody.

use std::collections::BTreeSet;
use std::fs;

/// What /proc/PID/stat says, as far as tests care.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Of its parent.
    pub ppid: i32,
    /// `R`, `S`, `Z` …
    pub state: char,
    /// The kernel's short name.
    pub comm: String,
    /// Clock ticks since boot: with the pid it names one process for ever.
    pub started: u64,
}

impl Process {
    /// Of a pid, if there is such a process.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid,
            ppid: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            comm,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Is it still there, and more than a zombie?
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started && now.state != 'Z')
    }

    /// Its arguments; empty for zombies.
    pub fn arguments(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
    }
}

/// All of them.
pub fn all() -> Vec<Process> {
    let names = fs::read_dir("/proc").expect("/proc is there").flatten();
    names.filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Those whose parent is `pid`.
pub fn children(pid: i32) -> Vec<Process> {
    all().into_iter().filter(|process| process.ppid == pid).collect()
}

/// `pid`'s children, theirs, and so on.
pub fn descendants(pid: i32) -> Vec<Process> {
    let everything = all();
    let mut found: BTreeSet<Process> = BTreeSet::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for process in everything.iter().filter(|process| process.ppid == parent) {
            if found.insert(process.clone()) {
                parents.push(process.pid);
            }
        }
    }
    found.into_iter().collect()
}

/// A number of /proc/PID/status, as `voluntary_ctxt_switches`.
pub fn status_number(pid: i32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Names of what a process has open. Its owner sees it only of a dumpable process: for root.
pub fn open_files(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut files: Vec<(i32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            Some((fd, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        .collect();
    files.sort();
    files
}
