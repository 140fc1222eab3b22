//! What strangers call things, as both databases take it.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The longest name that is kept as it is, in bytes. No client of WhatsApp's own makes one near it, but a
/// message's id is its sender's to choose; and PostgreSQL has no index for a row whose names are longer
/// than 2,704 bytes together. Three of this length, and what else names a row, are shorter.
const LONGEST: usize = 512;

/// What is left of a longer one.
const HEAD: usize = 400;

/// A name of a message, a chat or a person: without NUL, and never long.
///
/// The same name always becomes the same one, so what is written under it is found under it; two
/// that differ stay two. NUL, which PostgreSQL has in no text, becomes U+FFFD; of a name that is too
/// long a head stays, with the SHA-256 of all of it behind `~`.
pub fn identifier(name: &str) -> String {
    let mut kept = name.replace('\0', "\u{fffd}");
    if kept.len() > LONGEST {
        let hash = Sha256::digest(kept.as_bytes());
        kept.truncate(kept.floor_char_boundary(HEAD));
        kept.push('~');
        for byte in hash {
            write!(kept, "{byte:02x}").expect("a string takes all that is written to it");
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_as_it_is_unless_no_database_takes_it() {
        for name in ["", "3EB0C4FFEE", "15550002222@s.whatsapp.net", &"é".repeat(LONGEST / 2)] {
            assert_eq!(identifier(name), name);
        }
        assert_eq!(identifier("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn long_names_are_short_and_still_two() {
        let (one, other) = (format!("{}1", "é".repeat(2000)), format!("{}2", "é".repeat(2000)));
        let kept = identifier(&one);
        assert!(kept.len() <= LONGEST && one.starts_with(kept.split_once('~').unwrap().0));
        assert_eq!(identifier(&one), kept);
        assert_ne!(identifier(&other), kept);
        // Whoever asks for it by the name that it was given finds it.
        assert_eq!(identifier(&kept), kept);
    }
}
