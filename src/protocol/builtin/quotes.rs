//! The quotes of a datagram service, on their way to the handlers in a sealed memory file.

use serde::{Deserialize, Serialize};

use crate::protocol::handoff::Malformed;

/// RFC 865: a quote has at most 512 characters.
pub const MAX_QUOTE: usize = 512;

#[derive(Serialize, Deserialize)]
struct Quotes<Q>(Vec<Q>);

/// The bytes of the file.
pub fn encode(quotes: &[Vec<u8>]) -> Vec<u8> {
    // Lists of numbers always have a form in JSON.
    serde_json::to_vec(&Quotes(quotes.iter().collect())).unwrap_or_default()
}

/// Reads the file: at least one quote, and none that is too long.
pub fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let Quotes(quotes) = serde_json::from_slice::<Quotes<Vec<u8>>>(bytes).map_err(|_| Malformed)?;
    let fits = !quotes.is_empty() && quotes.iter().all(|quote| quote.len() <= MAX_QUOTE);
    if fits { Ok(quotes) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_the_way() {
        let quotes = vec![b"one\r\n".to_vec(), vec![0, 255], vec![b'x'; MAX_QUOTE]];
        assert_eq!(decode(&encode(&quotes)), Ok(quotes));
    }

    #[test]
    fn what_is_no_list_of_quotes_is_refused() {
        for wrong in [&b""[..], b"[]", b"[256]", b"[[256]]", b"{}", &encode(&[vec![b'x'; MAX_QUOTE + 1]])] {
            assert_eq!(decode(wrong), Err(Malformed), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
