//! Signal identities: what makes a simulated phone or contact able to read and write for real.
//!
//! An [`Endpoint`](endpoint::Endpoint) is one device's worth of keys. Its sessions are locked one
//! by one, so that a contact who writes to a thousand accounts does so on a thousand ratchets in
//! parallel; nothing here is behind one lock.

pub(crate) mod bundle;
pub(crate) mod content;
pub(crate) mod endpoint;
pub(crate) mod ledger;
mod stores;

use thiserror::Error;
use wacore_libsignal::protocol::SignalProtocolError;

/// How a ciphertext is wrapped, the `type` of `<enc>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncKind {
    /// Opens a session: carries the prekey it was made with.
    PreKey,
    /// Within a session.
    Message,
    /// For a group, under the sender's own chain.
    SenderKey,
}

impl EncKind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "pkmsg" => Some(Self::PreKey),
            "msg" => Some(Self::Message),
            "skmsg" => Some(Self::SenderKey),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PreKey => "pkmsg",
            Self::Message => "msg",
            Self::SenderKey => "skmsg",
        }
    }
}

/// A ciphertext ready for an `<enc>`.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) kind: EncKind,
    pub(crate) bytes: Vec<u8>,
}

/// Why a ciphertext could not be made or read.
#[derive(Debug, Error)]
pub(crate) enum SignalError {
    /// The message key was used before: the peer spent one counter twice.
    #[error("counter {counter} of this chain was used before")]
    Reused { counter: u32 },
    #[error("{0}")]
    Protocol(#[source] SignalProtocolError),
    #[error("the plaintext is not padded as a message is")]
    Padding,
    #[error("the plaintext is not a message: {0}")]
    Content(String),
    #[error("no session, and no keys to make one from")]
    NoSession,
}

impl From<SignalProtocolError> for SignalError {
    fn from(error: SignalProtocolError) -> Self {
        match error {
            SignalProtocolError::DuplicatedMessage(_, counter) => Self::Reused { counter },
            other => Self::Protocol(other),
        }
    }
}
