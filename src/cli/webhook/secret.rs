//! Secrets and tokens: from a file, standard input or the environment. A command line is seen by everybody on
//! the machine, and is kept by shells.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::webhook::{SigningSecret, signature::MalformedSecret};

/// Where a secret is, or several with blanks between them.
pub(super) const SECRET: &str = "WAGATE_WEBHOOK_SECRET";

/// The longest text that is taken for one.
const MOST: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{0}: there is nothing in it")]
    Empty(String),
    #[error("there is no {what}: give {option}, or set {variable}")]
    None { what: &'static str, option: &'static str, variable: &'static str },
    #[error("secret number {0}")]
    Malformed(usize, #[source] MalformedSecret),
}

/// The text of a file, or of standard input for `-`; else of a variable.
pub(super) fn text(file: Option<&Path>, variable: &str) -> Result<Option<String>, Error> {
    let (text, name) = match file {
        Some(path) => {
            let unreadable = |error| Error::Read(path.to_owned(), error);
            let bytes = bytes(path, MOST).map_err(unreadable)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| unreadable(io::ErrorKind::InvalidData.into()))?;
            (text, path.display().to_string())
        }
        None => match std::env::var(variable) {
            Ok(text) => (text, variable.to_owned()),
            Err(_) => return Ok(None),
        },
    };
    let text = text.trim();
    if text.is_empty() { Err(Error::Empty(name)) } else { Ok(Some(text.to_owned())) }
}

/// All of a file, or of standard input for `-`, if it is not longer than that.
pub(super) fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut from: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut bytes = Vec::new();
    from.by_ref().take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The signing secrets that are there.
pub(super) fn secrets(file: Option<&Path>) -> Result<Vec<SigningSecret>, Error> {
    let text = text(file, SECRET)?.ok_or(Error::None {
        what: "secret",
        option: "--secret-file FILE",
        variable: SECRET,
    })?;
    let secrets = text.split_whitespace().enumerate();
    secrets
        .map(|(at, text)| SigningSecret::parse(text).map_err(|why| Error::Malformed(at + 1, why)))
        .collect()
}
