//! The kernel: small wrappers named after what they call, and the only `unsafe` of superd.
//!
//! Takes and gives owned or borrowed descriptors and plain values; outcomes that are expected (would block,
//! aborted, out of descriptors) are variants. Knows nothing of the layers above but `model`'s newtypes.

pub mod accounts;
pub mod borrowed_rights;
pub mod channel;
pub mod daemonize;
pub mod datagram;
pub mod deadline;
pub mod diag;
pub mod entry;
pub mod fd;
pub mod filter;
pub mod group;
pub mod inotify;
pub mod interfaces;
pub mod kind;
pub mod load;
pub mod mailbox;
pub mod memory;
pub mod naming;
pub mod netgroup;
pub mod overlap;
pub mod passed;
pub mod peer;
pub mod poll;
pub mod privileges;
pub mod process;
pub mod readiness;
pub mod resolve;
pub mod rtnetlink;
pub mod signal;
pub mod signalled;
pub mod sock_diag;
pub mod socket;
pub mod sockopt;
pub mod spawn;
pub mod waiting;
