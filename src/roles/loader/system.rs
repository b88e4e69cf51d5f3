//! Asks this machine: users and groups, ports, time zones, programs. Each user is asked for once a load.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::config::resolve::{Lookup, PathFacts, PathKind, System, UserEntry};
use crate::model::endpoint::Transport;
use crate::sys::accounts;

use super::zones;

/// As many symbolic links as the kernel follows before it says ELOOP.
const MAX_LINKS: usize = 40;

/// What was found, or why nobody could look.
type Answer<T> = Result<T, String>;

type Groups = Answer<Vec<u32>>;

type Accounts = Vec<(u32, u32)>;

type Ports = BTreeMap<(Transport, String), u16>;

/// This machine, as it answered during one load.
#[derive(Default)]
pub struct Machine {
    users: RefCell<BTreeMap<String, Lookup<UserEntry>>>,
    groups: RefCell<BTreeMap<String, Lookup<u32>>>,
    groups_of: RefCell<BTreeMap<(String, u32), Groups>>,
    members_of: RefCell<BTreeMap<u32, Answer<Vec<u32>>>>,
    /// Every user with the primary group.
    everybody: RefCell<Option<Answer<Accounts>>>,
    ports: RefCell<Option<Answer<Ports>>>,
}

impl System for Machine {
    fn user(&self, name: &str) -> Lookup<UserEntry> {
        let ask = || User::from_name(name).map(|user| user.map(entry)).map_err(|e| e.desc().to_owned());
        self.users.borrow_mut().entry(name.to_owned()).or_insert_with(ask).clone()
    }

    fn uid(&self, uid: u32) -> Lookup<UserEntry> {
        // A name can't begin with `#`: the two kinds of question share one table.
        let ask = || {
            User::from_uid(Uid::from_raw(uid)).map(|user| user.map(entry)).map_err(|e| e.desc().to_owned())
        };
        self.users.borrow_mut().entry(format!("#{uid}")).or_insert_with(ask).clone()
    }

    fn group(&self, name: &str) -> Lookup<u32> {
        let ask =
            || Group::from_name(name).map(|g| g.map(|g| g.gid.as_raw())).map_err(|e| e.desc().to_owned());
        self.groups.borrow_mut().entry(name.to_owned()).or_insert_with(ask).clone()
    }

    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String> {
        let ask = || ask_groups_of(user, gid);
        self.groups_of.borrow_mut().entry((user.to_owned(), gid)).or_insert_with(ask).clone()
    }

    fn members_of(&self, gid: u32) -> Result<Vec<u32>, String> {
        if let Some(known) = self.members_of.borrow().get(&gid) {
            return known.clone();
        }
        let members = self.ask_members_of(gid);
        self.members_of.borrow_mut().insert(gid, members.clone());
        members
    }

    fn port(&self, transport: Transport, name: &str) -> Lookup<u16> {
        let mut ports = self.ports.borrow_mut();
        match ports.get_or_insert_with(read_services) {
            Ok(ports) => Ok(ports.get(&(transport, name.to_owned())).copied()),
            Err(why) => Err(why.clone()),
        }
    }

    fn has_zone(&self, name: &str) -> bool {
        zones::exists(name)
    }

    fn path(&self, root: &Path, path: &Path) -> Lookup<PathFacts> {
        let real = if root == Path::new("/") { Ok(path.to_owned()) } else { inside(root, path) };
        let about = match real.and_then(std::fs::metadata) {
            Ok(about) => about,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        let kind = match about.file_type() {
            t if t.is_file() => PathKind::File,
            t if t.is_dir() => PathKind::Directory,
            _ => PathKind::Other,
        };
        Ok(Some(PathFacts { kind, mode: about.mode() & 0o7777, uid: about.uid(), gid: about.gid() }))
    }
}

impl Machine {
    fn ask_members_of(&self, gid: u32) -> Answer<Vec<u32>> {
        let group = Group::from_gid(Gid::from_raw(gid)).map_err(|e| e.desc().to_owned())?;
        let mut members = Vec::new();
        for name in group.map(|group| group.mem).unwrap_or_default() {
            // A member that is no user any more is nobody.
            members.extend(self.user(&name)?.map(|user| user.uid));
        }
        let mut everybody = self.everybody.borrow_mut();
        let all = everybody.get_or_insert_with(|| accounts::all().map_err(|e| e.desc().to_owned()));
        let primary = all.as_ref().map_err(Clone::clone)?;
        members.extend(primary.iter().filter(|(_, group)| *group == gid).map(|(uid, _)| *uid));
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }
}

fn entry(user: User) -> UserEntry {
    UserEntry {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir.to_string_lossy().into_owned(),
        shell: user.shell.to_string_lossy().into_owned(),
    }
}

fn ask_groups_of(user: &str, gid: u32) -> Result<Vec<u32>, String> {
    let name = CString::new(user).map_err(|error| error.to_string())?;
    let groups = nix::unistd::getgrouplist(&name, Gid::from_raw(gid)).map_err(|e| e.desc().to_owned())?;
    let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn read_services() -> Answer<Ports> {
    let bytes = std::fs::read("/etc/services").map_err(|error| format!("/etc/services: {error}"))?;
    Ok(services(&String::from_utf8_lossy(&bytes)))
}

/// services(5), its tcp and udp lines: a name, `PORT/PROTOCOL`, other names. The first line of a name counts.
fn services(text: &str) -> Ports {
    let mut ports = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
        let (port, transport) = match port.split_once('/') {
            Some((port, "tcp")) => (port, Transport::Tcp),
            Some((port, "udp")) => (port, Transport::Udp),
            _ => continue,
        };
        let Ok(port) = port.parse() else { continue };
        for name in std::iter::once(name).chain(words) {
            ports.entry((transport, name.to_owned())).or_insert(port);
        }
    }
    ports
}

/// What `path` leads to for a process whose root is `root`: links, absolute ones too, stay inside.
fn inside(root: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    let mut parts: Vec<std::ffi::OsString> = Vec::new();
    let mut links = 0;
    while let Some(next) = todo.pop() {
        let mut components = next.components();
        match components.next() {
            None => continue,
            Some(Component::RootDir | Component::Prefix(_)) => parts.clear(),
            Some(Component::CurDir) => {}
            Some(Component::ParentDir) => drop(parts.pop()),
            Some(Component::Normal(name)) => parts.push(name.to_owned()),
        }
        todo.push(components.as_path().to_owned());
        let here = parts.iter().fold(root.to_owned(), |path, part| path.join(part));
        if !parts.is_empty() && std::fs::symlink_metadata(&here).is_ok_and(|about| about.is_symlink()) {
            links += 1;
            if links > MAX_LINKS {
                return Err(std::io::Error::from_raw_os_error(libc::ELOOP));
            }
            parts.pop();
            todo.push(std::fs::read_link(&here)?);
        }
    }
    Ok(parts.iter().fold(root.to_owned(), |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_services_5_says() {
        let ports = services(
            "finger 79/tcp # x\n# a 1/tcp\ntftp 69/udp\nwww 80/tcp http\n\nbad 99999/tcp\nfinger 80/tcp\n",
        );
        let names: Vec<(Transport, &str, u16)> =
            ports.iter().map(|((transport, name), port)| (*transport, name.as_str(), *port)).collect();
        let (tcp, udp) = (Transport::Tcp, Transport::Udp);
        assert_eq!(names, [(tcp, "finger", 79), (tcp, "http", 80), (tcp, "www", 80), (udp, "tftp", 69)]);
    }

    #[test]
    fn links_stay_inside_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("usr/bin")).unwrap();
        std::fs::write(at("usr/bin/prog"), "").unwrap();
        std::os::unix::fs::symlink("usr/bin", at("bin")).unwrap();
        std::os::unix::fs::symlink("/usr/bin/prog", at("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../usr", at("up")).unwrap();
        std::os::unix::fs::symlink("/loop", at("loop")).unwrap();
        for path in ["/bin/prog", "/absolute", "/up/bin/prog", "/usr/../bin/./prog"] {
            assert_eq!(inside(root.path(), Path::new(path)).unwrap(), at("usr/bin/prog"), "{path}");
        }
        assert!(inside(root.path(), Path::new("/loop")).is_err());
        let facts = Machine::default().path(root.path(), Path::new("/bin/prog"));
        assert_eq!(facts.unwrap().unwrap().kind, PathKind::File);
        assert_eq!(Machine::default().path(root.path(), Path::new("/bin/none")), Ok(None));
    }

    #[test]
    fn the_machine_knows_root() {
        let machine = Machine::default();
        assert_eq!(machine.user("root").unwrap().unwrap().uid, 0);
        assert_eq!(machine.uid(0).unwrap().unwrap().name, "root");
        assert_eq!(machine.user("no such user"), Ok(None));
        assert!(machine.groups_of("root", 0).unwrap().contains(&0));
        assert!(machine.members_of(0).unwrap().contains(&0));
        assert_eq!(machine.members_of(u32::MAX - 7), Ok(Vec::new()));
    }
}
