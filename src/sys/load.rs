//! How busy the machine is.

use std::io;

/// The text of /proc/loadavg. It is made by the kernel, or by whoever shows a container its own: no disk is asked.
pub fn load_average() -> io::Result<String> {
    std::fs::read_to_string("/proc/loadavg")
}
