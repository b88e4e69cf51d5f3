//! Listeners of every kind, as clients and the admin see them: unix sockets and their paths, and machines that
//! lack something.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use harness::{Asker, Start, Superd, needs_program, needs_root, world};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

fn probing(listen: &str, part: &str) -> String {
    format!("[service.x]\nlisten = {listen}\nexec = [\"{{probe}}\", \"{part}\"]\n{{user}}\n")
}

fn waiting(name: &str, listen: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"{listen}\"\nexec = [\"{{waiter}}\", \"datagrams\", \"1\"]\nwait = true\n{{user}}\n"
    )
}

#[test]
fn a_unix_service_knows_its_client() {
    let listen = "unix:{dir}/x.sock";
    let service = format!(
        "[service.x]\nlisten = {{ at = \"{listen}\", mode = \"0666\" }}\nexec = [\"{{probe}}\", \"json\"]\n{{user}}\n"
    );
    let superd = Superd::with(&service);
    let path = superd.dir().join("x.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let mut text = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    let uid = nix::unistd::geteuid().to_string();
    assert_eq!(seen["env"]["PROTO"], "IPC");
    assert_eq!(seen["env"]["IPCREMOTEEUID"], uid);
    superd.expect_log(&format!(
        "start x session={} client=uid:{uid}",
        seen["env"]["SUPERD_SESSION"].as_str().unwrap()
    ));
    drop(superd);
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_has_its_owner() {
    needs_root!();
    let service = "[service.x]\nlisten = { at = \"unix:{dir}/x.sock\", owner = \"nobody\", group = \"nogroup\", mode = \"0600\" }\n\
                   exec = [\"{probe}\", \"hello\"]\n{user}\n";
    let superd = Superd::with(service);
    let metadata = std::fs::metadata(superd.dir().join("x.sock")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65534, 0o600));
}

/// What the probe says to a client of a socket that is no `UnixStream`.
fn probe_of(kind: Type, address: &SockAddr) -> Value {
    let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
    socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    socket.connect(address).unwrap();
    let mut text = Vec::new();
    let mut socket = &socket;
    // A packet is a read: what does not fit is lost.
    let mut packet = vec![0; 65536];
    loop {
        match socket.read(&mut packet).unwrap() {
            0 => break,
            length => text.extend_from_slice(&packet[..length]),
        }
    }
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn packets_are_served_by_a_process_each() {
    let superd = Superd::with(&probing("\"unix-seqpacket:{dir}/x.sock\"", "json"));
    let path = superd.dir().join("x.sock");
    let seen = probe_of(Type::SEQPACKET, &SockAddr::unix(&path).unwrap());
    assert_eq!(seen["env"]["PROTO"], "IPC");
    assert_eq!(seen["env"]["IPCREMOTEEUID"], nix::unistd::geteuid().to_string());
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn abstract_names_have_no_path() {
    let name = format!("superd-test-{}", std::process::id());
    let superd = Superd::with(&probing(&format!("\"unix:@{name}\""), "hello"));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut text = String::new();
    UnixStream::connect_addr(&address).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    assert_eq!(superd.service("x")["listeners"][0]["bound"], format!("@{name}"));
    assert!(!superd.dir().join(format!("@{name}")).exists());
    let (status, errors) = Start::new(&probing(&format!("\"unix:@{name}\""), "hello")).fails();
    assert_eq!(status, Some(1));
    assert!(errors.contains("Address already in use"), "{errors}");
    drop(superd);
    assert!(UnixStream::connect_addr(&address).is_err());
}

/// Starts with a socket in a folder of the test's own, which every superd may use.
fn at(path: &Path, part: &str) -> String {
    probing(&format!("\"unix:{}\"", path.display()), part)
}

fn hello(path: &Path) -> String {
    let mut text = String::new();
    UnixStream::connect(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_stale_path_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let leave: [fn(&Path); 2] =
        [|path| drop(UnixListener::bind(path).unwrap()), |path| drop(UnixDatagram::bind(path).unwrap())];
    for leave in leave {
        leave(&path);
        assert!(path.exists());
        let superd = Superd::with(&at(&path, "hello"));
        assert_eq!(hello(&path), "hello\n");
        superd.stop();
        assert!(!path.exists());
    }
}

#[test]
fn a_path_that_answers_is_refused_with_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let other = UnixListener::bind(&path).unwrap();
    let (status, errors) = Start::new(&at(&path, "hello")).fails();
    assert_eq!(status, Some(1));
    let holder = format!("(held by pid {}, ", std::process::id());
    assert!(errors.contains("Address already in use") && errors.contains(&holder), "{errors}");
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

#[test]
fn a_path_of_another_kind_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [file, link, directory] = ["file", "link", "directory"].map(|name| folder.path().join(name));
    fs::write(&file, "precious").unwrap();
    symlink("nowhere", &link).unwrap();
    fs::create_dir(&directory).unwrap();
    for (path, why) in [
        (&file, "is there already, and is no socket"),
        (&link, "there is a file of another kind"),
        (&directory, "is there already, and is no socket"),
    ] {
        let (status, errors) = Start::new(&at(path, "hello")).fails();
        assert_eq!(status, Some(1));
        assert!(errors.contains(why), "{errors}");
        assert!(path.symlink_metadata().is_ok());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_path_stays_over_a_reload_and_takes_its_new_rights() {
    let with = |rights: &str| probing(&format!("{{ at = \"unix:{{dir}}/x.sock\", {rights} }}"), "hello");
    let superd = Superd::with(&with("mode = \"0600\""));
    let path = superd.dir().join("x.sock");
    let inode = fs::metadata(&path).unwrap().ino();
    let mut rows = vec![("mode = \"0660\"", 0o660, None), ("mode = \"0600\"", 0o600, None)];
    if harness::is_root() {
        rows.push(("owner = \"nobody\", mode = \"0620\"", 0o620, Some(65534)));
        rows.push(("owner = \"root\", mode = \"0666\"", 0o666, Some(0)));
    }
    for (rights, mode, owner) in rows {
        let report = superd.reload_with(&with(rights));
        assert_eq!(report["changed"], json!(["x"]), "{rights}");
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.ino(), found.mode() & 0o7777), (inode, mode), "{rights}");
        assert!(owner.is_none_or(|owner| found.uid() == owner), "{rights}");
        assert_eq!(hello(&path), "hello\n");
    }
    superd.reload_with("");
    assert!(!path.exists());
}

#[test]
fn a_path_that_became_anothers_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let superd = Superd::with(&at(&path, "hello"));
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    superd.stop();
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

#[test]
fn a_machine_without_ipv6_serves_datagrams() {
    needs_program!("python3");
    let superd = Start::new(&waiting("x", "udp:0")).behind(&world::WITHOUT_IPV6).start();
    let service = superd.service("x");
    assert_eq!(service["state"], "online", "{service}");
    assert_eq!(service["listeners"].as_array().unwrap().len(), 1, "{service}");
    Asker::of(superd.address("x")).ask("hello");
}

#[test]
fn a_machine_without_its_tables_serves_numbers() {
    needs_root!();
    world::own_mounts();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("etc");
    world::run(&["cp", "-a", "/etc", copy.to_str().unwrap()]);
    for table in ["services", "protocols"] {
        let _ = fs::remove_file(copy.join(table));
    }
    world::run(&["mount", "--bind", copy.to_str().unwrap(), "/etc"]);
    let config = waiting("x", "udp4:127.0.0.1:0") + &waiting("y", "unix-dgram:{dir}/y.sock");
    let superd = Superd::with(&config);
    Asker::of(superd.address("x")).ask("hello");
    Asker::at(&superd.dir().join("y.sock"), &superd.dir().join("own.sock")).ask("hello");
    superd.allow_errors("can't be looked up");
    superd.rewrite(&waiting("x", "udp4:127.0.0.1:tftp"));
    let errors = superd.reload().unwrap_err().join("\n");
    assert!(errors.contains("tftp"), "{errors}");
}
