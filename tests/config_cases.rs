//! The configuration's reader, seen as an admin sees it: `tests/config/NAME.toml`, or the `main.toml` of a
//! folder there, and what is expected of it in `NAME.out`. `BLESS=1` writes what came out.
//!
//! The first lines of a case may say `# check: --resolve`, which looks names up in the machine below,
//! `# interfaces: forged`, where one of them takes forged addresses, and `# situation: unprivileged`; `# mode
//! FILE 0664` and `# owner FILE 8` set what the file system would say.

#![allow(clippy::unwrap_used)] // a test that can't go on has failed

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use superd::command::check::describe;
use superd::config::diagnostic::Report;
use superd::config::files::{FileProblem, FileText, Files};
use superd::config::interfaces::{self, InterfaceFacts};
use superd::config::load::load;
use superd::config::resolve::{Lookup, PathFacts, PathKind, System, UserEntry, resolve};
use superd::config::settings::{Config, Resource};
use superd::config::situation::Situation;
use superd::config::wire;
use superd::model::endpoint::Transport;
use superd::roles::loader::load::read_beside;

#[test]
fn every_case_says_what_is_expected() {
    let mut wrong = String::new();
    let cases = cases();
    assert!(cases.len() >= 45, "{} cases", cases.len());
    for case in &cases {
        let (report, config) = case.run();
        let mut got = describe(&case.main, &report, false);
        if let Some(config) = config {
            let _ = writeln!(got, "{:#}", serde_json::to_value(&config).unwrap());
        }
        let out = case.expected();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&out, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&out).unwrap_or_default();
        if got != expected {
            let _ = writeln!(wrong, "--- {}: expected\n{expected}--- but was\n{got}", out.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A case that is named for what is wrong must be refused: a blessed silence would be no test.
#[test]
fn good_cases_are_taken_and_the_others_refused() {
    for case in cases() {
        let (report, _) = case.run();
        let good = case.name.starts_with("good-") || case.name.starts_with("warn-");
        assert_eq!(report.has_errors(), !good, "{}", case.name);
        if case.name.starts_with("good-") {
            assert_eq!(report.counts(), (0, 0), "{}", case.name);
        }
    }
}

/// No input makes the reader panic: cases with bytes changed, cut, doubled and mixed.
#[test]
fn no_input_panics() {
    let cases = cases();
    let mut random = Random(0x5eed);
    for round in 0..10_000 {
        let case = &cases[random.below(cases.len())];
        let mut case = case.clone();
        let bytes = &mut case.files.get_mut(&case.main).unwrap().bytes;
        for _ in 0..=random.below(4) {
            mutate(bytes, &mut random, &cases);
        }
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let result = std::panic::catch_unwind(|| {
            let (report, _) = case.run();
            report.rendered(false).len()
        });
        assert!(result.is_ok(), "round {round} panics with:\n{shown}");
    }
}

/// Nor does depth use up the stack.
#[test]
fn depth_is_no_danger() {
    for deep in [
        format!("a = {}", "[".repeat(200_000)),
        format!("a = {}1{}", "[".repeat(200_000), "]".repeat(200_000)),
        format!("a = {}", "{a=".repeat(200_000)),
        format!("{}a = 1", "a.".repeat(200_000)),
        format!("[{}a]", "service.".repeat(200_000)),
        "[service.a]\n[service.a]\n".repeat(20_000),
        "x = 1\n".repeat(20_000),
        "=\n".repeat(200_000),
    ] {
        assert!(Case::of_text(&deep).run().0.has_errors());
    }
}

#[test]
fn a_configuration_survives_the_wire() {
    for case in cases().iter().filter(|case| case.name.starts_with("good-")) {
        let Some(config) = case.run().1 else { continue };
        let bytes = wire::encode(&config).unwrap();
        let reader = wire::Reader::new(&bytes).unwrap();
        assert_eq!(reader.daemon(), config.daemon());
        assert_eq!(reader.log(), config.log());
        assert_eq!((reader.sets(), reader.hours()), (config.sets(), config.hours()));
        let services: Vec<_> = reader.services().map(|entry| entry.decode().unwrap()).collect();
        assert_eq!(services, config.services());
        for cut in 0..bytes.len() {
            let all = wire::Reader::new(&bytes[..cut]).map(|reader| reader.services().count());
            assert!(all.is_err(), "{} cut at {cut} of {}", case.name, bytes.len());
        }
    }
}

#[test]
fn a_service_that_only_moved_has_the_same_digest() {
    let service = "[service.a]\nlisten = \"tcp:127.0.0.1:79\"\nexec = [\"/bin/cat\"]\nuser = \"nobody\"\nallow = [\"any\"]\n";
    let digest = |text: &str| {
        let config = Case::of_text(text).run().1.unwrap();
        let bytes = wire::encode(&config).unwrap();
        let reader = wire::Reader::new(&bytes).unwrap();
        let entry = reader.services().next().unwrap();
        let service = entry.decode().unwrap();
        assert!(entry.has_its_places(&service));
        assert_eq!(service.access.places().next().unwrap().line, service.place.line + 4);
        (entry.digest, entry.place.line)
    };
    let (first, moved) = (digest(service), digest(&format!("\n\n{service}")));
    assert_eq!((first.0, first.1 + 2), moved);
    assert_ne!(first.0, digest(&format!("{service}nice = 1\n")).0);
}

#[test]
fn the_examples_are_good() {
    for name in ["superd.toml", "demo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name);
        let mut case = Case::of_text(&std::fs::read_to_string(path).unwrap());
        case.resolve = false;
        let (report, _) = case.run();
        assert_eq!(report.counts(), (0, 0), "{name}: {}", report.rendered(false).join("\n"));
    }
}

/// What stands in the example as a comment is good once it is none.
#[test]
fn the_example_is_good_without_its_comment_signs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/superd.toml");
    let is_key = |line: &str| {
        let name = line.split(" = ").next().filter(|_| line.contains(" = "));
        name.is_some_and(|name| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
    };
    let lines = std::fs::read_to_string(path).unwrap();
    let text: Vec<&str> = lines
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with('[') || is_key(rest)).unwrap_or(line)
        })
        .filter(|line| !line.starts_with("include"))
        .collect();
    assert!(text.iter().filter(|line| line.starts_with("[service.")).count() >= 3);
    let (report, _) = Case { resolve: false, ..Case::of_text(&text.join("\n")) }.run();
    assert_eq!(report.counts(), (0, 0), "{}", report.rendered(false).join("\n"));
}

#[test]
fn the_manual_has_the_key_table() {
    use superd::config::manual::{BEGIN, END, reference};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/superd.toml.5");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (part, after) = rest.split_once(END).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    } else {
        assert_eq!(part, reference(), "run this test with BLESS=1");
    }
}

#[derive(Clone)]
struct Case {
    name: String,
    files: BTreeMap<PathBuf, FileText>,
    main: PathBuf,
    resolve: bool,
    forged: bool,
    root: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            cases.push(Case::of_folder(name, &path));
        } else if path.extension().is_some_and(|e| e == "toml") {
            cases.push(Case::new(
                name,
                BTreeMap::from([(PathBuf::from("case.toml"), std::fs::read(&path).unwrap())]),
            ));
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    fn of_text(text: &str) -> Self {
        let mut case = Self::new("text".into(), BTreeMap::from([("case.toml".into(), text.into())]));
        case.resolve = true;
        case
    }

    fn of_folder(name: String, folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut todo = vec![folder.to_owned()];
        while let Some(next) = todo.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    files
                        .insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
                }
            }
        }
        Self::new(name, files)
    }

    fn new(name: String, bytes: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let main = bytes.keys().find(|path| path.as_path() == Path::new("main.toml")).or(bytes.keys().next());
        let main = main.unwrap().clone();
        let head = String::from_utf8_lossy(&bytes[&main]).into_owned();
        let mut files: BTreeMap<PathBuf, FileText> = BTreeMap::new();
        for (id, (path, bytes)) in (0..).zip(bytes) {
            files.insert(path, FileText { bytes, uid: 0, mode: 0o644, id: (1, id) });
        }
        for line in head.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["#", "mode", path, mode] => {
                    files.get_mut(Path::new(path)).unwrap().mode = u32::from_str_radix(mode, 8).unwrap();
                }
                ["#", "owner", path, uid] => {
                    files.get_mut(Path::new(path)).unwrap().uid = uid.parse().unwrap();
                }
                _ => {}
            }
        }
        let says = |option: &str| head.lines().any(|line| line == option);
        let (resolve, root) = (says("# check: --resolve"), !says("# situation: unprivileged"));
        let forged = says("# interfaces: forged");
        Self { name, files, main, resolve, forged, root }
    }

    fn expected(&self) -> PathBuf {
        folder().join(format!("{}.out", self.name))
    }

    fn run(&self) -> (Report, Option<Config>) {
        let environment = BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]);
        let mut situation = Situation { environment, cwd: PathBuf::from("/etc"), ..Situation::of_root() };
        if !self.root {
            situation.root = false;
            situation.uid = 1000;
            situation.runtime_dir = PathBuf::from("/run/user/1000/superd");
            situation.state_dir = PathBuf::from("/home/alice/.local/state/superd");
            situation.hard_limits = BTreeMap::from([(Resource::Nofile, 4096)]);
        }
        let (draft, mut report) = load(&self.main, self, &situation);
        let system = self.resolve.then_some(&TestMachine as &dyn System);
        if let Some(draft) = &draft {
            let _ = read_beside(draft, self, system, &situation, &mut report);
        }
        let config = match draft {
            Some(draft) if self.resolve => {
                let config = resolve(&draft, &TestMachine, &situation, &mut report);
                interfaces::check(&draft, &TestMachine::interfaces(self.forged), &mut report);
                config
            }
            _ => None,
        };
        (report, config)
    }
}

impl Files for Case {
    fn read(&self, path: &Path) -> Result<FileText, FileProblem> {
        let path = lexical(path);
        if let Some(file) = self.files.get(&path) {
            return Ok(file.clone());
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some("fifo.toml") => Err(FileProblem::NotRegular),
            Some("denied.toml") => Err(FileProblem::Failed("Permission denied (os error 13)".into())),
            _ => Err(FileProblem::Missing),
        }
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, FileProblem> {
        let folder = lexical(folder);
        let inside: Vec<String> = self
            .files
            .keys()
            .filter(|path| path.parent() == Some(&folder))
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        if inside.is_empty() { Err(FileProblem::Missing) } else { Ok(inside) }
    }
}

/// `/etc` is where the cases are; `..` is taken away.
fn lexical(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/etc").unwrap_or(path);
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts.into_iter().collect()
}

/// The machine that the cases are looked up on.
struct TestMachine;

impl TestMachine {
    fn interfaces(forged: bool) -> Vec<InterfaceFacts> {
        let row = |name: &str, multicast, addresses: &[&str], broadcasts: &[&str]| InterfaceFacts {
            name: name.to_owned(),
            up: name != "eth1",
            multicast,
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            broadcasts: broadcasts.iter().map(|ip| ip.parse().unwrap()).collect(),
            takes_any_source: forged && name == "tun0",
            takes_source_routes: forged && name == "tun0",
        };
        vec![
            row("lo", false, &["127.0.0.1", "::1"], &[]),
            row("eth0", true, &["192.0.2.7", "2001:db8::7", "fe80::7"], &["192.0.2.255"]),
            row("eth1", true, &[], &[]),
            row("tun0", false, &["198.51.100.1"], &[]),
        ]
    }
}

impl System for TestMachine {
    fn user(&self, name: &str) -> Lookup<UserEntry> {
        let entry = |uid, gid, home: &str| UserEntry {
            name: name.to_owned(),
            uid,
            gid,
            home: home.to_owned(),
            shell: "/bin/sh".to_owned(),
        };
        match name {
            "root" => Ok(Some(entry(0, 0, "/root"))),
            "nobody" => Ok(Some(entry(65534, 65534, "/nonexistent"))),
            "alice" => Ok(Some(entry(1000, 1000, "/home/alice"))),
            "ldap" => Err("Connection refused".into()),
            _ => Ok(None),
        }
    }

    fn uid(&self, uid: u32) -> Lookup<UserEntry> {
        let names = ["root", "nobody", "alice"];
        Ok(names.iter().filter_map(|name| self.user(name).ok().flatten()).find(|user| user.uid == uid))
    }

    fn group(&self, name: &str) -> Lookup<u32> {
        match name {
            "root" => Ok(Some(0)),
            "nogroup" => Ok(Some(65534)),
            "mail" => Ok(Some(8)),
            "ldap" => Err("Connection refused".into()),
            _ => Ok(None),
        }
    }

    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String> {
        Ok(if user == "alice" { vec![8, gid] } else { vec![gid] })
    }

    fn members_of(&self, gid: u32) -> Result<Vec<u32>, String> {
        match gid {
            8 => Ok(vec![1000]),
            636 => Err("Connection refused".into()),
            _ => Ok(Vec::new()),
        }
    }

    fn port(&self, transport: Transport, name: &str) -> Lookup<u16> {
        Ok(match (transport, name) {
            (Transport::Tcp, "finger") => Some(79),
            (Transport::Tcp, "ssh") => Some(22),
            (Transport::Udp, "tftp") => Some(69),
            _ => None,
        })
    }

    fn has_zone(&self, name: &str) -> bool {
        name == "Europe/Warsaw"
    }

    fn path(&self, root: &Path, path: &Path) -> Lookup<PathFacts> {
        let whole = root.join(path.strip_prefix("/").unwrap_or(path));
        let facts = |kind, mode| Ok(Some(PathFacts { kind, mode, uid: 0, gid: 0 }));
        match whole.to_str().unwrap_or_default() {
            "/" | "/run" | "/etc" | "/srv" | "/var/log" | "/srv/jail" | "/srv/jail/data" => {
                facts(PathKind::Directory, 0o755)
            }
            "/bin/cat" | "/srv/jail/bin/inside" => facts(PathKind::File, 0o755),
            "/bin/secret" => facts(PathKind::File, 0o700),
            "/etc/passwd" => facts(PathKind::File, 0o644),
            "/dev/null" => facts(PathKind::Other, 0o666),
            "/stale" => Err("Stale file handle (os error 116)".into()),
            _ => Ok(None),
        }
    }
}

/// xorshift64*: the same inputs in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit.max(1)
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random, cases: &[Case]) {
    const WORDS: &[&str] = &[
        "\"none\"",
        "{",
        "}",
        "[",
        "]]",
        "=",
        "\n",
        "\"",
        "'''",
        "-1",
        "0x",
        "1e999",
        "\\u0000",
        "ü",
        "\0",
        "%",
        "99999999999999999999",
        "nan",
        "true",
        "[service.x]\n",
        "include = [\"*\"]\n",
        ",",
        ".",
        "tcp:[",
        "\u{1F600}",
        "{ soft = 1, hard = 2 }",
    ];
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(24)).min(bytes.len());
    match random.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 => bytes.truncate(at),
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
        }
        3 => {
            let word = WORDS[random.below(WORDS.len())];
            drop(bytes.splice(at..end, word.bytes()));
        }
        4 => {
            let piece: Vec<u8> = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        _ => {
            let other = &cases[random.below(cases.len())];
            let text = &other.files[&other.main].bytes;
            let from = random.below(text.len() + 1);
            let piece = text[from..(from + random.below(200)).min(text.len())].to_vec();
            drop(bytes.splice(at..at, piece));
        }
    }
}
