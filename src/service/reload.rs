//! The plan of a reload: which sockets stay, which are opened, which go; which services are what they were.
//!
//! A socket stays if anybody still wants it: first the service that has it, else another one, so that
//! services may be renamed without a gap.

use std::collections::HashMap;

use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::name::ServiceName;

/// A socket that is bound now.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a, K> {
    /// What the shell calls it.
    pub key: K,
    /// Whose it is.
    pub service: &'a ServiceName,
    /// What it is bound to.
    pub endpoint: &'a Endpoint,
}

/// A socket that the new configuration wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose it will be.
    pub service: &'a ServiceName,
    /// What to bind.
    pub endpoint: &'a Endpoint,
}

/// What to do with sockets. Indexes are places in the list of wanted ones.
#[derive(Debug, PartialEq, Eq)]
pub struct SocketPlan<K> {
    /// For each wanted socket, the bound one that serves it; `None`: it has to be opened.
    pub source: Vec<Option<K>>,
    /// Bound ones that nobody wants any more.
    pub close: Vec<K>,
}

/// Finds a bound socket for each wanted one.
pub fn plan_sockets<K: Copy + Eq + std::hash::Hash>(
    bound: &[Bound<'_, K>],
    wanted: &[Wanted<'_>],
) -> SocketPlan<K> {
    let mut free: HashMap<EndpointKey, Vec<&Bound<'_, K>>> = HashMap::with_capacity(bound.len());
    for socket in bound {
        free.entry(socket.endpoint.key()).or_default().push(socket);
    }
    let mut source = vec![None; wanted.len()];
    // A port that the kernel chose belongs to the service that was given it.
    for same_service in [true, false] {
        for (slot, want) in source.iter_mut().zip(wanted) {
            if slot.is_some() || (!same_service && want.endpoint.is_chosen_by_kernel()) {
                continue;
            }
            let Some(candidates) = free.get_mut(&want.endpoint.key()) else { continue };
            let found = candidates.iter().position(|b| !same_service || b.service == want.service);
            *slot = found.map(|index| candidates.swap_remove(index).key);
        }
    }
    let mut close: Vec<K> = Vec::new();
    for socket in bound {
        let unused =
            free.get(&socket.endpoint.key()).is_some_and(|left| left.iter().any(|b| b.key == socket.key));
        if unused {
            close.push(socket.key);
        }
    }
    SocketPlan { source, close }
}

/// What became of the services, by name, each list in the order of the new (or, for closed, the old) ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// The same, to the letter.
    pub kept: Vec<ServiceName>,
    /// Still there, but different.
    pub changed: Vec<ServiceName>,
    /// New.
    pub opened: Vec<ServiceName>,
    /// Gone.
    pub closed: Vec<ServiceName>,
}

/// Compares two lists of services with the digests of their settings.
pub fn plan_services(old: &[(&ServiceName, u64)], new: &[(&ServiceName, u64)]) -> ServicePlan {
    let before: HashMap<&ServiceName, u64> = old.iter().copied().collect();
    let mut plan = ServicePlan::default();
    for &(name, digest) in new {
        let list = match before.get(name) {
            None => &mut plan.opened,
            Some(&was) if was == digest => &mut plan.kept,
            Some(_) => &mut plan.changed,
        };
        list.push(name.clone());
    }
    let after: std::collections::HashSet<&ServiceName> = new.iter().map(|(name, _)| *name).collect();
    plan.closed =
        old.iter().filter(|(name, _)| !after.contains(name)).map(|(name, _)| (*name).clone()).collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{InetEndpoint, Transport};

    fn sockets(texts: &[&str]) -> Vec<(ServiceName, Endpoint)> {
        texts
            .iter()
            .map(|text| {
                let (name, address) = text.split_once('=').unwrap();
                let address: std::net::SocketAddr = address.parse().unwrap();
                let endpoint = Endpoint::Inet(InetEndpoint {
                    transport: Transport::Tcp,
                    ip: address.ip(),
                    port: address.port(),
                    zone: None,
                    interface: None,
                    optional: false,
                });
                (ServiceName::new(name).unwrap(), endpoint)
            })
            .collect()
    }

    #[track_caller]
    fn check(bound: &[&str], wanted: &[&str], source: &[Option<usize>], close: &[usize]) {
        let (old, new) = (sockets(bound), sockets(wanted));
        let bound: Vec<_> = old
            .iter()
            .enumerate()
            .map(|(key, (service, endpoint))| Bound { key, service, endpoint })
            .collect();
        let wanted: Vec<_> = new.iter().map(|(service, endpoint)| Wanted { service, endpoint }).collect();
        let plan = plan_sockets(&bound, &wanted);
        assert_eq!((plan.source.as_slice(), plan.close.as_slice()), (source, close));
    }

    #[test]
    fn sockets_stay_while_anybody_wants_them() {
        check(&["a=127.0.0.1:1"], &["a=127.0.0.1:1"], &[Some(0)], &[]);
        check(&["a=127.0.0.1:1"], &["b=127.0.0.1:1"], &[Some(0)], &[]);
        check(&["a=127.0.0.1:1"], &["a=127.0.0.1:2"], &[None], &[0]);
        check(&["a=0.0.0.0:1"], &["a=127.0.0.1:1"], &[None], &[0]);
        check(
            &["a=127.0.0.1:1", "b=127.0.0.1:2"],
            &["a=127.0.0.1:2", "b=127.0.0.1:1"],
            &[Some(1), Some(0)],
            &[],
        );
        check(
            &["a=127.0.0.1:0", "b=127.0.0.1:0"],
            &["b=127.0.0.1:0", "c=127.0.0.1:0"],
            &[Some(1), None],
            &[0],
        );
        check(&[], &["a=127.0.0.1:1"], &[None], &[]);
        check(&["a=127.0.0.1:1"], &[], &[], &[0]);
    }

    #[test]
    fn services_are_compared_by_digest() {
        let name = |text: &str| ServiceName::new(text).unwrap();
        let (a, b, c, d) = (name("a"), name("b"), name("c"), name("d"));
        let plan = plan_services(&[(&a, 1), (&b, 2), (&c, 3)], &[(&a, 1), (&b, 9), (&d, 4)]);
        let expected = ServicePlan { kept: vec![a], changed: vec![b], opened: vec![d], closed: vec![c] };
        assert_eq!(plan, expected);
    }
}
