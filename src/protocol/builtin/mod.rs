//! The built-in services: what each of them answers, and which datagrams get an answer at all.
//!
//! Bytes alone. Sockets, and when to read and write them, are the supervisor's and the handlers'.

use std::borrow::Cow;

use jiff::{Timestamp, Zoned};

use crate::config::settings::Builtin;

pub mod chargen;
pub mod loops;
pub mod quotes;

/// From 1900 to 1970, in seconds: 70 years, 17 of them leap years.
const SINCE_1900: i64 = 2_208_988_800;

/// What a client of daytime, time or qotd gets, over tcp as over udp; nothing of the services that converse.
///
/// `pick` is any number: it chooses the quote.
pub fn answer<'a>(builtin: &'a Builtin, now: &Zoned, pick: u64) -> Cow<'a, [u8]> {
    match builtin {
        Builtin::Daytime => Cow::Owned(daytime(now).into_bytes()),
        Builtin::Time => Cow::Owned(time(now.timestamp()).to_vec()),
        Builtin::Qotd(all) => Cow::Borrowed(quote(all, pick)),
        Builtin::Echo | Builtin::Discard | Builtin::Chargen | Builtin::TcpMux | Builtin::Sensor => {
            Cow::Borrowed(&[])
        }
    }
}

/// RFC 867 has no format; this is what ctime(3) says, as BSD and GNU answer.
fn daytime(now: &Zoned) -> String {
    now.strftime("%a %b %e %H:%M:%S %Y\r\n").to_string()
}

/// RFC 868: seconds since 1900, in 32 bits. They begin again at 0 in 2036.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn time(now: Timestamp) -> [u8; 4] {
    ((now.as_second() + SINCE_1900) as u32).to_be_bytes()
}

fn quote(all: &[Vec<u8>], pick: u64) -> &[u8] {
    let count = u64::try_from(all.len()).unwrap_or(u64::MAX).max(1);
    usize::try_from(pick % count).ok().and_then(|index| all.get(index)).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(builtin: &Builtin, now: &str, pick: u64, expected: &[u8]) {
        let now: Zoned = now.parse().unwrap();
        assert_eq!(&*answer(builtin, &now, pick), expected, "{builtin:?} at {now}");
    }

    #[test]
    fn daytime_is_ctime_in_the_zone() {
        check(&Builtin::Daytime, "2026-06-30T21:49:08+02:00[+02:00]", 0, b"Tue Jun 30 21:49:08 2026\r\n");
        check(&Builtin::Daytime, "1999-01-03T00:00:00+00:00[UTC]", 0, b"Sun Jan  3 00:00:00 1999\r\n");
    }

    /// The examples of RFC 868, and the end of its era.
    #[test]
    fn time_counts_from_1900() {
        let time = |now, seconds: u32| check(&Builtin::Time, now, 0, &seconds.to_be_bytes());
        time("1970-01-01T00:00:00+00:00[UTC]", 2_208_988_800);
        time("1976-01-01T00:00:00+00:00[UTC]", 2_398_291_200);
        time("1980-01-01T00:00:00+00:00[UTC]", 2_524_521_600);
        time("1983-05-01T02:00:00+02:00[+02:00]", 2_629_584_000);
        time("1900-01-01T00:00:00+00:00[UTC]", 0);
        time("2036-02-07T06:28:15+00:00[UTC]", u32::MAX);
        time("2036-02-07T06:28:16+00:00[UTC]", 0);
    }

    #[test]
    fn any_number_picks_a_quote() {
        let qotd = Builtin::Qotd(vec![b"one".to_vec(), b"two".to_vec()]);
        let now = "2026-01-01T00:00:00+00:00[UTC]";
        check(&qotd, now, 0, b"one");
        check(&qotd, now, 1, b"two");
        check(&qotd, now, u64::MAX, b"two");
        check(&Builtin::Qotd(Vec::new()), now, 7, b"");
        check(&Builtin::Echo, now, 7, b"");
    }
}
