//! One look-up: address → name → the same address. It waits as long as the system's resolver likes.

use std::net::IpAddr;

use crate::protocol::resolve::{Named, host_name};
use crate::sys::resolve::{Trouble, addresses_of, name_of};

/// Asks the name service. A name counts if the client's address is among its own, of the client's family; anybody
/// may claim any name for an address of his, but not that the name has it. Of several names of an address the
/// system's resolver gives one.
pub(crate) fn confirmed_name(address: IpAddr) -> Named {
    confirm(address, name_of(address), |name| addresses_of(name, address))
}

/// What can't be a host's name is a mismatch, like a name whose addresses are others. A name service that fails
/// half way has failed: nobody is called a liar for that.
fn confirm(
    address: IpAddr,
    found: Result<Vec<u8>, Trouble>,
    addresses: impl Fn(&str) -> Result<Vec<IpAddr>, Trouble>,
) -> Named {
    let name = match found {
        Ok(bytes) => host_name(&bytes),
        Err(Trouble::Nothing) => return Named::NoName,
        Err(Trouble::Unfit) => None,
        Err(Trouble::Now) => return Named::Failed,
    };
    let Some(name) = name else { return Named::Mismatch(None) };
    match addresses(name.as_str()) {
        Ok(all) if all.contains(&address) => Named::Confirmed(name),
        Ok(_) | Err(Trouble::Nothing | Trouble::Unfit) => Named::Mismatch(Some(name)),
        Err(Trouble::Now) => Named::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_confirmed() {
        let host = || "host.example".parse().unwrap();
        let name = || Ok(b"Host.Example.".to_vec());
        let ours = || Ok(vec!["192.0.2.9".parse().unwrap(), "192.0.2.7".parse().unwrap()]);
        let others = || Ok(vec!["192.0.2.9".parse().unwrap()]);
        for (found, addresses, expected) in [
            (name(), ours(), Named::Confirmed(host())),
            (name(), others(), Named::Mismatch(Some(host()))),
            (name(), Ok(vec![]), Named::Mismatch(Some(host()))),
            (name(), Err(Trouble::Nothing), Named::Mismatch(Some(host()))),
            (name(), Err(Trouble::Now), Named::Failed),
            (Ok(b"192.0.2.7".to_vec()), ours(), Named::Mismatch(None)),
            (Ok(b"3221225991".to_vec()), ours(), Named::Mismatch(None)),
            (Ok(b"\x1b[31m".to_vec()), ours(), Named::Mismatch(None)),
            (Ok(vec![]), ours(), Named::Mismatch(None)),
            (Err(Trouble::Unfit), ours(), Named::Mismatch(None)),
            (Err(Trouble::Nothing), ours(), Named::NoName),
            (Err(Trouble::Now), ours(), Named::Failed),
        ] {
            let ask = |name: &str| {
                assert_eq!(name, "host.example");
                addresses.clone()
            };
            assert_eq!(
                confirm("192.0.2.7".parse().unwrap(), found.clone(), ask),
                expected,
                "{found:?} {addresses:?}"
            );
        }
    }
}
