//! A worker of a superd pool, see superd-pool(7): one connection at a time.

use std::collections::HashMap;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};

const CHANNEL: RawFd = 3;

fn main() -> io::Result<()> {
    say("READY")?;
    while let Some((line, connection)) = receive()? {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        // Fields that nobody knows yet do no harm.
        let fields: HashMap<&str, &str> = rest.split(' ').filter_map(|field| field.split_once('=')).collect();
        match (word, connection, fields.get("id")) {
            ("DRAIN", _, _) => break,
            ("CONN", Some(connection), Some(id)) => {
                say(&format!("TAKE {id}"))?;
                // A client that is gone is the end of its connection, not of the worker.
                let _ = serve(connection, &fields);
                say(&format!("DONE {id}"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn serve(connection: OwnedFd, fields: &HashMap<&str, &str>) -> io::Result<()> {
    let mut connection = TcpStream::from(connection);
    let _ = connection.read(&mut [0; 4096])?;
    writeln!(connection, "hello {}", fields.get("client").unwrap_or(&"you"))
}

fn say(line: &str) -> io::Result<()> {
    send(CHANNEL, line.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// The next packet and its connection, if it has one. None: superd is gone.
fn receive() -> io::Result<Option<(String, Option<OwnedFd>)>> {
    let mut packet = [0; 4096];
    let mut control = cmsg_space!(RawFd);
    let mut vector = [IoSliceMut::new(&mut packet)];
    let message = recvmsg::<()>(CHANNEL, &mut vector, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut connection = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made these descriptors for this process.
            connection = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    let line = packet.get(..length).unwrap_or_default();
    Ok(Some((String::from_utf8_lossy(line).into_owned(), connection)))
}
