//! Lists with EXCEPT: text to items, and how a list is judged by its items.
//!
//! Knows nothing of what an item is.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::outcome::Match;

/// `a EXCEPT b EXCEPT c`: a without (b without c). Each part is a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    groups: Vec<Vec<T>>,
}

impl<T> List<T> {
    /// Does the list hold what `item` matches?
    pub(super) fn judge(&self, item: &dyn Fn(&T) -> Match) -> Match {
        judge(&self.groups, item)
    }

    /// Every item, with the number of EXCEPT before it.
    pub(super) fn items(&self) -> impl Iterator<Item = (usize, &T)> {
        self.groups.iter().enumerate().flat_map(|(depth, group)| group.iter().map(move |item| (depth, item)))
    }
}

/// A line bounds how deep this goes.
fn judge<T>(groups: &[Vec<T>], item: &dyn Fn(&T) -> Match) -> Match {
    let Some((group, exceptions)) = groups.split_first() else { return Match::No };
    let found = Match::any(group.iter().map(item));
    if found == Match::No || exceptions.is_empty() {
        return found;
    }
    found.and(judge(exceptions, item).not())
}

/// An item, or EXCEPT, as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item<'t> {
    pub(super) text: &'t str,
    pub(super) range: Range<usize>,
    /// How many EXCEPT stand before it.
    pub(super) depth: usize,
}

/// What is wrong with a list as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadList {
    /// Nothing is in it.
    Empty,
    /// An EXCEPT has nothing on one of its sides.
    Lonely(Range<usize>),
}

/// The items between blanks and commas. `from` is where the text stands in its line.
pub(super) fn items(text: &str, from: usize) -> Result<Vec<Item<'_>>, BadList> {
    let (mut items, mut depth) = (Vec::new(), 0);
    let mut lonely: Option<Range<usize>> = None;
    for (range, word) in words(text, from, &[' ', '\t', ',', '\r']) {
        if !word.eq_ignore_ascii_case("EXCEPT") {
            items.push(Item { text: word, range, depth });
            lonely = None;
        } else if items.is_empty() || lonely.is_some() {
            return Err(BadList::Lonely(range));
        } else {
            depth += 1;
            lonely = Some(range);
        }
    }
    match lonely {
        Some(range) => Err(BadList::Lonely(range)),
        None if items.is_empty() => Err(BadList::Empty),
        None => Ok(items),
    }
}

/// What stands between separators.
pub(super) fn words<'t>(
    text: &'t str,
    from: usize,
    separators: &'t [char],
) -> impl Iterator<Item = (Range<usize>, &'t str)> {
    let start_of = move |word: &str| word.as_ptr().addr() - text.as_ptr().addr() + from;
    let words = text.split(separators).filter(|word| !word.is_empty());
    words.map(move |word| (start_of(word)..start_of(word) + word.len(), word))
}

/// The list of what was read, by the depth of each.
pub(super) fn list<T>(read: Vec<(usize, T)>) -> List<T> {
    let depth = read.iter().map(|(depth, _)| depth + 1).max().unwrap_or(0);
    let mut groups: Vec<Vec<T>> = (0..depth).map(|_| Vec::new()).collect();
    for (depth, item) in read {
        if let Some(group) = groups.get_mut(depth) {
            group.push(item);
        }
    }
    List { groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn except_takes_away() {
        for (text, expected) in [
            ("a", "a"),
            ("a b,\tc,, d ", "abcd"),
            ("a b EXCEPT b", "a"),
            ("a b except a", "b"),
            ("a b c EXCEPT b c EXCEPT c", "ac"),
            ("a b c d EXCEPT b c d EXCEPT c d EXCEPT d", "ac"),
            ("a EXCEPT b", "a"),
        ] {
            let read = items(text, 0).unwrap();
            let list = list(read.iter().map(|item| (item.depth, item.text)).collect());
            let held = "abcd".chars().filter(|c| {
                let same = |item: &&str| if *item == c.to_string() { Match::Yes } else { Match::No };
                list.judge(&same) == Match::Yes
            });
            assert_eq!(held.collect::<String>(), expected, "{text}");
        }
    }

    #[test]
    fn a_list_has_items_on_both_sides() {
        for (text, expected) in [
            ("", BadList::Empty),
            (" , ", BadList::Empty),
            ("EXCEPT a", BadList::Lonely(3..9)),
            ("a EXCEPT", BadList::Lonely(5..11)),
            ("a EXCEPT EXCEPT b", BadList::Lonely(12..18)),
        ] {
            assert_eq!(items(text, 3), Err(expected), "{text}");
        }
    }
}
