//! Faults on demand: what the network and the server do to a client, when a test says so.
//!
//! A fault is armed for a [`Scope`] and for as long as [`Lasting`] says; [`armed`] keeps those that
//! wait to happen. A [`Script`] is a plan of many, and [`Chaos`] writes such plans at random.

mod armed;
mod chaos;
mod script;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::DeviceKey;

pub(crate) use armed::{FaultId, Faults};
pub use chaos::{Chaos, Trouble};
pub use script::{Script, Step};

/// What goes wrong.
///
/// Faults of a connection act on live connections at once; if there is none, the next one gets it.
/// Those that refuse a connection or a login close what is live, and refuse what comes after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
#[non_exhaustive]
pub enum Fault {
    /// The socket closes without a word.
    Drop,
    /// Everything is down: connections are reset, and so are new ones before they can say a word.
    /// For a single account, which is not known until the handshake is over, the login is.
    Outage,
    /// The WebSocket upgrade of a new connection is refused over HTTP; live ones stay. Nobody is
    /// known at that time, so only a fault for everyone strikes.
    RefuseUpgrade {
        /// For example 429 or 503.
        status: u16,
        /// Seconds for `Retry-After`, if there shall be one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
    },
    /// Frames are accepted and nothing is ever answered on this connection.
    BlackHole,
    /// TCP is accepted and the handshake never answered. For a single account, which is not known
    /// until the handshake is over, the login is never answered.
    SilentHandshake,
    /// Requests of a client that has logged in are never answered, but for those that ask for a sign of
    /// life: it is let in, and gets no further.
    IgnoreRequests,
    /// Each stanza to the client is late by this much.
    Slow {
        /// The delay in milliseconds.
        millis: u64,
    },
    /// `<stream:error>` with conflict `replaced`: somebody else took the connection over.
    Replaced,
    /// The device is unlinked: `<stream:error>` with conflict `device_removed`, 401 afterwards.
    Removed,
    /// Any other `<stream:error>`.
    StreamError {
        /// For example 429, 503, or 515 where no restart is due. Some have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
        /// The name of a child, for example `xml-not-well-formed`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        child: Option<String>,
        /// Whether the server forgets to close the stream after it.
        #[serde(default)]
        stays_open: bool,
    },
    /// Login is refused with this `<failure reason>`; a live connection is closed.
    Failure {
        /// For example 401: not linked (any more); 403: locked; 405: the client is too old; 500,
        /// 501 and 503: the server has troubles of its own.
        reason: u16,
    },
    /// Login is refused with `<failure reason="402">`: banned for a time.
    Ban {
        /// Why: 101 to 106 have names in the protocol.
        code: u16,
        /// For how many seconds yet.
        expire: u64,
    },
    /// A request for a pairing code is answered with this error.
    RefusePairingCode {
        /// 400, 403, 429, 452 and 500 have names in the protocol.
        code: u16,
    },
    /// Requests for pairing codes are counted, all clients together. More than this many within a
    /// minute are answered with 429 and a `backoff` in seconds, until the minute is over.
    LimitPairingCodes {
        /// How many are answered.
        per_minute: u32,
    },
    /// A new client gets `<iq type="error">` instead of references for QR codes, and is closed.
    RefusePairing {
        /// For example 401 (not authorized) or 405 (no companions are allowed).
        code: u16,
    },
    /// The phone vouches for a client under a secret it does not know: the client must refuse.
    ForgePairing,
    /// The phone's account is protected by a passkey: instead of success, a pairing ends in a
    /// request for it, and [`Error::PasskeyRequired`](crate::Error::PasskeyRequired).
    AskPasskey {
        /// Whether the client must fetch the options of the request by itself.
        #[serde(default)]
        fetched: bool,
    },
    /// The media host, which does not know who asks, answers with this status.
    RefuseMedia {
        /// For example 401, 404 or 503.
        status: u16,
    },
    /// A message is delivered twice.
    DuplicateDelivery,
    /// A message is held back until the one after it has been delivered, or until the faults are
    /// cleared.
    ReorderDelivery,
    /// A bit of a message's MAC is flipped on the way.
    CorruptCiphertext,
    /// A message of the client is acknowledged with this error, and not delivered.
    ErrorAck {
        /// For example 463, 479 or 500.
        code: u16,
    },
    /// A client that wants to write to devices it has no session with is not told their keys, but
    /// this error.
    RefuseKeys {
        /// For example 429 or 503.
        code: u16,
    },
    /// A client that asks who is on WhatsApp, with which devices, gets this error.
    RefuseLookup {
        /// For example 429 or 503.
        code: u16,
    },
    /// A message of the client is delivered, and its acknowledgement lost.
    LoseAck,
}

/// Whom a fault befalls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every client.
    #[default]
    Everyone,
    /// All devices of one account, by phone number.
    Account(String),
    /// One device.
    Device(String, u16),
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// Once.
    #[default]
    Once,
    /// So many times.
    Times(u32),
    /// For so many milliseconds, as often as it can: of tokio's time, or of a [`Script`]'s own.
    Millis(u64),
    /// Until it is cleared.
    UntilCleared,
}

impl Scope {
    /// Whether this scope includes a device; `None` is a client before login.
    pub(crate) fn includes(&self, device: Option<&DeviceKey>) -> bool {
        match (self, device) {
            (Self::Everyone, _) => true,
            (_, None) => false,
            (Self::Account(pn), Some(device)) => **pn == *device.pn,
            (Self::Device(pn, number), Some(device)) => {
                **pn == *device.pn && *number == device.device
            }
        }
    }
}

impl Fault {
    /// Faults that act on a whole connection, live or just logged in.
    pub(crate) fn strikes_connections(&self) -> bool {
        self.is_refusal()
            || matches!(
                self,
                Self::Drop
                    | Self::BlackHole
                    | Self::Replaced
                    | Self::Removed
                    | Self::StreamError { .. }
            )
    }

    /// Faults that strike a client which has just opened a connection and is accepted. A refusal
    /// comes before that.
    pub(crate) fn strikes_newcomers(&self) -> bool {
        self.strikes_connections() && !self.is_refusal()
    }

    /// Faults that keep a client from logging in: closing its connection is not all.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Failure { .. } | Self::Ban { .. } | Self::Outage)
    }

    /// Faults after which a live connection is gone at once.
    pub(crate) fn cuts(&self) -> bool {
        self.is_refusal() || *self == Self::Drop
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Slow { millis } => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}
