//! The system's own resolver: names of addresses, addresses of names, and netgroups, through nsswitch.conf, /etc/hosts and
//! resolv.conf. These calls wait as long as they like: they are for threads that may hang.
//!
//! glibc looks at resolv.conf again by itself when it has changed (since 2.26), so that nothing here initializes
//! anything. Times to live are not visible through it.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use socket2::SockAddr;

/// `NI_MAXHOST`: a longer name is an answer that can't be used.
const MAX_NAME: usize = 1025;

/// Makes names mean what they say, for the whole process: no search list of resolv.conf is tried behind a name that
/// does not exist. `.` is the list with the root alone, by resolver(5). Where other threads run nothing is done.
pub fn forget_search_list() {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone {
        // SAFETY: this thread is the only one, so that nobody reads the environment meanwhile.
        unsafe { std::env::set_var("LOCALDOMAIN", ".") };
    }
}

/// What the name service says when it has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It knows: there is nothing by that name or address.
    Nothing,
    /// There is something that is no name at all.
    Unfit,
    /// It can't tell now: a server that is dead, slow or broken; no memory.
    Now,
}

/// The name of an address. Of several names the system gives the first.
pub fn name_of(address: IpAddr) -> Result<Vec<u8>, Trouble> {
    let socket = SockAddr::from(SocketAddr::new(address, 0));
    let mut name = [0_u8; MAX_NAME];
    let room = libc::socklen_t::try_from(name.len()).unwrap_or_default();
    // SAFETY: `socket` is a valid address of its own length, and `name` is writable for `room` bytes; no service
    // is asked.
    let outcome = unsafe {
        libc::getnameinfo(
            socket.as_ptr().cast(),
            socket.len(),
            name.as_mut_ptr().cast(),
            room,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    match outcome {
        0 => Ok(CStr::from_bytes_until_nul(&name).map_err(|_| Trouble::Unfit)?.to_bytes().to_vec()),
        libc::EAI_OVERFLOW => Err(Trouble::Unfit),
        other => Err(trouble(other)),
    }
}

/// The addresses of a name that are of the same family as this one.
pub fn addresses_of(name: &str, like: IpAddr) -> Result<Vec<IpAddr>, Trouble> {
    let name = CString::new(name).map_err(|_| Trouble::Nothing)?;
    // SAFETY: an addrinfo of zeroes is valid: no flags, any protocol, no pointers.
    let mut hints: libc::addrinfo = unsafe { zeroed() };
    hints.ai_family = if like.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut first = std::ptr::null_mut();
    // SAFETY: `name` is a string that ends in NUL, no service is asked, `hints` is valid, and `first` may be
    // written; all live through the call.
    let outcome =
        unsafe { libc::getaddrinfo(name.as_ptr(), std::ptr::null(), &raw const hints, &raw mut first) };
    if outcome != 0 {
        return Err(trouble(outcome));
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: getaddrinfo gave a list that ends in a null pointer, and nobody has freed it yet.
    while let Some(info) = unsafe { next.as_ref() } {
        // SAFETY: the list's own address, of the length that the list says.
        addresses.extend(unsafe { address(info) });
        next = info.ai_next;
    }
    // SAFETY: the list is freed once, and nothing points into it any more.
    unsafe { libc::freeaddrinfo(first) };
    Ok(addresses)
}

unsafe extern "C" {
    /// innetgr(3), which the libc crate does not have.
    fn innetgr(
        group: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// The walk through the netgroups is one of the whole process.
static WALK: Mutex<()> = Mutex::new(());

/// Is a host or a user in a netgroup? What is not given may be any. As libwrap has it, the group's entries for
/// this machine's NIS domain count, and those for any; without such a domain all do.
pub fn is_in_netgroup(group: &str, host: Option<&str>, user: Option<&str>) -> bool {
    let text = |text: Option<&str>| text.map(CString::new).transpose();
    let (Ok(Some(group)), Ok(host), Ok(user)) = (text(Some(group)), text(host), text(user)) else {
        return false;
    };
    let domain = nis_domain();
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    let _walk = WALK.lock();
    // SAFETY: the pointers are null or strings that end in NUL and live through the call; `WALK` keeps others of
    // this process from the same walk.
    unsafe { innetgr(group.as_ptr(), pointer(&host), pointer(&user), pointer(&domain)) == 1 }
}

/// The kernel says `(none)` where nobody has set it.
fn nis_domain() -> Option<CString> {
    let mut name = [0_u8; 65];
    // SAFETY: `name` is writable for one byte less than it has, so that it ends in NUL in any case.
    let outcome = unsafe { libc::getdomainname(name.as_mut_ptr().cast(), name.len() - 1) };
    let name = CStr::from_bytes_until_nul(&name).ok().filter(|_| outcome == 0)?;
    (!name.is_empty() && name != c"(none)").then(|| name.to_owned())
}

/// # Safety
/// `info` is an entry of getaddrinfo's list.
unsafe fn address(info: &libc::addrinfo) -> Option<IpAddr> {
    let fits = |size: usize| info.ai_addrlen as usize >= size && !info.ai_addr.is_null();
    match info.ai_family {
        libc::AF_INET if fits(size_of::<libc::sockaddr_in>()) => {
            // SAFETY: it is of this family and long enough; it may stand anywhere.
            let socket = unsafe { info.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(socket.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 if fits(size_of::<libc::sockaddr_in6>()) => {
            // SAFETY: as above.
            let socket = unsafe { info.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(socket.sin6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}

/// `EAI_ADDRFAMILY` of netdb.h, which the libc crate does not have: the name has no address of this family.
const EAI_ADDRFAMILY: i32 = -9;

fn trouble(error: i32) -> Trouble {
    match error {
        libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY => Trouble::Nothing,
        _ => Trouble::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_name_and_the_name_its_address() {
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        let name = String::from_utf8(name_of(loopback).unwrap()).unwrap();
        assert!(addresses_of(&name, loopback).unwrap().contains(&loopback), "{name}");
    }

    #[test]
    fn a_name_with_a_nul_has_no_address() {
        assert_eq!(addresses_of("local\0host", Ipv4Addr::LOCALHOST.into()), Err(Trouble::Nothing));
    }

    #[test]
    fn nobody_is_in_a_netgroup_that_is_not_there() {
        assert!(!is_in_netgroup("superd-no-such-group", Some("localhost"), None));
        assert!(!is_in_netgroup("superd\0", None, Some("root")));
    }

    #[test]
    fn errors_are_told_apart() {
        for (error, expected) in [
            (libc::EAI_NONAME, Trouble::Nothing),
            (libc::EAI_NODATA, Trouble::Nothing),
            (EAI_ADDRFAMILY, Trouble::Nothing),
            (libc::EAI_AGAIN, Trouble::Now),
            (libc::EAI_FAIL, Trouble::Now),
            (libc::EAI_SYSTEM, Trouble::Now),
            (libc::EAI_MEMORY, Trouble::Now),
        ] {
            assert_eq!(trouble(error), expected, "{error}");
        }
    }
}
