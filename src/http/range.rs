//! Which part of a file a request wants (RFC 9110, section 14).

use axum::http::{HeaderMap, Method, header};

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    /// From the first to the last byte, which are both in it.
    Part {
        first: u64,
        last: u64,
    },
    /// What the file does not have.
    Nothing,
}

impl Wanted {
    /// Reads it for a file of this size, with this strong tag. Whatever is not understood wants all of it, and
    /// so do several parts at once: that is allowed, and no player asks for them.
    pub(crate) fn of(method: &Method, headers: &HeaderMap, tag: &str, size: u64) -> Self {
        if *method != Method::GET || !still_the_same(headers, tag) {
            return Self::All;
        }
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        range.and_then(|range| part(range, size)).unwrap_or(Self::All)
    }
}

/// Whether a part of this version is wanted. A date is none that we give.
fn still_the_same(headers: &HeaderMap, tag: &str) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes())
}

fn part(range: &str, size: u64) -> Option<Wanted> {
    let (unit, part) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = part.trim().split_once('-')?;
    let (first, last) = match (number(first)?, number(last)?) {
        // The last so many.
        (None, Some(0)) => return Some(Wanted::Nothing),
        (None, Some(count)) => (size.saturating_sub(count), u64::MAX),
        (Some(first), None) => (first, u64::MAX),
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => return None,
    };
    if first >= size {
        return Some(Wanted::Nothing);
    }
    Some(Wanted::Part { first, last: last.min(size - 1) })
}

/// A number, or nothing where nothing is written. None when it is neither.
#[expect(clippy::option_option, reason = "no number and not a number mean two things")]
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    // One that is too large is beyond any file.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn wanted(headers: &[(header::HeaderName, &'static str)], size: u64) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, HeaderValue::from_static(value));
        }
        Wanted::of(&Method::GET, &map, "\"tag\"", size)
    }

    #[test]
    fn a_part_is_read_and_what_is_none_wants_all() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-", part(0, 9)),
            ("BYTES=3-5", part(3, 5)),
            ("bytes=3-500", part(3, 9)),
            ("bytes=9-9", part(9, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-300", part(0, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-3", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(wanted(&[(header::RANGE, range)], 10), expected, "{range}");
        }
        assert_eq!(wanted(&[(header::RANGE, "bytes=0-")], 0), Wanted::Nothing);
        assert_eq!(wanted(&[], 10), Wanted::All);
    }

    #[test]
    fn a_part_of_another_version_is_not_given() {
        let range = (header::RANGE, "bytes=1-2");
        let same = wanted(&[range.clone(), (header::IF_RANGE, "\"tag\"")], 10);
        assert_eq!(same, Wanted::Part { first: 1, last: 2 });
        for other in ["\"other\"", "W/\"tag\"", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(wanted(&[range.clone(), (header::IF_RANGE, other)], 10), Wanted::All);
        }
    }
}
