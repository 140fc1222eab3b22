//! Half a character, as JavaScript writes what it has cut in two.

use std::borrow::Cow;

/// What stands for it.
const REPLACEMENT: &str = r"\ufffd";

/// JSON in which each escaped surrogate has its other half; where one has not, U+FFFD stands.
///
/// The grammar of JSON lets one pass and most parsers do not, so a single one would make a whole answer
/// unreadable.
pub fn paired(json: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let (length, is_whole) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, true),
            (Some(0xd800..=0xdfff), _) => (6, false),
            // The backslash, and what it escapes: that may be another one.
            _ => (1 + escape[1..].chars().next().map_or(0, char::len_utf8), true),
        };
        kept.push_str(before);
        kept.push_str(if is_whole { &escape[..length] } else { REPLACEMENT });
        rest = &escape[length..];
    }
    if kept.is_empty() {
        return Cow::Borrowed(json);
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// The unit of UTF-16 that an escape begins with.
fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix(r"\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::paired;

    #[test]
    fn halves_are_replaced_and_nothing_else_is_touched() {
        for (json, expected) in [
            (r#""plain""#, r#""plain""#),
            (r#""\ud83d\ude00 \u00e4 \n""#, r#""\ud83d\ude00 \u00e4 \n""#),
            (r#""a \ud800 b""#, r#""a \ufffd b""#),
            (r#""\ud800\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\\ud800 \\\ud800""#, r#""\\ud800 \\\ufffd""#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\"ä\\", "\"ä\\"),
        ] {
            assert_eq!(paired(json), expected);
        }
    }
}
