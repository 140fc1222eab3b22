//! From when until when a certificate is good: the two times in it, read without the rest.
//!
//! The shape is RFC 5280's (4.1): `Certificate { TBSCertificate { [0] version?, serial, algorithm, issuer, validity …`.

use entity::UnixMillis;
use time::{Date, Month, PrimitiveDateTime, Time};

/// A certificate's first and last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: UnixMillis,
    pub until: UnixMillis,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// That of a certificate in DER; none if it has another shape.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (mut rest, _) = expect(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            (_, rest) = split(rest)?;
        }
        // The serial number, the algorithm, and who has signed it.
        for _ in 0..3 {
            (_, rest) = split(rest)?;
        }
        let (validity, _) = expect(rest, SEQUENCE)?;
        let (from, rest) = split(validity)?;
        let (until, _) = split(rest)?;
        Some(Self { from: moment(from)?, until: moment(until)? })
    }
}

/// A tag and its content.
type Element<'a> = (u8, &'a [u8]);

/// The first element, and what follows it.
fn split(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // So many bytes hold the length; more than four is no certificate's.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(((tag, content), rest))
}

/// The content of the first element, which must have this tag.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let ((found, content), rest) = split(der)?;
    (found == tag).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ`, the years from 1950 on, or `YYYYMMDDHHMMSSZ`.
fn moment((tag, text): Element<'_>) -> Option<UnixMillis> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i32 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some(UnixMillis(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp() * 1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An element, its length in one byte or three.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut der = vec![tag];
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => der.push(short),
            _ => der.extend([&[0x82][..], &length.to_be_bytes()].concat()),
        }
        der.extend(content);
        der
    }

    fn certificate(version: bool, from: (u8, &str), until: (u8, &str)) -> Vec<u8> {
        let time = |(tag, text): (u8, &str)| element(tag, text.as_bytes());
        let parts = [
            if version { element(VERSION, &[2, 1, 2]) } else { vec![] },
            element(2, &[7]),
            element(SEQUENCE, &[]),
            element(SEQUENCE, &[9; 300]),
            element(SEQUENCE, &[time(from), time(until)].concat()),
            element(SEQUENCE, &[]),
        ];
        element(SEQUENCE, &element(SEQUENCE, &parts.concat()))
    }

    #[test]
    fn both_ways_of_writing_a_time_are_read() {
        for version in [true, false] {
            let der = certificate(
                version,
                (UTC_TIME, "261130190000Z"),
                (GENERALIZED_TIME, "20500101000000Z"),
            );
            let read = Validity::of(&der).unwrap();
            assert_eq!(read.from, UnixMillis(1_796_065_200_000));
            assert_eq!(read.until, UnixMillis(2_524_608_000_000));
        }
        let der = certificate(true, (UTC_TIME, "500101000000Z"), (UTC_TIME, "491231235959Z"));
        let read = Validity::of(&der).unwrap();
        assert!(read.from < UnixMillis(0) && read.until > UnixMillis(2_000_000_000_000));
        for wrong in ["2611301900Z", "261330190000Z", "261130190000", "26113019000\u{e9}Z"] {
            assert_eq!(
                Validity::of(&certificate(true, (UTC_TIME, wrong), (UTC_TIME, wrong))),
                None
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_broken(cut in 0_usize..400, at in 0_usize..400, byte in any::<u8>()) {
            let time = (UTC_TIME, "261130190000Z");
            let mut der = certificate(true, time, time);
            let length = der.len();
            der[at % length] = byte;
            der.truncate(cut.min(length));
            Validity::of(&der);
        }
    }
}
