//! Who may: the rules of access, and what they say about a request.
//!
//! Values alone: names, users and times come in as arguments, and a rule that needs one which is not known
//! yet says so. Knows nothing of sockets, of look-ups, or of what is done with a verdict.

pub mod hosts_access;
