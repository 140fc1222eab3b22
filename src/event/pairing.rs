//! Why a pairing did not come about, in stable words.

use serde::{Deserialize, Serialize};

/// What went wrong with one try to pair. The session goes on, and the next try may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum PairingFailure {
    /// The client library does not take the number: it sees a mistake in it.
    InvalidPhoneNumber,
    /// Too many codes were asked for (429).
    RateLimited,
    /// WhatsApp does not take the request (400). It says the same of a number for which too many
    /// codes were asked.
    BadRequest,
    /// WhatsApp forbids it (403).
    Forbidden,
    /// Linking by a code is not to be had for this account (452): a QR code may be.
    NotAvailable,
    /// WhatsApp failed (500).
    ServerError,
    /// Some other refusal.
    Refused { code: i32 },
    /// WhatsApp did not answer.
    Unreachable,
    /// A code was given, and WhatsApp has withdrawn it, or the phone went quiet after it was typed.
    CodeWithdrawn,
    /// A code was given and typed, and WhatsApp then refused the pairing.
    CodeRefused,
    /// WhatsApp asks for a passkey, which only the account's owner has.
    PasskeyRequired,
    /// The pairing by passkey failed.
    PasskeyFailed,
}

impl PairingFailure {
    /// The stable word: what the event's `reason` and the status's `pairing.lastError` say.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InvalidPhoneNumber => "invalid_phone_number",
            Self::RateLimited => "rate_limited",
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::NotAvailable => "not_available",
            Self::ServerError => "server_error",
            Self::Refused { .. } => "refused",
            Self::Unreachable => "unreachable",
            Self::CodeWithdrawn => "code_withdrawn",
            Self::CodeRefused => "code_refused",
            Self::PasskeyRequired => "passkey_required",
            Self::PasskeyFailed => "passkey_failed",
        }
    }

    /// The sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::InvalidPhoneNumber => "WhatsApp does not take this phone number",
            Self::RateLimited => "WhatsApp was asked for too many pairing codes: try again later",
            Self::BadRequest => {
                "WhatsApp gives no pairing code for this number: it has no account, or too many \
                 codes were asked for it"
            }
            Self::Forbidden => "WhatsApp forbids to link a device to this number",
            Self::NotAvailable => {
                "WhatsApp does not link this account by a pairing code: use the QR code"
            }
            Self::ServerError => "WhatsApp failed to make a pairing code: try again later",
            Self::Refused { .. } => "WhatsApp refused to give a pairing code",
            Self::Unreachable => "WhatsApp did not answer in time",
            Self::CodeWithdrawn => "The pairing code is not good any more: ask for another one",
            Self::CodeRefused => "WhatsApp refused the pairing after the code was typed",
            Self::PasskeyRequired => {
                "WhatsApp asks for the account owner's passkey, which cannot be given here: \
                 turn it off on the phone, or link another account"
            }
            Self::PasskeyFailed => "The pairing by passkey failed",
        }
    }

    /// WhatsApp's own code, where it gave one.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::RateLimited => Some(429),
            Self::BadRequest => Some(400),
            Self::Forbidden => Some(403),
            Self::NotAvailable => Some(452),
            Self::ServerError => Some(500),
            Self::Refused { code } => Some(code),
            _ => None,
        }
    }
}
