//! Loading from the disk: the shell's half of the configuration's reader.

pub mod files;
pub mod load;
pub mod system;
