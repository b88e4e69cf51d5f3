//! Who may use a service: judged from values, nothing is looked up here. What would have to be asked first
//! (a name, a user) is said, and asked by others.
//!
//! [`judge`] decides, [`explain`] shows how, [`lint`] and [`warnings`] warn. [`table`] holds the networks of sets, a million of
//! them if need be, and [`hours`] knows the windows of a week. [`hosts_access`] is the language of hosts.allow.
//! [`filter`] makes programs of rules that the kernel is to hold.
//!
//! Answers are three-valued: yes, no, unknown. What can't be answered never satisfies an allow and never escapes
//! a deny.

pub mod explain;
pub mod filter;
pub mod hosts_access;
pub mod hours;
pub mod judge;
pub mod lint;
pub mod list;
pub mod matching;
pub mod request;
pub mod table;
pub mod tables;
pub mod truth;
pub mod warnings;
