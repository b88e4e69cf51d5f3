//! The pattern of the character generator, RFC 864.

/// Lines before the pattern begins again: as many as there are printing characters.
const LINES: usize = 95;

/// Characters of a line, and CR LF.
const LINE: usize = 74;

/// After so many bytes the pattern begins again.
pub const PERIOD: usize = LINES * LINE;

/// A datagram's answer, at most (RFC 864).
pub const MAX_DATAGRAM: usize = 512;

/// The pattern from its beginning, so long that a full `window` begins at each offset below [`PERIOD`].
pub fn pattern(window: usize) -> Vec<u8> {
    (0..PERIOD + window).map(byte_at).collect()
}

/// Each line begins one character later than the one before; the space follows the tilde.
fn byte_at(at: usize) -> u8 {
    let (line, column) = (at / LINE % LINES, at % LINE);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => u8::try_from((1 + line + column) % LINES).map_or(b' ', |character| b' ' + character),
    }
}

/// How long the answer to a datagram is.
///
/// RFC 864 wants a random length up to 512, whatever was asked. Whoever forges the source of an empty datagram
/// would have 512 bytes sent to somebody else by that: the answer is never longer than the question, and an
/// empty one has an empty answer.
pub fn answer_length(question: usize) -> usize {
    question.min(MAX_DATAGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines as RFC 864 prints them.
    #[test]
    fn lines_rotate_as_in_the_rfc() {
        let pattern = pattern(2 * LINE);
        let line = |n: usize| &pattern[n * LINE..(n + 1) * LINE];
        let first = br##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##;
        let second = br##""#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghi"##;
        assert_eq!(&line(0)[..72], first);
        assert_eq!(&line(1)[..72], second);
        assert_eq!((&line(0)[72..], line(23)[71]), (&b"\r\n"[..], b' '));
        assert_eq!(line(94)[0], b' ');
        assert_eq!(line(95), line(0), "then it begins again");
        assert_eq!(line(96), line(1));
    }

    #[test]
    fn an_answer_is_never_longer_than_its_question() {
        for (question, answer) in [(0, 0), (1, 1), (74, 74), (512, 512), (513, 512), (65_507, 512)] {
            assert_eq!(answer_length(question), answer);
        }
    }
}
