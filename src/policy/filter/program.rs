//! The program of a socket filter, from stretches of addresses: the words of the source address are looked up one
//! after the other, each by halving, and few at the end in a row.
//!
//! Jumps go ahead alone, and by at most 255; what lies farther takes a jump of its own. Knows no network and no rule.

use crate::model::filter::{Instruction, JUMP, JUMP_EQUAL, JUMP_FROM, LOAD, NETWORK_HEADER, NOTHING, RETURN};

use super::{Family, Stretch};

/// So many neighbours are looked through in a row: halving them costs as much time, and more room.
const ROW: usize = 8;

/// What holds from a value of a word on.
#[derive(Debug, Clone)]
enum Target {
    May(bool),
    /// The words behind tell: stretches that begin with this word.
    Deeper(Vec<Stretch>),
}

type Entry = (u32, Target);

/// The program that lets these stretches in. They begin with address 0.
pub(super) fn of(family: Family, stretches: &[Stretch]) -> Vec<Instruction> {
    match stretches {
        [] => NOTHING.to_vec(),
        [(_, may)] => vec![ret(*may)],
        _ => Program { source: source(family) }.word(0, stretches),
    }
}

/// Where the source address stands in the header of IPv4 (RFC 791) and of IPv6 (RFC 8200).
fn source(family: Family) -> u32 {
    NETWORK_HEADER + if family == Family::V4 { 12 } else { 8 }
}

struct Program {
    source: u32,
}

impl Program {
    /// Looks up a word of the address, the first of which is number 0.
    fn word(&self, number: u32, stretches: &[Stretch]) -> Vec<Instruction> {
        let mut code = vec![plain(LOAD, self.source + 4 * number)];
        code.extend(self.tree(number, &entries(number, stretches)));
        code
    }

    fn tree(&self, number: u32, entries: &[Entry]) -> Vec<Instruction> {
        if let [(_, target)] = entries {
            return self.target(number, target);
        }
        if let Some((value, inside, around)) = single(entries) {
            let mut code = vec![Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: value }, ret(around)];
            code.extend(self.target(number, inside));
            return code;
        }
        if let Some(row) = row(entries) {
            return row;
        }
        let (lower, upper) = entries.split_at(entries.len() / 2);
        let from = upper.first().map_or(0, |(value, _)| *value);
        let lower = self.tree(number, lower);
        let mut code = jump_over(from, lower.len());
        code.extend(lower);
        code.extend(self.tree(number, upper));
        code
    }

    fn target(&self, number: u32, target: &Target) -> Vec<Instruction> {
        match target {
            Target::May(may) => vec![ret(*may)],
            Target::Deeper(stretches) => self.word(number + 1, stretches),
        }
    }
}

/// What each value of a word tells.
fn entries(number: u32, stretches: &[Stretch]) -> Vec<Entry> {
    let word = |start: u128| u32::try_from((start << (32 * number)) >> 96).unwrap_or(u32::MAX);
    let rest = |start: u128| start & !(u128::MAX << (96 - 32 * number));
    let mut entries: Vec<Entry> = Vec::new();
    let mut before = false;
    // Where the last group ends in the middle of its value, what comes after that value is to be said.
    let mut open: Option<u32> = None;
    for group in stretches.chunk_by(|(a, _), (b, _)| word(*a) == word(*b)) {
        let Some(&(first, may)) = group.first() else { continue };
        let value = word(first);
        if let Some(next) = open.take().filter(|next| *next < value) {
            entries.push((next, Target::May(before)));
        }
        if rest(first) == 0 && group.len() == 1 {
            entries.push((value, Target::May(may)));
        } else {
            let begin = (rest(first) != 0).then_some((first - rest(first), before));
            let deeper = begin.into_iter().chain(group.iter().copied()).collect();
            entries.push((value, Target::Deeper(deeper)));
            open = value.checked_add(1);
        }
        before = group.last().is_some_and(|(_, may)| *may);
    }
    entries.extend(open.map(|next| (next, Target::May(before))));
    entries
}

/// One value among others that are all alike.
fn single(entries: &[Entry]) -> Option<(u32, &Target, bool)> {
    let [(_, Target::May(before)), (value, inside), (next, Target::May(after))] = entries else {
        return None;
    };
    (before == after && value.checked_add(1) == Some(*next)).then_some((*value, inside, *before))
}

/// From the last to the first; both ends stand behind all tests.
fn row(entries: &[Entry]) -> Option<Vec<Instruction>> {
    let told = |(value, target): &Entry| match target {
        Target::May(may) => Some((*value, *may)),
        Target::Deeper(_) => None,
    };
    let told: Vec<(u32, bool)> = entries.iter().map(told).collect::<Option<_>>()?;
    let (&(_, first), others) = told.split_first().filter(|_| told.len() <= ROW)?;
    let mut code: Vec<Instruction> = Vec::with_capacity(told.len() + 1);
    for (place, &(value, may)) in others.iter().enumerate().rev() {
        // `place` tests stand between this one and the ends.
        let jt = u8::try_from(place + usize::from(may != first)).ok()?;
        code.push(Instruction { code: JUMP_FROM, jt, jf: 0, k: value });
    }
    code.extend([ret(first), ret(!first)]);
    Some(code)
}

/// Whatever is from `value` on skips so many instructions.
fn jump_over(value: u32, length: usize) -> Vec<Instruction> {
    match u8::try_from(length) {
        Ok(jt) => vec![Instruction { code: JUMP_FROM, jt, jf: 0, k: value }],
        Err(_) => vec![
            Instruction { code: JUMP_FROM, jt: 0, jf: 1, k: value },
            plain(JUMP, u32::try_from(length).unwrap_or(u32::MAX)),
        ],
    }
}

fn ret(may: bool) -> Instruction {
    plain(RETURN, if may { u32::MAX } else { 0 })
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}
