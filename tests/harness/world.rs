//! Surroundings that a test makes for its superd: networks, mounts, a disk that hangs, load. Namespaces are
//! those of the calling thread: superd and threads started from it are inside of them, other tests are not.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::Client;

/// Runs a program that must succeed.
#[track_caller]
pub fn run(words: &[&str]) -> String {
    let (program, arguments) = words.split_first().expect("a program");
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A port that nobody has: for tests that must name one. Another test could take it meanwhile, so that
/// those that can run in a network of their own.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("bind").port()
}

/// Puts the calling thread into a network of its own, with nothing but loopback.
pub fn own_network() {
    // SAFETY: takes a number alone, and concerns the calling thread alone.
    let outcome = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(outcome, 0, "unshare: {}", io::Error::last_os_error());
    run(&["ip", "link", "set", "lo", "up"]);
}

/// Puts the calling thread into a network that `ip netns add` has made.
pub fn enter_network(name: &str) {
    let namespace = File::open(format!("/run/netns/{name}")).expect("a named network");
    // SAFETY: the descriptor is open, and the call concerns the calling thread alone.
    let outcome = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(outcome, 0, "setns: {}", io::Error::last_os_error());
}

/// Gives the calling thread its own view of what is mounted.
pub fn own_mounts() {
    // SAFETY: takes a number alone, and concerns the calling thread alone.
    let outcome = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(outcome, 0, "unshare: {}", io::Error::last_os_error());
    run(&["mount", "--make-rprivate", "/"]);
}

/// A program to stand in front of superd: for what it execs, this kernel knows no IPv6.
pub const WITHOUT_IPV6: [&str; 3] = [
    "python3",
    "-c",
    "
import ctypes, os, platform, struct, sys
socket = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
# seccomp_data: nr at 0, the first argument at 16; 10 is AF_INET6, 97 EAFNOSUPPORT.
program = [(0x20, 0, 0, 0), (0x15, 0, 3, socket), (0x20, 0, 0, 16), (0x15, 0, 1, 10),
           (6, 0, 0, 0x50000 | 97), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack('HxxxxxxQ', len(program), ctypes.addressof(code))) == 0
os.execvp(sys.argv[1], sys.argv[1:])
",
];

/// A file system at `path` that lets everybody wait until this is dropped: its server reads no request.
pub struct HungDisk {
    _server: File,
}

impl HungDisk {
    /// Needs `own_mounts`.
    pub fn mount(path: &Path) -> Self {
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("open /dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", server.as_raw_fd());
        let text = |text: &str| CString::new(text).expect("no NUL");
        let (target, options) = (text(&path.display().to_string()), text(&options));
        // SAFETY: all pointers are NUL-terminated strings that outlive the call.
        let outcome = unsafe {
            libc::mount(c"hung".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast())
        };
        assert_eq!(outcome, 0, "mount fuse: {}", io::Error::last_os_error());
        Self { _server: server }
    }
}

/// Clients that come one after the other, in some threads, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Each client expects all of `answer`.
    pub fn begin(address: SocketAddr, threads: usize, answer: &'static str) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || clients(address, answer, &stop, &served))
        };
        let threads = (0..threads).map(start).collect();
        Self { stop, served, threads }
    }

    /// How many clients got their answer.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Waits until so many more have got it.
    #[track_caller]
    pub fn until_more(&self, count: usize) {
        let goal = self.served() + count;
        super::until("clients to be served", || (self.served() >= goal).then_some(()));
    }

    /// Stops; panics with what went wrong for any client.
    #[track_caller]
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let failures = self.threads.into_iter().flat_map(|thread| thread.join().expect("a client thread"));
        let failures: Vec<String> = failures.collect();
        let served = self.served.load(Ordering::SeqCst);
        let first = failures.first().map_or("", String::as_str);
        assert!(failures.is_empty(), "{} clients of {served} failed, the first: {first}", failures.len());
        served
    }
}

fn clients(address: SocketAddr, answer: &str, stop: &AtomicBool, served: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        match one_client(address) {
            Ok(text) if text == answer => {
                served.fetch_add(1, Ordering::SeqCst);
            }
            Ok(text) => failures.push(format!("answered `{text}`")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

fn one_client(address: SocketAddr) -> io::Result<String> {
    let mut client = Client::try_connect(address)?;
    io::read_to_string(&mut client.stream)
}
