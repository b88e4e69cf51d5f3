//! All launch plans of one configuration in one block of bytes: their count, where each ends, then each plan
//! as JSON. Numbers are 32 bits, little-endian; ends are counted from the start of the block.
//!
//! A child finds its own plan by index and decodes nothing else.

use super::launch::{Malformed, Plan};

/// Lays the plans out. Their order gives their indexes.
pub fn encode(plans: &[Plan]) -> Vec<u8> {
    let texts: Vec<Vec<u8>> = plans.iter().map(|plan| serde_json::to_vec(plan).unwrap_or_default()).collect();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut end = 4 * (1 + texts.len());
    let mut out = Vec::with_capacity(end + texts.iter().map(Vec::len).sum::<usize>());
    out.extend(number(texts.len()));
    for text in &texts {
        end += text.len();
        out.extend(number(end));
    }
    out.extend(texts.concat());
    out
}

/// Reads the plan at `index`.
pub fn decode(block: &[u8], index: u32) -> Result<Plan, Malformed> {
    let index = usize::try_from(index).map_err(|_| Malformed)?;
    let count = number(block, 0)?;
    if index >= count {
        return Err(Malformed);
    }
    let start = if index == 0 { 4 * (1 + count) } else { number(block, index)? };
    let text = block.get(start..number(block, index + 1)?).ok_or(Malformed)?;
    serde_json::from_slice(text).map_err(|_| Malformed)
}

fn number(block: &[u8], index: usize) -> Result<usize, Malformed> {
    let bytes = block.get(4 * index..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Malformed)?;
    usize::try_from(u32::from_le_bytes(*bytes)).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_back_by_index() {
        let role = |name: &str| Plan::Role { name: name.to_owned(), identity: None };
        let block = encode(&[role("loader"), role("writer"), role("x")]);
        for (index, name) in [(0, "loader"), (1, "writer"), (2, "x")] {
            assert_eq!(decode(&block, index), Ok(role(name)));
        }
        assert_eq!(decode(&block, 3), Err(Malformed));
        assert_eq!(decode(&encode(&[]), 0), Err(Malformed));
        for cut in 0..block.len() {
            assert_eq!(decode(&block[..cut], 2), Err(Malformed), "{cut}");
        }
        assert_eq!(decode(&[0xff; 64], 7), Err(Malformed));
    }
}
