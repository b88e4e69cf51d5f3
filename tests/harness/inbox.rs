//! A datagram socket that remembers what it was sent: the tests' log daemon and service manager.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{DEADLINE, until};

/// Messages, in the order of their arrival. It can be frozen, and be gone for a while.
pub struct Inbox {
    path: PathBuf,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<String>>,
    arrived: Condvar,
    ended: AtomicBool,
    frozen: AtomicBool,
    parked: AtomicBool,
}

impl Inbox {
    /// Begins to listen at `path`; anybody may send.
    pub fn open(path: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let reader = Some(listen(path, &shared));
        Self { path: path.to_owned(), shared, reader }
    }

    /// Everything so far.
    pub fn messages(&self) -> Vec<String> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// Waits for a message that `wanted` holds for, old ones included.
    #[track_caller]
    pub fn expect(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(&wanted, DEADLINE).unwrap_or_else(|| {
            panic!("no {what} in {DEADLINE:?}; there came:\n{}", self.messages().join("\n"))
        })
    }

    /// As `expect`, without a panic.
    pub fn wait(&self, wanted: &dyn Fn(&str) -> bool, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut messages = self.shared.messages.lock().unwrap();
        loop {
            if let Some(found) = messages.iter().find(|message| wanted(message)) {
                return Some(found.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            messages = self.shared.arrived.wait_timeout(messages, left).unwrap().0;
        }
    }

    /// Waits until all that was sent before is in `messages`.
    pub fn settle(&self) {
        let mark = format!("settle {:?}", Instant::now());
        let Ok(sender) = UnixDatagram::unbound() else { return };
        if sender.send_to(mark.as_bytes(), &self.path).is_ok() {
            self.wait(&|message| message == mark, DEADLINE);
            self.shared.messages.lock().unwrap().retain(|message| *message != mark);
        }
    }

    /// Nothing is read from now on: senders find the socket full.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::SeqCst);
        until("the reader to stop", || self.shared.parked.load(Ordering::SeqCst).then_some(()));
    }

    /// Reading goes on.
    pub fn thaw(&self) {
        self.shared.frozen.store(false, Ordering::SeqCst);
    }

    /// The socket is closed and its path removed, as a log daemon that ends.
    pub fn close(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// Listens again, with another socket at the same path.
    pub fn reopen(&mut self) {
        self.shared.ended.store(false, Ordering::SeqCst);
        self.shared.frozen.store(false, Ordering::SeqCst);
        self.reader = Some(listen(&self.path, &self.shared));
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.close();
    }
}

fn listen(path: &Path, shared: &Arc<Shared>) -> JoinHandle<()> {
    use std::os::unix::fs::PermissionsExt;
    let socket = UnixDatagram::bind(path).expect("bind an inbox");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("chmod an inbox");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("SO_RCVTIMEO");
    let shared = Arc::clone(shared);
    std::thread::spawn(move || receive(&socket, &shared))
}

fn receive(socket: &UnixDatagram, shared: &Shared) {
    let mut buffer = vec![0; 65536];
    while !shared.ended.load(Ordering::SeqCst) {
        if let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            shared.messages.lock().unwrap().push(text);
            shared.arrived.notify_all();
        }
        while shared.frozen.load(Ordering::SeqCst) && !shared.ended.load(Ordering::SeqCst) {
            shared.parked.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
        shared.parked.store(false, Ordering::SeqCst);
    }
}
