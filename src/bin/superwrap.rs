//! The wrapper program, where tcpd stood.

#![no_main]

superd::program!(|| superd::wrap::main(cfg!(target_feature = "crt-static")));
