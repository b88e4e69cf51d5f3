//! Filters, run as the kernel runs them: which addresses they let by.

use super::*;
use crate::config::access::{Access, Action, Clauses, Placed, Rule, Rules};
use crate::model::client::Client;
use crate::model::filter::{JUMP, JUMP_EQUAL, JUMP_FROM, LOAD, NETWORK_HEADER, RETURN};
use crate::model::place::Place;
use crate::policy::hours::Hours;
use crate::policy::judge::{Policy, Verdict};
use crate::policy::request::Request;
use crate::policy::table::Table;
use jiff::tz::TimeZone;
use std::time::{Duration, SystemTime};

/// What the kernel does with a program, by linux/filter.h and no word of what made it.
fn run(program: &[Instruction], source: IpAddr) -> bool {
    let (offset, octets) = match source {
        IpAddr::V4(ip) => (12, ip.octets().to_vec()),
        IpAddr::V6(ip) => (8, ip.octets().to_vec()),
    };
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            LOAD => {
                let from = usize::try_from(k - NETWORK_HEADER - offset).unwrap();
                accumulator = u32::from_be_bytes(octets[from..from + 4].try_into().unwrap());
            }
            JUMP => at += usize::try_from(k).unwrap(),
            JUMP_EQUAL => at += jump(accumulator == k),
            JUMP_FROM => at += jump(accumulator >= k),
            RETURN => return k != 0,
            code => panic!("{code:#x}"),
        }
    }
}

/// xorshift: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Few different bits, so that addresses meet and networks cover one another.
    fn address(&mut self, family: Family) -> IpAddr {
        let mut byte = || [0, 0, 1, 127, 128, 255][usize::try_from(self.below(6)).unwrap()];
        match family {
            Family::V4 => IpAddr::from(std::array::from_fn::<u8, 4, _>(|_| byte())),
            Family::V6 => IpAddr::from(std::array::from_fn::<u8, 16, _>(|_| byte())),
        }
    }

    fn network(&mut self) -> Network {
        let family = if self.below(2) == 0 { Family::V4 } else { Family::V6 };
        let address = self.address(family);
        let width = if family == Family::V4 { 33 } else { 129 };
        Network::around(address, u8::try_from(self.below(width)).unwrap())
    }

    fn pattern(&mut self) -> ClientPattern {
        match self.below(12) {
            0 => ClientPattern::Any,
            1 => ClientPattern::Local,
            2 => ClientPattern::Link,
            3 => ClientPattern::Set("office".parse().unwrap()),
            _ => ClientPattern::Network(self.network()),
        }
    }

    fn patterns(&mut self, most: u64) -> Vec<ClientPattern> {
        (0..=self.below(most)).map(|_| self.pattern()).collect()
    }

    fn access(&mut self) -> Access {
        let place = || Place { file: "x.toml".to_owned(), line: 1 };
        let placed = |value| Some(Placed { place: place(), value });
        let rules = if self.below(2) == 0 {
            let (deny, allow) = (self.patterns(8), self.patterns(40));
            let deny = placed(deny).filter(|_| self.below(2) == 0);
            let allow = placed(allow).filter(|_| self.below(2) == 0);
            let hours = (self.below(4) == 0).then(|| Placed {
                place: place(),
                value: ["always", "never"][usize::try_from(self.below(2)).unwrap()].parse().unwrap(),
            });
            Rules::Short(Clauses { deny, allow, users: None, hours })
        } else {
            let rules = (0..self.below(6)).map(|_| Rule {
                place: place(),
                from: Some(self.patterns(12)).filter(|_| self.below(6) != 0),
                users: None,
                hours: (self.below(3) == 0).then(|| "never".parse().unwrap()),
                action: if self.below(2) == 0 { Action::Allow } else { Action::Deny },
                observe: self.below(5) == 0,
                banner: None,
                log: None,
            });
            let rules = rules.collect();
            let otherwise = if self.below(2) == 0 { Action::Allow } else { Action::Deny };
            Rules::Ordered { rules, otherwise: Placed { place: place(), value: otherwise } }
        };
        Access { rules, ..Access::default() }
    }
}

#[test]
fn the_kernel_says_what_the_judge_says() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut let_in, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut tables = Tables::default();
        let office: Vec<Network> = (0..dice.below(30)).map(|_| dice.network()).collect();
        tables.put_set("office".parse().unwrap(), Table::of(&office));
        let day = vec!["00:00-24:00".parse().unwrap()];
        tables.put_hours("always".parse().unwrap(), Hours::new(day, TimeZone::UTC));
        tables.put_hours("never".parse().unwrap(), Hours::new(Vec::new(), TimeZone::UTC));
        let own: Vec<IpAddr> = vec![dice.address(Family::V4), dice.address(Family::V6)];
        let links: Vec<Network> = vec![dice.network(), dice.network()];
        let interfaces = Interfaces::new(own, links);
        let access = dice.access();
        let policy = Policy::new(&access);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let may = |ip: IpAddr| {
            let request = Request::new(Client::Inet((ip, 7).into()), now, &interfaces);
            matches!(policy.judge(&request, &tables), Verdict::Allow { .. })
        };
        let networks = networks(access.patterns(), &tables, &interfaces);
        for family in [Family::V4, Family::V6] {
            let program = program(family, &networks, may).unwrap();
            let of_family =
                networks.iter().filter(|network| network.address().is_ipv4() == (family == Family::V4));
            let corners = of_family.flat_map(|network| {
                let (first, beyond) = bounds(*network);
                [Some(first), first.checked_sub(step(family)), beyond, beyond.map(|end| end - step(family))]
            });
            let corners = corners.flatten().map(|start| address(family, start)).collect::<Vec<_>>();
            let random: Vec<IpAddr> = (0..300).map(|_| dice.address(family)).collect();
            for ip in corners.into_iter().chain(random) {
                // On a socket of IPv6 alone these are no sources.
                if family == Family::V6 && ip.to_canonical().is_ipv4() {
                    continue;
                }
                let said = program.as_ref().is_none_or(|program| run(program, ip));
                assert_eq!(said, may(ip), "{ip} by {access:?}, office {office:?}, {interfaces:?}");
                *(if said { &mut let_in } else { &mut refused }) += 1;
            }
        }
    }
    assert!(let_in > 10_000 && refused > 10_000, "{let_in} let in, {refused} refused");
}

fn step(family: Family) -> u128 {
    if family == Family::V4 { 1 << 96 } else { 1 }
}

/// So many networks, each followed by what is in none.
fn apart(count: u32, network: impl Fn(u32) -> String) -> Vec<Network> {
    (0..count).map(|n| network(n).parse().unwrap()).collect()
}

#[test]
fn a_thousand_networks_have_room() {
    let many = apart(1000, |n| Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9) & !1).to_string());
    check_size(&many, 2600);
    let many = apart(1000, |n| format!("10.{}.{}.0/24", n >> 7, (n & 0x7f) * 2));
    check_size(&many, 2600);
    let many = apart(500, |n| format!("2001:{:x}:{:x}::/48", n / 7, n * 2));
    check_size(&many, 2500);
    let far = |n: u32| format!("{:x}:{:x}:1::{:x}", 0x2000 + n, n.wrapping_mul(0x9e37_79b9) >> 16, n + 1);
    check_size(&apart(200, far), MOST);
    let few = apart(1000, far);
    let TooLong { instructions } =
        program(Family::V6, &few, |ip| few.contains(&Network::host(ip))).unwrap_err();
    assert!(instructions > MOST, "{instructions}");
}

/// All but these are let in.
#[track_caller]
fn check_size(networks: &[Network], most: usize) {
    let family = if networks[0].address().is_ipv4() { Family::V4 } else { Family::V6 };
    let table = Table::of(networks);
    let program = program(family, networks, |ip| !table.contains(ip)).unwrap().unwrap();
    assert!(program.len() <= most, "{}", program.len());
    assert!(most_instructions(networks) >= program.len());
    for network in networks {
        let (first, beyond) = bounds(*network);
        for start in [Some(first), beyond, beyond.map(|end| end - step(family))].into_iter().flatten() {
            let ip = address(family, start);
            assert_eq!(run(&program, ip), !table.contains(ip), "{ip}");
        }
    }
}

#[test]
fn who_treats_all_alike_needs_no_look_at_the_address() {
    let some = apart(3, |n| format!("192.0.2.{n}"));
    assert_eq!(program(Family::V4, &some, |_| true), Ok(None));
    assert_eq!(program(Family::V4, &some, |_| false), Ok(Some(crate::model::filter::NOTHING.to_vec())));
    // What is of the other family does not matter.
    assert_eq!(program(Family::V6, &some, |ip| ip.is_ipv6()), Ok(None));
}
