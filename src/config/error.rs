//! Why the configuration cannot be used, in one line that shows no text value.

use std::{io, path::PathBuf};

use figment::error::{Actual, Kind};

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was asked for, or is there, cannot be read.
    #[error("cannot read the configuration file {} ({origin})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What named the file.
        origin: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it stops being TOML, counted from 1.
        line: usize,
        /// What the parser says, in one line.
        reason: String,
    },
    /// One key is unknown, or its value is of no use.
    #[error("{key} ({origin}): {reason}")]
    Key {
        /// The key with its section, as in the file.
        key: String,
        /// Where it was set: a file, a variable, a flag.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Says what figment found wrong, without the value: whoever put a password under the wrong key
/// does not want it in the journal as well.
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => one_line(message),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("expected {expected}, found {}", sort_of(actual))
        }
        Kind::InvalidLength(_, expected) => format!("expected {expected}"),
        Kind::UnknownVariant(_, expected) => format!("expected one of {}", expected.join(", ")),
        Kind::UnknownField(name, expected) => {
            format!("unknown key `{name}`; known here: {}", expected.join(", "))
        }
        Kind::MissingField(name) => format!("`{name}` is missing"),
        Kind::DuplicateField(name) => format!("`{name}` is there twice"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "out of range".into(),
        Kind::Unsupported(actual) | Kind::UnsupportedKey(actual, _) => {
            format!("{} cannot stand here", sort_of(actual))
        }
    }
}

/// The words for a value's type. A number may be a secret, too: one that was written without its quotes.
const fn sort_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a section",
        _ => "something else",
    }
}

/// Joins what a parser spreads over several lines.
pub(super) fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}
