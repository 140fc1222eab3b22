//! Protocol errors the simulator noticed.
//!
//! The real server answers most of these with silence or a closed stream; a test would see a
//! time-out at best. The simulator answers as well as it can and keeps the list, which every test
//! asserts to be empty.

use std::fmt;
use std::sync::Mutex;

use serde::Serialize;

use crate::address::DeviceKey;
use crate::{clock, locked};

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ViolationKind {
    /// A signature or MAC does not verify, or an identity is not the registered one.
    BadSignature,
    /// A Signal counter was spent twice.
    ReusedCounter,
    /// A ciphertext its recipient cannot read.
    Undecryptable,
    /// A message before `<active/>`, or a stanza before login.
    TooEarly,
    /// A stanza, or a part of one, that does not exist in the protocol.
    UnknownStanza,
    /// A stanza without something it must have.
    Malformed,
    /// A message to somebody who is not on WhatsApp.
    UnknownUser,
    /// A message to a device that is not linked.
    UnknownDevice,
    /// A device logged in while it was already connected.
    LoggedInTwice,
    /// Routing information in the intro that the server never gave out.
    BadRouting,
    /// The connection itself broke the rules: intro, Noise, binary XML.
    BrokenWire,
    /// One message id for two messages.
    ReusedMessageId,
    /// The simulator's own: what it had for a client could not be put on the wire.
    Unwritten,
}

/// A protocol error: what, who, and in words.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// What kind of error it is.
    pub kind: ViolationKind,
    /// The device that made it, if it was known already.
    pub device: Option<DeviceKey>,
    /// The details.
    pub text: String,
    /// When, in milliseconds since the epoch.
    pub at: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if let Some(device) = &self.device {
            write!(f, " by {device}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// The list of them.
#[derive(Debug, Default)]
pub(crate) struct Violations(Mutex<Vec<Violation>>);

impl Violations {
    pub(crate) fn record(
        &self,
        kind: ViolationKind,
        device: Option<&DeviceKey>,
        text: impl Into<String>,
    ) {
        let violation = Violation {
            kind,
            device: device.cloned(),
            text: text.into(),
            at: clock::unix_millis(),
        };
        tracing::warn!(%violation, "the protocol was broken");
        locked(&self.0).push(violation);
    }

    pub(crate) fn all(&self) -> Vec<Violation> {
        locked(&self.0).clone()
    }

    pub(crate) fn take(&self) -> Vec<Violation> {
        std::mem::take(&mut *locked(&self.0))
    }
}
