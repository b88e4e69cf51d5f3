//! The beginning of a program that stands before every connection: `main` without what Rust's runtime does before it
//! (reading /proc/self/maps, an alternate stack, ignoring SIGPIPE), which takes as long as a whole decision.

/// What a program ends with that could not even begin.
const FAILED: i32 = 1;

/// Makes a function `fn() -> u8` the program.
#[macro_export]
macro_rules! program {
    ($run:expr) => {
        // SAFETY: the C library calls this one `main` of the program once, with arguments that are not used.
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, _: *const *const std::ffi::c_char) -> i32 {
            $crate::sys::entry::enter($run)
        }
    };
}

/// Runs it with standard descriptors that are all open: what is opened next must not be taken for one of them.
pub fn enter(run: impl FnOnce() -> u8) -> i32 {
    for number in 0..3 {
        // SAFETY: F_GETFD only looks at the descriptor table.
        let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
        // SAFETY: the path is a string that ends in NUL; the lowest free number is this one.
        if !is_open && unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } != number {
            return FAILED;
        }
    }
    run().into()
}
