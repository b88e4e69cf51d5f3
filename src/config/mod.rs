//! The configuration: text in, a [`settings::Config`] or diagnostics out.
//!
//! Pure: files, users and ports are asked for through traits that the shell implements. Two steps:
//! [`load::load`] reads files and asks nobody else, [`resolve::resolve`] asks for users, groups, ports and
//! programs. Both put what is wrong into one [`diagnostic::Report`].

pub mod access;
pub mod access_table;
pub mod admit;
pub mod check;
pub mod clients;
pub mod collect;
pub mod conflict;
pub mod diagnostic;
pub mod draft;
pub mod endpoints;
pub mod exposure;
pub mod files;
pub mod fit;
pub mod interfaces;
pub mod key_table;
pub mod keys;
pub mod kinds;
pub mod listen;
pub mod listens;
pub mod load;
pub mod manual;
pub mod mistype;
pub mod mux;
pub mod names;
pub mod obstacles;
pub mod option_table;
pub mod policy_scope;
pub mod pools;
pub mod program;
pub mod quotes;
pub mod reach;
pub mod reader;
pub mod resolve;
pub mod rlimit_table;
pub mod rlimits;
pub mod schema;
pub mod serves;
pub mod settings;
pub mod situation;
pub mod syntax;
pub mod values;
pub mod ways;
pub mod who;
pub mod wire;
