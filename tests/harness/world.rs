//! Surroundings that a test makes for its superd: networks, mounts, a disk that hangs, load. Namespaces are
//! those of the calling thread: superd and threads started from it are inside of them, other tests are not.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// A file system that lets everybody wait until this is dropped.
pub struct HungDisk {
    server: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    _device: File,
}

impl HungDisk {
    /// Its server reads no request: who waits can be killed. Needs `own_mounts`.
    pub fn mount(path: &Path) -> Self {
        let device = mount_fuse(path);
        Self { server: None, stop: Arc::default(), _device: device }
    }

    /// Its server reads every request and answers none: who waits can't be killed.
    pub fn mount_silent(path: &Path) -> Self {
        let device = mount_fuse(path);
        let (mut requests, stop) = (device.try_clone().expect("dup"), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stop);
        let server = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                serve_silently(&mut requests);
            }
        });
        Self { server: Some(server), stop, _device: device }
    }
}

impl Drop for HungDisk {
    /// The connection ends with its last descriptor, and everybody gets an error.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            server.join().expect("the server of the disk");
        }
    }
}

fn mount_fuse(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let mut how = File::options();
    how.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let device = how.open("/dev/fuse").expect("open /dev/fuse");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let text = |text: &str| CString::new(text).expect("no NUL");
    let (target, options) = (text(&path.display().to_string()), text(&options));
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    let outcome = unsafe {
        libc::mount(c"hung".as_ptr(), target.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast())
    };
    assert_eq!(outcome, 0, "mount fuse: {}", io::Error::last_os_error());
    device
}

/// Takes a request, and answers the first kind alone, without which the kernel sends no other
/// (linux/fuse.h: `FUSE_INIT` is 26; `fuse_in_header` begins with length, opcode and a 64-bit number that the
/// answer repeats).
fn serve_silently(device: &mut File) {
    let mut request = vec![0; 256 * 1024];
    let Ok(length @ 16..) = device.read(&mut request) else {
        return std::thread::sleep(Duration::from_millis(5));
    };
    let request = &request[..length];
    if request[4..8] == 26_u32.to_ne_bytes() {
        let mut answer = Vec::new();
        answer.extend(80_u32.to_ne_bytes());
        answer.extend(0_i32.to_ne_bytes());
        answer.extend(&request[8..16]);
        answer.extend(7_u32.to_ne_bytes());
        answer.extend(31_u32.to_ne_bytes());
        answer.resize(80, 0);
        assert_eq!(device.write(&answer).expect("answer FUSE_INIT"), 80);
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
