//! Whom a message is for: from what callers write to WhatsApp's address.

/// Shortest and longest phone number with country code (E.164 ends at 15 digits).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Digits of a hidden identity or a group; real ones have 14 to 18.
const ID_DIGITS: std::ops::RangeInclusive<usize> = 5..=20;

/// Why a recipient is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("must be a phone number with country code, or an address: …@c.us, …@lid, …@g.us")]
    NotANumber,
    #[error("must have 7 to 15 digits, country code included")]
    Length,
    #[error("must begin with the country code, not with 0")]
    LeadingZero,
    #[error("must be an address at c.us, s.whatsapp.net, lid or g.us")]
    Server,
    #[error("must be the address of a person or a group, not of one device")]
    Device,
}

/// WhatsApp's address of a person or a group, as messages keep it.
///
/// Takes `628…`, `+62 812-3456 …`, `…@c.us`, `…@s.whatsapp.net`, `…@lid` and `…@g.us`.
pub fn address(text: &str) -> Result<String, Malformed> {
    let text = text.trim_matches(ignorable);
    let Some((user, server)) = text.split_once('@') else {
        return Ok(format!("{}@s.whatsapp.net", phone_number(text)?));
    };
    match server {
        "c.us" | "s.whatsapp.net" => Ok(format!("{}@s.whatsapp.net", digits_of_person(user)?)),
        "lid" => digits(user, &ID_DIGITS).map(|()| format!("{user}@lid")),
        "g.us" => match user.split_once('-') {
            // Groups made before 2021 are called after their founder and their time.
            Some((founder, time)) => digits(founder, &ID_DIGITS)
                .and_then(|()| digits(time, &ID_DIGITS))
                .map(|()| format!("{user}@g.us")),
            None => digits(user, &ID_DIGITS).map(|()| format!("{user}@g.us")),
        },
        _ => Err(Malformed::Server),
    }
}

/// A phone number's digits, country code first, from what people write.
pub fn phone_number(text: &str) -> Result<String, Malformed> {
    let text = text.trim_matches(ignorable);
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut digits = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2015}' => {}
            c if ignorable(c) => {}
            _ => return Err(Malformed::NotANumber),
        }
    }
    digits_of_person(&digits)?;
    Ok(digits)
}

fn digits_of_person(user: &str) -> Result<&str, Malformed> {
    digits(user, &PHONE_DIGITS)?;
    if user.starts_with('0') {
        return Err(Malformed::LeadingZero);
    }
    Ok(user)
}

fn digits(user: &str, length: &std::ops::RangeInclusive<usize>) -> Result<(), Malformed> {
    if user.is_empty() || !user.bytes().all(|b| b.is_ascii_digit()) {
        return Err(if user.contains(':') { Malformed::Device } else { Malformed::NotANumber });
    }
    if length.contains(&user.len()) { Ok(()) } else { Err(Malformed::Length) }
}

/// Spaces, and the invisible marks of direction that come along when a number is copied on a phone.
fn ignorable(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let person = "6281234567890@s.whatsapp.net";
        for written in [
            "6281234567890",
            "+6281234567890",
            "+62 812-3456-7890",
            " (62) 812 3456.7890\t",
            "\u{202a}+62\u{a0}812\u{2011}3456\u{2011}7890\u{202c}",
            "6281234567890@c.us",
            "6281234567890@s.whatsapp.net",
        ] {
            assert_eq!(address(written).as_deref(), Ok(person), "{written:?}");
        }
        for unchanged in
            ["100000000000001@lid", "120363000000000001@g.us", "6281234567890-1600000000@g.us"]
        {
            assert_eq!(address(unchanged).as_deref(), Ok(unchanged));
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for (written, why) in [
            ("", Malformed::NotANumber),
            ("hello", Malformed::NotANumber),
            ("123", Malformed::Length),
            ("1234567890123456", Malformed::Length),
            ("081234567890", Malformed::LeadingZero),
            ("0081234567890@c.us", Malformed::LeadingZero),
            ("٦٢٨١٢٣٤٥٦٧٨٩٠", Malformed::NotANumber),
            ("62812 34567890@c.us", Malformed::NotANumber),
            ("++6281234567890", Malformed::NotANumber),
            ("6281234567890:12@s.whatsapp.net", Malformed::Device),
            ("@c.us", Malformed::NotANumber),
            ("status@broadcast", Malformed::Server),
            ("120363000000000001@newsletter", Malformed::Server),
            ("6281234567890@example.org", Malformed::Server),
            ("6281234567890@c.us@g.us", Malformed::Server),
            ("1-2-3@g.us", Malformed::Length),
            ("6281234567890\0", Malformed::NotANumber),
        ] {
            assert_eq!(address(written), Err(why), "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            if let Ok(address) = address(&text) {
                let (user, server) = address.split_once('@').unwrap();
                prop_assert!(["s.whatsapp.net", "lid", "g.us"].contains(&server));
                prop_assert!(user.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
            }
        }

        #[test]
        fn an_address_stays_itself(number in "[1-9][0-9]{6,14}") {
            let once = address(&number).unwrap();
            prop_assert_eq!(address(&once).unwrap(), once);
        }

        #[test]
        fn separators_change_nothing(number in "[1-9][0-9]{6,14}", every in 1_usize..5) {
            let spaced: String = number
                .chars()
                .enumerate()
                .flat_map(|(i, c)| (i > 0 && i % every == 0).then_some('-').into_iter().chain([c]))
                .collect();
            prop_assert_eq!(address(&format!("+{spaced}")), address(&number));
        }
    }
}
