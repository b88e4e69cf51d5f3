//! Capabilities: giving them away.

/// The kernel's version of the structures below, with 64 capabilities.
const VERSION_3: u32 = 0x2008_0522;

/// Takes every capability from this thread and all that come from it, also those that an exec could give, as far
/// as it may. Whoever runs as another user than root has none; only the last does nothing then.
pub fn drop_capabilities() {
    // This goes first: it needs one.
    empty_bounding_set();
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned().into());
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: the header is version and pid, the data two structures of three words each; both are only read.
    unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
}

/// Whatever is executed from now on has no capability, as far as root alone may see to that.
pub fn empty_bounding_set() {
    for capability in 0..64 {
        prctl(libc::PR_CAPBSET_DROP, capability);
    }
}

fn prctl(operation: libc::c_int, argument: libc::c_ulong) {
    // SAFETY: these operations take numbers alone.
    unsafe { libc::prctl(operation, argument, 0, 0, 0) };
}
