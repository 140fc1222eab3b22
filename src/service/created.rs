//! What a request that makes something came to, and the key that keeps it from making two.

use sha2::{Digest, Sha256};

use super::{Error, text};
use crate::store::{Made, idempotency::Key};

/// Something that was made.
#[derive(Clone, Debug)]
pub struct Created<T> {
    pub made: T,
    /// An earlier request with the same key has made it.
    pub replayed: bool,
}

impl<T> TryFrom<Made<T>> for Created<T> {
    type Error = Error;

    fn try_from(made: Made<T>) -> Result<Self, Error> {
        match made {
            Made::New(made) => Ok(Self { made, replayed: false }),
            Made::Before(made) => Ok(Self { made, replayed: true }),
            Made::KeyReused => Err(Error::KeyReused),
            Made::Gone => Err(Error::MadeGone),
        }
    }
}

/// The caller's key, with the request in short. Parts are counted, so they do not run together.
pub(super) fn key(key: String, request: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in request {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    Key { key, fingerprint: text::hex(&hash.finalize()) }
}
