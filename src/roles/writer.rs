//! The writer: whatever may wait for a disk. It appends lines to the log file and writes state dumps.
//!
//! A hung disk stops this process alone. It knows paths and bytes, not what they mean; it ends when its
//! channel closes, after it has written what it was sent.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::protocol::writer::{self, MAX_PACKET, Order, Report};
use crate::sys::channel::{Channel, Received};

/// Log files are for the administrators' group; its directory says who else may look.
const MODE: u32 = 0o640;

/// Bytes of lines that are written at once.
const MAX_BATCH: usize = 64 * 1024;

/// Serves the channel until it closes.
pub fn run(channel: &Channel) -> io::Result<()> {
    Writer { channel, log: LogFile::default() }.serve()
}

struct Writer<'c> {
    channel: &'c Channel,
    log: LogFile,
}

/// The log file, and the lines that are on their way into it.
#[derive(Default)]
struct LogFile {
    path: PathBuf,
    file: Option<File>,
    batch: Vec<u8>,
    lines: u64,
    /// What was last reported.
    errno: i32,
    lost: u64,
}

impl Writer<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            match self.channel.receive(&mut buffer)? {
                Received::Packet { len, fds } => self.obey(buffer.get(..len).unwrap_or_default(), fds),
                Received::Empty => {
                    self.write_log();
                    self.wait()?;
                }
                Received::Closed => {
                    self.log.write();
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, packet: &[u8], fds: Vec<OwnedFd>) {
        match Order::read(packet) {
            Some(Order::Line(line)) => {
                self.log.push(line);
                if self.log.batch.len() >= MAX_BATCH {
                    self.write_log();
                }
            }
            Some(Order::Open { path }) => {
                self.write_log();
                self.log.path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
                self.open_log();
            }
            Some(Order::Reopen) => {
                self.write_log();
                self.open_log();
            }
            Some(Order::State { path }) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                let outcome = fds
                    .into_iter()
                    .next()
                    .map_or(Err(io::ErrorKind::InvalidInput.into()), |text| replace(path, File::from(text)));
                let errno = outcome.err().map_or(0, |error| errno(&error));
                self.report(Report { file: writer::File::State, errno, lost: 0 });
            }
            None => {}
        }
    }

    fn open_log(&mut self) {
        self.log.file = None;
        self.write_log();
    }

    fn write_log(&mut self) {
        if let Some(report) = self.log.write() {
            self.report(report);
        }
    }

    /// A supervisor that does not read its reports misses them.
    fn report(&self, report: Report) {
        drop(self.channel.send(&report.bytes(), &[]));
    }
}

impl LogFile {
    fn push(&mut self, line: &[u8]) {
        self.batch.extend_from_slice(line);
        self.lines += 1;
    }

    /// Writes the batch; a report if that went otherwise than the last time.
    fn write(&mut self) -> Option<Report> {
        if self.path.as_os_str().is_empty() {
            return None;
        }
        let outcome = self.try_write();
        let errno = outcome.err().map_or(0, |error| errno(&error));
        if errno != 0 {
            self.lost += self.lines;
        }
        self.batch.clear();
        self.lines = 0;
        if errno == self.errno {
            return None;
        }
        self.errno = errno;
        Some(Report { file: writer::File::Log, errno, lost: std::mem::take(&mut self.lost) })
    }

    fn try_write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(open(&self.path)?);
        }
        match &mut self.file {
            Some(file) => file.write_all(&self.batch),
            None => Ok(()),
        }
    }
}

/// A link in the last place is refused: who may write to the directory must not choose the file.
fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK keeps a FIFO without a reader from holding the open; the writes may wait.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file =
        OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags.bits()).open(path)?;
    let set = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(set.difference(OFlag::O_NONBLOCK)))?;
    Ok(file)
}

/// Readers find the old file or the new one, never half of it.
fn replace(path: &Path, mut text: File) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let draft = Path::new(&name);
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft)?;
    text.rewind()?;
    io::copy(&mut text, &mut file)?;
    std::fs::rename(draft, path)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    /// Gives the writer its orders, closes the channel, and waits for its end: what it reported.
    fn obey(orders: &[(Order, Option<&str>)]) -> Vec<Report> {
        let (here, there) = Channel::pair().unwrap();
        let writer = thread::spawn(move || run(&there));
        for (order, text) in orders {
            let mut packet = Vec::new();
            order.push(&mut packet);
            let memfd = text.map(|text| {
                let mut file = File::from(memfd_create("state", MFdFlags::MFD_CLOEXEC).unwrap());
                file.write_all(text.as_bytes()).unwrap();
                file
            });
            let fds: Vec<_> = memfd.iter().map(AsFd::as_fd).collect();
            here.send(&packet, &fds).unwrap();
        }
        here.finish().unwrap();
        writer.join().unwrap().unwrap();
        let mut buffer = [0; 100];
        let mut reports = Vec::new();
        while let Ok(Received::Packet { len, .. }) = here.receive(&mut buffer) {
            reports.push(Report::read(&buffer[..len]).unwrap());
        }
        reports
    }

    #[test]
    fn lines_are_appended_and_nothing_is_lost_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let open = Order::Open { path: path.as_os_str().as_bytes() };
        let orders = [(open, None), (Order::Line(b"one\n"), None), (Order::Line(b"two\n"), None)];
        assert_eq!(obey(&orders), []);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\none\ntwo\n");
    }

    #[test]
    fn a_link_is_not_followed_and_a_pipe_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (link, fifo) = (directory.path().join("link"), directory.path().join("fifo"));
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, errno) in [(&link, libc::ELOOP), (&fifo, libc::ENXIO)] {
            let reports = obey(&[(Order::Open { path: path.as_os_str().as_bytes() }, None)]);
            assert_eq!(reports, [Report { file: writer::File::Log, errno, lost: 0 }]);
        }
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn trouble_is_reported_when_it_changes() {
        let orders = [
            (Order::Open { path: b"/dev/full" }, None),
            (Order::Line(b"lost\n"), None),
            (Order::Reopen, None),
            (Order::Line(b"lost too\n"), None),
            (Order::Open { path: b"/dev/null" }, None),
        ];
        let report = |errno, lost| Report { file: writer::File::Log, errno, lost };
        // An open that succeeds is an end of trouble, a write that fails the next.
        let expected = [report(libc::ENOSPC, 1), report(0, 0), report(libc::ENOSPC, 1), report(0, 0)];
        assert_eq!(obey(&orders), expected);
    }

    #[test]
    fn a_state_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lib/superd/state.json");
        let draft = directory.path().join("lib/superd/state.json.tmp");
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below_a_file = file.join("state.json");
        let state = |path: &'static [u8], text| (Order::State { path }, text);
        let bytes = |path: &Path| -> &'static [u8] { path.as_os_str().as_bytes().to_vec().leak() };
        let reports = obey(&[
            state(bytes(&path), Some("{1}")),
            state(bytes(&below_a_file), Some("{2}")),
            state(bytes(&path), None),
            state(bytes(&path), Some("{3}")),
        ]);
        let report = |errno| Report { file: writer::File::State, errno, lost: 0 };
        assert_eq!(reports, [report(0), report(libc::EEXIST), report(libc::EIO), report(0)]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{3}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        assert!(!draft.exists());
        std::fs::write(&draft, "left over").unwrap();
        assert_eq!(obey(&[state(bytes(&path), Some("{4}"))]), [report(0)]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{4}");
    }
}
