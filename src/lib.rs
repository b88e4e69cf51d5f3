//! superd listens for many services and launches the right program for each client.
//!
//! | layer    | folders                                        | may touch                         |
//! |----------|------------------------------------------------|-----------------------------------|
//! | pure     | `model` ← `config` ← `policy` ← `service` ← `protocol` | values: no fd, clock, file, thread |
//! | platform | `sys`                                          | the kernel; the only `unsafe`     |
//! | shell    | `supervisor`, `roles`, `control`, `command`, `wrap` | everything                        |
//!
//! An arrow points at what may be imported; `tests/tidy.rs` holds all this.
//!
//! A connection: `supervisor::accept` takes it from a listener → `service::admission` counts it or names the
//! limit → `supervisor::launches` hands it to the launcher → `roles::launcher` makes the child →
//! `roles::stage` becomes the program. Its end: `supervisor::lifecycle` reaps it. Read these and you know superd;
//! docs/architecture.md says why it is so.

pub mod command;
pub mod config;
pub mod control;
pub mod model;
pub mod policy;
pub mod protocol;
pub mod roles;
pub mod service;
pub mod supervisor;
pub mod sys;
pub mod wrap;
