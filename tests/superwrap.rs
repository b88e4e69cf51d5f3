//! superwrap as its admin has it: in front of a command, behind a super-server, under another name. Seen from outside:
//! what is run, what is sent, what is logged, what it ends with.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use harness::dns::{NameServer, Says, own_resolver};
use harness::inbox::Inbox;
use harness::world::{own_mounts, own_network, run};
use harness::{Client, DEADLINE, Superd, machine, needs_program, needs_root};
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A folder with a policy, its state file and its log.
struct World {
    folder: TempDir,
    log: Inbox,
}

impl World {
    /// With services like `[service.x]`.
    fn new(services: &str) -> Self {
        Self::with("", services)
    }

    /// With more keys for `[wrap]`.
    fn with(wrap: &str, services: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let log = Inbox::open(&folder.path().join("log"));
        let world = Self { folder, log };
        let (socket, state) = (world.path("log"), world.path("state"));
        let (socket, state) = (socket.display(), state.display());
        let text = format!("[log]\nsocket = \"{socket}\"\n[wrap]\nstate = \"{state}\"\n{wrap}\n{services}\n");
        fs::write(world.path("policy"), text).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// superwrap with this world's policy, as the service.
    fn wrap(&self, service: &str, program: &[&str]) -> Command {
        let mut command = Command::new(machine::built("superwrap"));
        command.arg("--policy").arg(self.path("policy")).args(["--service", service]).args(program);
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn expect(&self, part: &str) -> String {
        self.log.expect(part, |line| line.contains(part))
    }

    /// The text of all lines, without priority and pid.
    fn lines(&self) -> Vec<String> {
        self.log.settle();
        let text = |line: String| line.split_once("]: ").map_or(line.clone(), |(_, text)| text.to_owned());
        self.log.messages().into_iter().map(text).collect()
    }
}

/// A connection within this machine: the client's end, and the other.
fn connected(from: [u8; 4]) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect_from(from, listener.local_addr().unwrap());
    (client, listener.accept().unwrap().0)
}

fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(from), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn text_of(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// As inetd has it: the connection is input, output and error.
fn behind(connection: impl Into<OwnedFd>, command: &mut Command) -> Child {
    let fd = connection.into();
    let copy = || Stdio::from(fd.try_clone().unwrap());
    let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
    // The command would keep its copies open, and the client would never see an end.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn without_a_socket_the_user_and_the_time_decide() {
    let own = nix::unistd::getuid();
    let world = World::new(&format!(
        "[hours]\nalways = [\"00:00-24:00\"]\n\
         [service.open]\n[service.mine]\nusers = [\"uid:{own}\"]\n[service.theirs]\nusers = [\"uid:4711\"]\n\
         [service.now]\nhours = \"always\"\n\
         [service.net]\nallow = [\"127.0.0.0/8\"]\n[service.unix]\nallow = [\"unix\"]\n\
         [service.rules]\notherwise = \"allow\"\n[[service.rules.rule]]\nusers = [\"uid:{own}\"]\naction = \"deny\"\n\
         [service.root-group]\nusers = [\"gid:{}\"]\n",
        nix::unistd::getgid(),
    ));
    for (service, reason) in [
        ("open", None),
        ("mine", None),
        ("theirs", Some("user")),
        ("now", None),
        ("net", Some("address")),
        ("unix", None),
        ("rules", Some("user")),
        ("root-group", None),
        ("nowhere", Some("undecided")),
    ] {
        let output = world.wrap(service, &["echo", "served"]).output().unwrap();
        let served = String::from_utf8_lossy(&output.stdout) == "served\n";
        assert_eq!((served, status(&output)), (reason.is_none(), i32::from(reason.is_some())), "{service}");
        let line = match reason {
            None => format!("start {service} session="),
            Some(reason) => format!("refuse {service} client=uid:{own} reason={reason}"),
        };
        let line = world.expect(&line);
        let priority = if reason.is_none() { "<30>superwrap[" } else { "<29>superwrap[" };
        assert!(line.starts_with(priority), "{line}");
    }
    world.expect("nowhere: ");
}

#[test]
fn a_connection_is_judged_by_its_address_and_its_user() {
    let own = nix::unistd::getuid();
    let world = World::new(&format!(
        "[service.near]\nallow = [\"127.0.0.1\"]\nbanner = {{ refuse = \"go away\\n\", accept = \"welcome\\n\" }}\n\
         [service.not-two]\ndeny = [\"127.0.0.2\"]\n[service.mine]\nusers = [\"uid:{own}\"]\n\
         [service.theirs]\nusers = [\"uid:4711\"]\n[service.local]\nallow = [\"local\"]\n\
         [service.set]\nallow = [\"@few\"]\n[sets]\nfew = [\"127.0.0.2/31\"]\nother = {{ files = [\"/nowhere\"] }}\n",
    ));
    for (service, from, expected) in [
        ("near", [127, 0, 0, 1], "welcome\nserved\n"),
        ("near", [127, 0, 0, 2], "go away\n"),
        ("not-two", [127, 0, 0, 1], "served\n"),
        ("not-two", [127, 0, 0, 2], ""),
        ("mine", [127, 0, 0, 3], "served\n"),
        ("theirs", [127, 0, 0, 3], ""),
        ("local", [127, 9, 9, 9], "served\n"),
        ("set", [127, 0, 0, 3], "served\n"),
        ("set", [127, 0, 0, 4], ""),
    ] {
        let (mut client, accepted) = connected(from);
        if expected == "go away\n" {
            // Unread, it would make a reset of the end, and the banner would be lost.
            client.write_all(b"what nobody reads").unwrap();
        }
        let mut child = behind(accepted, &mut world.wrap(service, &["echo", "served"]));
        assert_eq!(text_of(&mut client), expected, "{service} {from:?}");
        child.wait().unwrap();
        let verdict = if expected.ends_with("served\n") { "start" } else { "refuse" };
        let line = world.expect(&format!("client={}", client.local_addr().unwrap()));
        assert!(line.contains(&format!("]: {verdict} {service} ")), "{line}");
        if (service, verdict) == ("mine", "start") {
            assert!(line.ends_with(&format!(" user=uid:{own}")), "{line}");
        }
    }
}

#[test]
fn unix_sockets_and_datagrams_have_clients() {
    let own = nix::unistd::getuid();
    let world = World::new(&format!(
        "[service.mine]\nusers = [\"uid:{own}\"]\n[service.theirs]\nusers = [\"uid:4711\"]\n\
         [service.near]\nallow = [\"127.0.0.1\"]\n[service.far]\nallow = [\"192.0.2.1\"]\n"
    ));
    for (service, expected) in [("mine", "served\n"), ("theirs", "")] {
        let (mut client, theirs) = UnixStream::pair().unwrap();
        behind(theirs, &mut world.wrap(service, &["echo", "served"])).wait().unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected, "{service}");
    }
    for (service, served) in [("near", true), ("far", false)] {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
        let mut command = world.wrap(service, &["head", "-c", "5"]);
        let output = command.stdin(OwnedFd::from(server.try_clone().unwrap())).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), if served { "hello" } else { "" });
        // Whether served or refused, the datagram is gone, or inetd would start over and over.
        server.set_nonblocking(true).unwrap();
        assert!(server.recv(&mut [0; 9]).is_err(), "{service}");
        let verdict = if served { "start" } else { "refuse" };
        world.expect(&format!("{verdict} {service} "));
        assert!(world.lines().iter().any(|line| line.contains(&client.local_addr().unwrap().to_string())));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = world.wrap("near", &["echo"]).stdin(OwnedFd::from(listener)).output().unwrap();
    assert!(status(&output) == 1 && String::from_utf8_lossy(&output.stderr).contains("listens"));
}

#[test]
fn the_program_finds_what_a_shell_would_leave_it() {
    let world = World::new("[service.x]\n");
    let script = "cat /proc/self/timers; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd | wc -l; echo $LEFT";
    let direct =
        Command::new("sh").args(["-c", script]).env("LEFT", "over").stdin(Stdio::null()).output().unwrap();
    let wrapped = world.wrap("x", &["sh", "-c", script]).env("LEFT", "over").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&wrapped.stdout), String::from_utf8_lossy(&direct.stdout));
    for (program, expected) in
        [("/nowhere", 127), ("nowhere-by-path", 127), ("/etc/passwd", 126), ("/bin", 126)]
    {
        let output = world.wrap("x", &[program]).output().unwrap();
        assert_eq!(status(&output), expected, "{program}: {output:?}");
        world.expect("launch-failed x session=");
    }
    let output = world.wrap("x", &["sh", "-c", "exit 42"]).output().unwrap();
    assert_eq!(status(&output), 42);
    for arguments in [&["--frob"][..], &[], &["--policy"]] {
        let output = Command::new(machine::built("superwrap")).args(arguments).output().unwrap();
        assert_eq!(status(&output), 2);
    }
}

#[test]
fn a_wrong_policy_refuses_everybody() {
    for (text, why) in [
        ("[service.x]\nlisten = \"tcp:79\"\n", "`listen` of a service can't hold in a policy"),
        ("[service.x]\nexec = [\"/bin/true\"]\n", "`exec` of a service can't hold in a policy"),
        ("[service.x]\nlimits = { connections = 5 }\n", "`limits.connections` of a service can't hold"),
        ("[service.x]\nallow = [\"@nothing\"]\n", "nothing"),
        ("[service.x]\nusers = [\"nobody-of-that-name\"]\n", "nobody-of-that-name"),
        ("[service.x]\nallow = [\"192.0.2.1/24\"]\n", "has bits set below its mask"),
        ("[service.x]\nhosts_access = { allow = \"/nowhere\" }\n", "/nowhere"),
        ("[daemon]\nmax_sessions = 3\n[service.x]\n", "`max_sessions` of [daemon] can't hold"),
        ("[service.x\n", ""),
    ] {
        let world = World::new(text);
        let output = world.wrap("x", &["echo", "served"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((status(&output), output.stdout.len()), (1, 0), "{text}");
        assert!(error.contains(why) && error.contains("x is refused: undecided"), "{text}: {error}");
        let checked = Command::new(machine::built("superd"))
            .args(["check", "--resolve", "--policy"])
            .arg(world.path("policy"))
            .output()
            .unwrap();
        assert_eq!(status(&checked), 1, "{text}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    let world = World::new("[service.x]\nallow = [\"127.0.0.1\"]\n");
    let checked = Command::new(machine::built("superd"))
        .args(["check", "--resolve", "--policy"])
        .arg(world.path("policy"))
        .output()
        .unwrap();
    assert_eq!((status(&checked), checked.stderr), (0, Vec::new()));
}

#[test]
fn hosts_files_say_who_and_what_is_done() {
    let world = World::new("[service.in-echo]\nhosts_access = { allow = \"allow\", deny = \"deny\" }\n");
    let mark = world.path("spawned");
    world.file("banners/in.echo", "hello %a\nfrom %d 100%%\n");
    world.file(
        "allow",
        &format!(
            "in.echo: 127.0.0.1: setenv WHO %a: umask 027: spawn echo %d %a >> {}\n\
             in.echo: 127.0.0.2: severity local3.debug: twist echo twisted %a\n\
             in.echo: 127.0.0.3: banners {}: deny\n",
            mark.display(),
            world.path("banners").display()
        ),
    );
    world.file("deny", "ALL: 127.0.0.0/255.0.0.0\n");
    for (last, expected, line) in [
        (1, "served 127.0.0.1 0027\n".to_owned(), "<30>superwrap"),
        (2, "twisted 127.0.0.2\n".to_owned(), "<159>superwrap"),
        (3, "hello 127.0.0.3\r\nfrom in.echo 100%\r\n".to_owned(), "allow:3"),
        (4, String::new(), "reason=address rule="),
    ] {
        let (mut client, accepted) = connected([127, 0, 0, last]);
        let mut command = world.wrap("in.echo", &["sh", "-c", "echo served $WHO $(umask)"]);
        // Debug lines are below the level of the log.
        let policy = fs::read_to_string(world.path("policy")).unwrap();
        if !policy.contains("level") {
            fs::write(world.path("policy"), policy.replace("[log]", "[log]\nlevel = \"debug\"")).unwrap();
        }
        behind(accepted, &mut command).wait().unwrap();
        assert_eq!(text_of(&mut client), expected, "{last}");
        let found = world.expect(&format!("client={}", client.local_addr().unwrap()));
        assert!(found.contains(line), "{found}");
    }
    assert_eq!(fs::read_to_string(mark).unwrap(), "in.echo 127.0.0.1\n");
}

#[test]
fn options_take_another_user_before_the_program_runs() {
    needs_root!();
    let world = World::new("[service.x]\nhosts_access = { allow = \"allow\", deny = \"deny\" }\n");
    world.file("deny", "ALL: ALL\n");
    world.file("allow", "x: ALL: user nobody: spawn id -u > /dev/null\n");
    let (mut client, accepted) = connected([127, 0, 0, 1]);
    behind(accepted, &mut world.wrap("x", &["sh", "-c", "id -u; id -G"])).wait().unwrap();
    assert_eq!(text_of(&mut client), "65534\n65534\n");
}

#[test]
fn a_link_is_the_program_of_its_name() {
    let world = World::new("[service.x]\n");
    let programs = world.path("real");
    fs::create_dir(&programs).unwrap();
    world.file("real/in.hello", "#!/bin/sh\necho $0 $*\n");
    fs::set_permissions(world.path("real/in.hello"), fs::Permissions::from_mode(0o755)).unwrap();
    let link = |name: &str| {
        symlink(machine::built("superwrap"), world.path(name)).unwrap();
        world.path(name)
    };
    needs_root!();
    let policy = format!(
        "[log]\nsocket = {:?}\n[wrap]\nprograms = {programs:?}\n[service.in-hello]\n[service.in-loop]\n",
        world.path("log")
    );
    own_etc(&world, &[("superwrap.toml", &policy)]);
    let output = Command::new(link("in.hello")).args(["a", "b"]).stdin(Stdio::null()).output().unwrap();
    let expected = format!("{}/in.hello a b\n", programs.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    // As a line of inetd.conf: superwrap's path, and the program's as argv[0].
    let mut by_path = Command::new(machine::built("superwrap"));
    let output = by_path.arg0(world.path("real/in.hello")).arg("c").stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}/in.hello c\n", programs.display()));
    symlink(machine::built("superwrap"), programs.join("in.loop")).unwrap();
    let output = Command::new(link("in.loop")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(status(&output), 127, "superwrap again is no program: {output:?}");
}

/// A copy of /etc for this thread and what it starts, with these files in place of others; without superwrap's.
fn own_etc(world: &World, files: &[(&str, &str)]) {
    own_mounts();
    let copy = world.path("etc");
    run(&["cp", "-a", "/etc", copy.to_str().unwrap()]);
    for name in ["superwrap.toml", "hosts.allow", "hosts.deny"] {
        let _ = fs::remove_file(copy.join(name));
    }
    for (name, text) in files {
        fs::write(copy.join(name), text).unwrap();
    }
    run(&["mount", "--bind", copy.to_str().unwrap(), "/etc"]);
}

#[test]
fn without_a_policy_the_hosts_files_decide() {
    needs_root!();
    let world = World::new("");
    own_etc(&world, &[("hosts.allow", "echo: 127.0.0.1\n"), ("hosts.deny", "ALL: 127.0.0.0/255.0.0.0\n")]);
    for (last, expected) in [(1, "served\n"), (2, "")] {
        let (mut client, accepted) = connected([127, 0, 0, last]);
        let mut command = Command::new(machine::built("superwrap"));
        behind(accepted, command.args(["echo", "served"])).wait().unwrap();
        assert_eq!(text_of(&mut client), expected);
    }
    fs::remove_file("/etc/hosts.deny").unwrap();
    fs::remove_file("/etc/hosts.allow").unwrap();
    let (mut client, accepted) = connected([127, 0, 0, 2]);
    behind(accepted, Command::new(machine::built("superwrap")).args(["echo", "served"])).wait().unwrap();
    assert_eq!(text_of(&mut client), "served\n");
    fs::write("/etc/hosts.deny", "no colon\n").unwrap();
    let (mut client, accepted) = connected([127, 0, 0, 2]);
    behind(accepted, Command::new(machine::built("superwrap")).args(["echo", "served"])).wait().unwrap();
    assert_eq!(text_of(&mut client), "");
}

#[test]
fn exactly_a_burst_passes_however_many_come_at_once() {
    let world =
        World::new("[service.x]\nlimits = { rate = \"1/h burst 10\" }\nbanner = { busy = \"busy\\n\" }\n");
    let children: Vec<Child> =
        (0..64).map(|_| world.wrap("x", &["true"]).stderr(Stdio::null()).spawn().unwrap()).collect();
    let passed = children.into_iter().map(|mut child| child.wait().unwrap()).filter(ExitStatus::success);
    assert_eq!(passed.count(), 10);
    assert_eq!(
        world
            .lines()
            .iter()
            .filter(|line| line.starts_with("refuse x ") && line.contains("reason=rate rule="))
            .count(),
        54
    );
    let (mut client, accepted) = connected([127, 0, 0, 1]);
    behind(accepted, &mut world.wrap("x", &["true"])).wait().unwrap();
    assert_eq!(text_of(&mut client), "busy\n");
    let mode = fs::metadata(world.path("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn sources_have_rates_of_their_own() {
    let world = World::new(
        "[service.x]\nlimits = { rate_per_source = \"1/h burst 2\" }\n[service.y]\nlimits = { rate_per_source = \"1/h burst 2\" }\n",
    );
    for (service, last, served) in
        [("x", 1, true), ("x", 1, true), ("x", 1, false), ("x", 2, true), ("y", 1, true), ("x", 1, false)]
    {
        let (mut client, accepted) = connected([127, 0, 0, last]);
        behind(accepted, &mut world.wrap(service, &["echo", "served"])).wait().unwrap();
        assert_eq!(text_of(&mut client) == "served\n", served, "{service} {last}");
    }
}

#[test]
fn who_dies_in_the_middle_locks_nobody_out() {
    let world = World::new("[service.x]\nlimits = { rate = \"1000000/s burst 1000000\" }\n");
    let quiet = || {
        let mut command = world.wrap("x", &["true"]);
        command.stderr(Stdio::null());
        command
    };
    assert!(quiet().status().unwrap().success());
    for round in 0..200_u64 {
        let mut child = quiet().spawn().unwrap();
        // Each round ends it at another moment of its life.
        let until = Instant::now() + Duration::from_micros(round * 40);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(quiet().status().unwrap().success());
    let head = fs::read(world.path("state")).unwrap();
    assert!(head.starts_with(b"superwrap 1\n"));
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let services = "[service.x]\nlimits = { rate = \"10/s\" }\n[service.open]\n";
    for (what, make) in [
        ("a folder", &(|path: &Path| fs::create_dir(path).unwrap()) as &dyn Fn(&Path)),
        ("a link", &|path| symlink("/dev/null", path).unwrap()),
        ("another file", &|path| fs::write(path, "x".repeat(600_000)).unwrap()),
        ("everybody's", &|path| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ] {
        let world = World::new(services);
        make(&world.path("state"));
        let output = world.wrap("x", &["echo"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(status(&output) == 1 && error.contains("can't count in"), "{what}: {error}");
        assert_eq!(status(&world.wrap("open", &["true"]).output().unwrap()), 0, "{what}");
    }
}

#[test]
fn the_deadline_covers_whatever_hangs() {
    let world = World::with("deadline = \"1s\"", "[service.x]\nlimits = { rate = \"10/s\" }\n");
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(world.path("state")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let begin = Instant::now();
    let (mut client, accepted) = connected([127, 0, 0, 1]);
    let mut child = behind(accepted, &mut world.wrap("x", &["echo", "served"]));
    assert_eq!(text_of(&mut client), "");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(begin.elapsed() >= Duration::from_millis(900) && begin.elapsed() < DEADLINE);
    let own = client.local_addr().unwrap();
    assert!(world.expect("refuse x ").ends_with(&format!("refuse x client={own} reason=undecided")));
    drop(lock);
    let (mut client, accepted) = connected([127, 0, 0, 1]);
    // What is in the lock's file is empty: it is made a state file.
    behind(accepted, &mut world.wrap("x", &["echo", "served"])).wait().unwrap();
    assert_eq!(text_of(&mut client), "served\n");
}

#[test]
fn a_dead_name_service_holds_nobody_longer_than_the_deadline() {
    needs_root!();
    let world = World::with(
        "deadline = \"1s\"",
        "[service.x]\nallow = [\".example.org\"]\n[service.y]\ndeny = [\".example.org\"]\n\
         [service.z]\nallow = [\"127.0.0.1\", \".example.org\"]\n",
    );
    own_network();
    own_mounts();
    let _server = NameServer::start(|_, _| Says::Nothing);
    own_resolver(world.folder.path(), "options timeout:30 attempts:5", "");
    for (service, expected) in [("x", ""), ("y", ""), ("z", "served\n")] {
        let begin = Instant::now();
        let (mut client, accepted) = connected([127, 0, 0, 1]);
        behind(accepted, &mut world.wrap(service, &["echo", "served"])).wait().unwrap();
        assert_eq!(text_of(&mut client), expected);
        assert!(begin.elapsed() < DEADLINE);
    }
    for line in world.lines().iter().filter(|line| line.starts_with("refuse")) {
        assert!(line.contains("reason=undecided") && line.ends_with("naming=failed"), "{line}");
    }
}

#[test]
fn names_are_confirmed() {
    needs_root!();
    let world = World::new(
        "[service.x]\nallow = [\".example.org\"]\n[service.hosts]\nhosts_access = { allow = \"allow\", deny = \"deny\" }\n",
    );
    world.file("allow", "hosts: .example.org\n");
    world.file("deny", "ALL: ALL\n");
    own_network();
    own_mounts();
    let _server = NameServer::start(|_, _| Says::NoName);
    own_resolver(world.folder.path(), "", "127.0.0.1 a.example.org\n127.0.0.2 b.example.net\n");
    for service in ["x", "hosts"] {
        for (last, expected) in [(1, "served\n"), (2, ""), (3, "")] {
            let (mut client, accepted) = connected([127, 0, 0, last]);
            behind(accepted, &mut world.wrap(service, &["echo", "served"])).wait().unwrap();
            assert_eq!(text_of(&mut client), expected, "{service} {last}");
            let line = world.expect(&format!("client={}", client.local_addr().unwrap()));
            assert!(expected.is_empty() || line.ends_with(" name=a.example.org"), "{line}");
        }
    }
}

/// superwrap, installed so that it lends rights.
fn lending(world: &World, mode: u32) -> PathBuf {
    let path = world.path("bin/superwrap");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // By another process: a descriptor of ours that writes to it would be in what other tests start (ETXTBSY).
    let copied = Command::new("cp").arg(machine::built("superwrap")).arg(&path).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn with_lent_rights_nothing_of_the_caller_is_believed() {
    needs_root!();
    let world = World::new("[service.sh]\n[service.id]\n");
    let policy = format!(
        "[log]\nsocket = {:?}\n[wrap]\nstate = {:?}\n[hours]\nnoon = [\"12:00-12:01\"]\n\
         [service.id]\nusers = [\"uid:{NOBODY}\"]\nlimits = {{ rate = \"1/h burst 3\" }}\n\
         [service.env]\nusers = [\"uid:{NOBODY}\"]\n[service.sh]\nusers = [\"uid:0\"]\n",
        world.path("log"),
        world.path("counted"),
    );
    own_etc(&world, &[("superwrap.toml", &policy)]);
    for mode in [0o4755, 0o2755] {
        let binary = lending(&world, mode);
        if mode == 0o2755 {
            // The state is the group's.
            std::os::unix::fs::chown(world.path("counted"), Some(0), Some(0)).unwrap();
            fs::set_permissions(world.path("counted"), fs::Permissions::from_mode(0o660)).unwrap();
        }
        let caller = || {
            let mut command = Command::new(&binary);
            command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).current_dir("/");
            command
        };
        let own = world.path("policy");
        for option in [
            &["--policy", own.to_str().unwrap(), "sh"][..],
            &["--service", "id", "sh"],
            &["--state=/tmp/x", "id"],
        ] {
            let output = caller().args(option).output().unwrap();
            assert_eq!(status(&output), 2, "{option:?}");
        }
        let output = caller().args(["sh", "-c", "echo served"]).output().unwrap();
        assert_eq!((status(&output), output.stdout.len()), (1, 0), "the real user is judged");
        let output = caller().args(["id"]).env("PATH", "/nowhere").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n", "{output:?}");
        // The program has the caller's environment all the same.
        let output = caller().args(["env"]).env_clear().env("MINE", "yes").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "MINE=yes\n");
    }
    let output = Command::new(world.path("bin/superwrap")).arg("id").stdin(Stdio::null()).output().unwrap();
    assert_eq!(status(&output), 1, "root is not that user");
}

#[test]
fn a_policy_that_others_can_write_is_none() {
    needs_root!();
    let world = World::new("[service.x]\n");
    fs::set_permissions(world.path("policy"), fs::Permissions::from_mode(0o666)).unwrap();
    let output = world.wrap("x", &["true"]).output().unwrap();
    assert!(status(&output) == 1 && String::from_utf8_lossy(&output.stderr).contains("can't be trusted"));
}

/// What a client gets: what the program says, or nothing.
const ANSWER: &str = "served\n";

#[test]
fn the_daemon_and_superwrap_give_one_answer() {
    let own = nix::unistd::getuid();
    let services = [
        ("open", String::new()),
        ("one", "allow = [\"127.0.0.1\"]\n".to_owned()),
        ("not-one", "deny = [\"127.0.0.1\"]\n".to_owned()),
        ("both", "allow = [\"127.0.0.0/30\"]\ndeny = [\"127.0.0.2\"]\n".to_owned()),
        ("set", "allow = [\"@few\"]\n".to_owned()),
        ("local", "allow = [\"local\"]\n".to_owned()),
        ("mine", format!("users = [\"uid:{own}\"]\n")),
        ("theirs", "users = [\"uid:4711\"]\n".to_owned()),
        ("always", "hours = \"always\"\n".to_owned()),
        (
            "rules",
            format!(
                "otherwise = \"deny\"\n[[service.rules.rule]]\nfrom = [\"127.0.0.2\"]\naction = \"deny\"\n\
                 [[service.rules.rule]]\nusers = [\"uid:{own}\"]\nfrom = [\"127.0.0.0/31\", \"127.0.0.2\"]\naction = \"allow\"\n"
            ),
        ),
    ];
    let names = "[sets]\nfew = [\"127.0.0.2/31\"]\n[hours]\nalways = [\"00:00-24:00\"]\n";
    let policy: Vec<String> =
        services.iter().map(|(name, rules)| format!("[service.{name}]\n{rules}")).collect();
    let policy = policy.concat();
    let world = World::new(&format!("{names}{policy}"));
    let daemon: Vec<String> = services
        .iter()
        .map(|(name, rules)| {
            format!(
                "[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"/bin/echo\", \"served\"]\n{{user}}\n{rules}"
            )
        })
        .collect();
    let superd = Superd::with(&format!("{names}{}", daemon.concat()));
    let mut answers = Vec::new();
    for (name, _) in &services {
        for last in 1..=3 {
            let mut client = connect_from([127, 0, 0, last], superd.address(name));
            let mut from_daemon = Vec::new();
            // A client that is refused may see a reset.
            let _ = client.read_to_end(&mut from_daemon);
            let (mut client, accepted) = connected([127, 0, 0, last]);
            behind(accepted, &mut world.wrap(name, &["echo", "served"])).wait().unwrap();
            let wrapped = text_of(&mut client);
            assert_eq!(wrapped.as_bytes(), from_daemon, "{name} 127.0.0.{last}");
            answers.push(wrapped == ANSWER);
        }
    }
    assert_eq!(answers.len(), 30);
    assert!(answers.iter().filter(|served| **served).count() > 10 && answers.contains(&false));
}

#[test]
fn behind_superd_it_judges_the_same_client() {
    let world = World::new("[service.x]\nallow = [\"127.0.0.1\"]\nbanner = { refuse = \"no\\n\" }\n");
    let superd = Superd::with(&format!(
        "[service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [{:?}, \"--policy\", {:?}, \"--service\", \"x\", \"echo\", \"served\"]\n{{user}}\n",
        machine::built("superwrap"),
        world.path("policy"),
    ));
    for (last, expected) in [(1, "served\n"), (2, "no\n")] {
        let mut client = Client { stream: connect_from([127, 0, 0, last], superd.address("x")) };
        assert_eq!(client.read_text(), expected);
    }
    superd.until_idle();
}

#[test]
fn behind_xinetd_it_judges_the_same_client() {
    needs_root!();
    needs_program!("xinetd");
    let world = World::new("[service.x]\nallow = [\"127.0.0.1\"]\nbanner = { refuse = \"no\\n\" }\n");
    let port = harness::world::free_port();
    let config = world.file(
        "xinetd.conf",
        &format!(
            "service x\n{{\ntype = UNLISTED\nsocket_type = stream\nprotocol = tcp\nbind = 127.0.0.1\nport = {port}\n\
             wait = no\nuser = root\nserver = {}\nserver_args = --policy {} --service x echo served\n}}\n",
            machine::built("superwrap").display(),
            world.path("policy").display(),
        ),
    );
    let pid_file = world.path("xinetd.pid");
    let mut xinetd = Command::new(machine::find("xinetd").unwrap())
        .arg("-dontfork")
        .arg("-f")
        .arg(config)
        .arg("-pidfile")
        .arg(pid_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    harness::until("xinetd", || TcpStream::connect(address).ok());
    for (last, expected) in [(1, "served\n"), (2, "no\n")] {
        let mut client = connect_from([127, 0, 0, last], address);
        assert_eq!(text_of(&mut client), expected);
    }
    xinetd.kill().unwrap();
    xinetd.wait().unwrap();
}
