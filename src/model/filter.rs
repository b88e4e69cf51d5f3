//! Socket filters as values: programs of classic BPF, which the kernel runs on each packet of a socket.
//!
//! Knows the form of an instruction, not what a program is for.

/// One instruction (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// So many instructions are skipped where a test holds.
    pub jt: u8,
    /// So many where it does not.
    pub jf: u8,
    /// An operand.
    pub k: u32,
}

/// Loads four bytes of the packet at this offset, as a number in network order. What is not there drops the packet.
pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
/// Jumps by `k`.
pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
/// Is it equal to `k`?
pub const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
/// Is it `k` or more?
pub const JUMP_FROM: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
/// Ends: `k` bytes of the packet are taken; 0 drops it.
pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Loads from here on count from the head of the IP packet, whatever the socket sees of it (`SKF_NET_OFF`).
pub const NETWORK_HEADER: u32 = 0xfff0_0000;

/// What drops everything.
pub const NOTHING: [Instruction; 1] = [Instruction { code: RETURN, jt: 0, jf: 0, k: 0 }];
