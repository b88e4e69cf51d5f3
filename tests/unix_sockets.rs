//! Paths of unix sockets: whose they are from the first moment on, which are taken over, which are removed.
#![allow(clippy::unwrap_used)] // a test that can't go on ends

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use superd::config::settings::SocketOptions;
use superd::model::endpoint::{Endpoint, UnixEndpoint, UnixKind, UnixName};
use superd::supervisor::bind::{
    BindError, identify_path, open_listener, open_passed, remove_path, set_path_rights,
};
use superd::sys::kind::SocketKind;
use superd::sys::passed::Passed;
use tempfile::TempDir;

const KINDS: [UnixKind; 3] = [UnixKind::Stream, UnixKind::Datagram, UnixKind::SeqPacket];

fn at(path: &Path, kind: UnixKind, mode: u32) -> UnixEndpoint {
    UnixEndpoint { kind, name: UnixName::Path(path.to_owned()), owner: None, group: None, mode }
}

fn open(endpoint: &UnixEndpoint) -> Result<OwnedFd, BindError> {
    open_listener(&Endpoint::Unix(endpoint.clone()), &SocketOptions::default(), false)
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Whoever looks, again and again, sees no path or the right one.
fn check_first_moment(endpoint: &UnixEndpoint, expected: (u32, u32, u32)) {
    let UnixName::Path(path) = &endpoint.name else { panic!("a path") };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                if let Ok(found) = fs::symlink_metadata(path) {
                    let rights = (found.uid(), found.gid(), found.mode() & 0o7777);
                    assert_eq!(rights, expected, "{endpoint}: {:o}", found.mode());
                    seen += 1;
                }
            }
            seen
        });
        // Often enough for the watcher to see some of them young; it ends the loop by having seen many.
        for _ in 0..2000 {
            drop(open(endpoint).unwrap());
            fs::remove_file(path).unwrap();
        }
        let last = open(endpoint).unwrap();
        while fs::symlink_metadata(path).is_err() {}
        done.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        assert!(seen > 0, "{endpoint}: the watcher saw nothing");
        drop(last);
    });
    fs::remove_file(path).unwrap();
}

#[test]
fn a_path_has_its_mode_from_the_first_moment() {
    let folder = folder();
    let path = folder.path().join("x.sock");
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for (kind, mode) in KINDS.into_iter().zip([0o666, 0o600, 0o620]) {
        check_first_moment(&at(&path, kind, mode), (own.0, own.1, mode));
    }
}

#[test]
fn a_path_has_its_owner_from_the_first_moment() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let folder = folder();
    let path = folder.path().join("x.sock");
    for kind in KINDS {
        let endpoint = UnixEndpoint { owner: Some(4711), group: Some(4712), ..at(&path, kind, 0o660) };
        check_first_moment(&endpoint, (4711, 4712, 0o660));
        let endpoint = UnixEndpoint { group: Some(4712), ..at(&path, kind, 0o660) };
        check_first_moment(&endpoint, (0, 4712, 0o660));
    }
    // What was taken for the bind is given back.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(file.metadata().unwrap().uid(), 0);
    assert_eq!(file.metadata().unwrap().gid(), 0);
}

/// A set-group-ID directory gives its own group: the mode follows once that is put right.
#[test]
fn a_directory_with_its_own_will_is_overruled() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let folder = folder();
    std::os::unix::fs::chown(folder.path(), None, Some(99)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    let path = folder.path().join("x.sock");
    let endpoint = UnixEndpoint { group: Some(4712), ..at(&path, UnixKind::Stream, 0o660) };
    let _listener = open(&endpoint).unwrap();
    let found = path.symlink_metadata().unwrap();
    assert_eq!((found.gid(), found.mode() & 0o7777), (4712, 0o660));
}

#[test]
fn a_stale_path_is_taken_over() {
    for old in KINDS {
        for new in KINDS {
            let folder = folder();
            let path = folder.path().join("x.sock");
            drop(open(&at(&path, old, 0o600)).unwrap());
            assert!(path.symlink_metadata().unwrap().file_type().is_socket());
            open(&at(&path, new, 0o600)).unwrap_or_else(|error| panic!("{old:?}, {new:?}: {error}"));
        }
    }
}

#[test]
fn a_path_that_somebody_has_stays() {
    for old in KINDS {
        for new in KINDS {
            let folder = folder();
            let path = folder.path().join("x.sock");
            let kept = open(&at(&path, old, 0o600)).unwrap();
            let identity = identify_path(&Endpoint::Unix(at(&path, old, 0o600)));
            let mut error = open(&at(&path, new, 0o600)).unwrap_err();
            assert_eq!(error.errno, nix::errno::Errno::EADDRINUSE, "{old:?}, {new:?}");
            error.look_for_holder(&Endpoint::Unix(at(&path, new, 0o600)));
            let holder = format!("(held by pid {}, ", std::process::id());
            assert!(error.to_string().contains(&holder), "{old:?}, {new:?}: {error}");
            assert_eq!(identify_path(&Endpoint::Unix(at(&path, new, 0o600))), identity);
            drop(kept);
        }
    }
}

/// It is somebody's though no connection gets through.
#[test]
fn a_socket_that_does_not_listen_yet_is_somebodys() {
    let folder = folder();
    let path = folder.path().join("x.sock");
    let bound = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    bound.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    assert!(UnixStream::connect(&path).is_err());
    assert!(open(&at(&path, UnixKind::Stream, 0o600)).is_err());
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let folder = folder();
    let (file, link, dir) =
        (folder.path().join("file"), folder.path().join("link"), folder.path().join("dir"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&dir).unwrap();
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    symlink(&stale, &link).unwrap();
    for path in [&file, &link, &dir] {
        let error = open(&at(path, UnixKind::Stream, 0o600)).unwrap_err();
        let expected = format!("bind unix:{}: there is a file of another kind", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(path.symlink_metadata().is_ok(), "{}", path.display());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = folder.path().join("no/where");
    let error = open(&at(&nowhere, UnixKind::Stream, 0o600)).unwrap_err();
    let expected = format!("there is no directory {}/no", folder.path().display());
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(!error.is_absence());
}

#[test]
fn a_path_is_removed_by_whom_it_belongs_to() {
    let folder = folder();
    let path = folder.path().join("x.sock");
    let endpoint = Endpoint::Unix(at(&path, UnixKind::Stream, 0o600));
    let _first = open(&at(&path, UnixKind::Stream, 0o600)).unwrap();
    let identity = identify_path(&endpoint).unwrap();
    // Another one stands there now.
    fs::rename(&path, folder.path().join("aside")).unwrap();
    let _second = open(&at(&path, UnixKind::Stream, 0o600)).unwrap();
    remove_path(&endpoint, identity);
    assert!(path.exists());
    remove_path(&endpoint, identify_path(&endpoint).unwrap());
    assert!(!path.exists());
}

#[test]
fn a_kept_path_gets_its_new_mode() {
    let folder = folder();
    let path = folder.path().join("x.sock");
    let _listener = open(&at(&path, UnixKind::Stream, 0o600)).unwrap();
    set_path_rights(&Endpoint::Unix(at(&path, UnixKind::Stream, 0o666))).unwrap();
    assert_eq!(path.symlink_metadata().unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn clients_reach_every_kind() {
    let folder = folder();
    let path = folder.path().join("x.sock");
    let _stream = open(&at(&path, UnixKind::Stream, 0o600)).unwrap();
    UnixStream::connect(&path).unwrap();
    let path = folder.path().join("y.sock");
    let datagram = UnixDatagram::from(open(&at(&path, UnixKind::Datagram, 0o600)).unwrap());
    UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
    assert_eq!(datagram.recv(&mut [0; 9]).unwrap(), 5);
    let name = UnixName::Abstract(format!("superd-test-{}", std::process::id()));
    let hidden = UnixEndpoint { name, ..at(&path, UnixKind::SeqPacket, 0o600) };
    let _kept = open(&hidden).unwrap();
    let mut error = open(&hidden).unwrap_err();
    error.look_for_holder(&Endpoint::Unix(hidden));
    assert!(error.to_string().contains("Address already in use (held by pid "), "{error}");
}

#[test]
fn a_passed_socket_is_copied_and_a_missing_one_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let connection = std::net::TcpStream::connect(at).unwrap();
    let pipe = std::io::pipe().unwrap().0;
    let sockets: [(&str, OwnedFd); 5] = [
        ("web", listener.into()),
        ("web", datagrams.into()),
        ("client", connection.into()),
        ("pipe", pipe.into()),
        ("other", UnixListener::bind(folder().path().join("x")).unwrap().into()),
    ];
    let passed: Passed = sockets.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect();
    let options =
        SocketOptions { receive_timeout: Some(std::time::Duration::from_secs(3)), ..Default::default() };
    let web = open_passed("web", &passed, &options, true).unwrap();
    assert_eq!(web.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), [SocketKind::Tcp, SocketKind::Udp]);
    for (fd, _) in &web {
        let socket = socket2::SockRef::from(fd);
        assert!(!socket.nonblocking().unwrap());
        assert_eq!(socket.read_timeout().unwrap(), options.receive_timeout);
        assert!(fd.as_fd().try_clone_to_owned().is_ok());
    }
    for (name, expected) in [
        ("mail", "systemd:mail: no socket of this name was passed (passed: client, other, pipe, web)"),
        ("client", "systemd:client: the descriptor of this name is a connection, or does not listen"),
        ("pipe", "systemd:pipe: the descriptor of this name is no socket that a service can be served by"),
    ] {
        let error = open_passed(name, &passed, &options, false).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_absence());
    }
    let nothing = open_passed("mail", &Passed::default(), &options, false).unwrap_err();
    assert!(nothing.to_string().ends_with("(none was passed at all)"), "{nothing}");
}
