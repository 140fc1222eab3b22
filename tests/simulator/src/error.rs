//! What can go wrong for whoever drives the simulator.

use std::time::Duration;

use thiserror::Error;

use crate::signal::SignalError;

/// An error of the simulator's API, never of the client under test.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener could not be bound.
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    /// The simulator has been stopped.
    #[error("the simulator is stopped")]
    Stopped,
    /// Nobody has this number.
    #[error("nobody has the number {0}")]
    UnknownPerson(String),
    /// Not a phone number.
    #[error("{0:?} is not a phone number")]
    BadNumber(String),
    /// No such group.
    #[error("there is no group {0}")]
    UnknownGroup(String),
    /// No script at work has this number.
    #[error("no script {0} is being played")]
    UnknownScript(u64),
    /// The account has no such companion.
    #[error("{0} is not linked")]
    UnknownDevice(String),
    /// The text is not a pairing QR code.
    #[error("not a pairing code: {0}")]
    BadQr(String),
    /// No connection waits with this pairing reference: the code is old, or its client is gone.
    #[error("nobody waits with this pairing code")]
    StaleQr,
    /// The keys in the code are not those of the connection that waits.
    #[error("the keys in the pairing code are not those of the client that waits")]
    ForeignQr,
    /// No client asked for a code for this number.
    #[error("no client asked for a code for {0}")]
    NoCode(String),
    /// The code typed into the phone is not the one the client showed.
    #[error("the code is not the one the client showed")]
    WrongCode,
    /// The client did not accept the pairing.
    #[error("the client refused the pairing: {0}")]
    PairingRefused(String),
    /// The account is protected by a passkey, and the client has been asked for it.
    #[error("the account is protected by a passkey")]
    PasskeyRequired,
    /// The contact has nothing to send a receipt for.
    #[error("no message {0} was received")]
    UnknownMessage(String),
    /// A chunk of history could not be written.
    #[error("history cannot be written: {0}")]
    History(String),
    /// A file could not be read or encrypted.
    #[error("the file cannot be sent: {0}")]
    Media(String),
    /// Encrypting for a client failed.
    #[error("encrypting for {device}")]
    Encrypt {
        /// Whom the message was for.
        device: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was waited for did not happen in time.
    #[error("waited {waited:?} for {what}; seen: {seen}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What happened instead.
        seen: String,
    },
}

impl Error {
    pub(crate) fn encrypt(device: &impl ToString, source: SignalError) -> Self {
        Self::Encrypt { device: device.to_string(), source: Box::new(source) }
    }
}
