//! Netgroups: is a host or a user in one? The name service may be asked, and may take its time.

use std::ffi::{CString, c_char, c_int};

unsafe extern "C" {
    fn innetgr(
        netgroup: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// Is the host in the group?
pub fn has_host(group: &str, host: &str) -> bool {
    ask(group, Some(host), None)
}

/// Is the user in the group?
pub fn has_user(group: &str, user: &str) -> bool {
    ask(group, None, Some(user))
}

fn ask(group: &str, host: Option<&str>, user: Option<&str>) -> bool {
    let Ok(group) = CString::new(group) else { return false };
    let texts = [host, user].map(|text| text.map(CString::new));
    let [Ok(host), Ok(user)] = texts.map(Option::transpose) else { return false };
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: each is a string that ends in NUL and lives through the call, or null, which stands for "any".
    unsafe { innetgr(group.as_ptr(), pointer(&host), pointer(&user), std::ptr::null()) == 1 }
}
