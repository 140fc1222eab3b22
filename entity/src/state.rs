//! Closed sets of states, stored as readable text.

use schemars::JsonSchema;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::words;

/// What a session's socket was last observed to be. The words are the contract of the status API.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum SessionStatus {
    /// Nothing is running, and nothing will by itself.
    SessionNotConnected,
    /// Dialling, or waiting for the next try after the connection was lost.
    Connecting,
    /// Unpaired, and a QR code can be scanned.
    QrGenerated,
    /// Paired, and catching up before it is ready.
    Loading,
    /// Logged in: messages go both ways.
    SessionConnected,
    /// WhatsApp refused the pairing, the credentials or the client.
    AuthFailure,
    /// Something else stands in the way that will not mend by itself.
    Error,
}

impl SessionStatus {
    /// The word, as it is stored and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SessionNotConnected => "session_not_connected",
            Self::Connecting => "connecting",
            Self::QrGenerated => "qr_generated",
            Self::Loading => "loading",
            Self::SessionConnected => "session_connected",
            Self::AuthFailure => "auth_failure",
            Self::Error => "error",
        }
    }
}

/// What calls for more patience than a lost connection.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Trouble {
    /// WhatsApp has banned the account for a while.
    Banned,
    /// WhatsApp has locked the account.
    AccountLocked,
    /// WhatsApp refuses this client version.
    ClientOutdated,
    /// WhatsApp wants fewer dials.
    RateLimited,
    /// WhatsApp refuses the connection, for a reason that nobody has a name for.
    ConnectRefused,
    /// Who answered could not prove to be WhatsApp.
    ServerNotTrusted,
    /// Another client took the connection over.
    Replaced,
    /// The session's own task has failed.
    Panicked,
}

/// What the operator wants of a session. Only the API writes it, and it outlives restarts.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum DesiredState {
    Running,
    Stopped,
}

/// Where a session's socket lives.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Origin {
    /// Here: this daemon owns the socket.
    Embedded,
    /// Elsewhere: its events are posted to us.
    External,
    /// At Meta: a phone number at the Cloud API, which has no socket at all.
    Cloud,
}

impl Origin {
    /// The word, as it is stored and shown; of a message it is the `channel`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::External => "external",
            Self::Cloud => "cloud",
        }
    }
}

words!(
    /// How far a campaign's message to one of its audience has come.
    AudienceState {
        /// No message to them is known.
        Pending = "pending",
        /// Their message is known, and nothing of its way.
        Attached = "attached",
        Sent = "sent",
        Delivered = "delivered",
        Read = "read",
        Played = "played",
        Failed = "failed",
    }
);

words!(
    /// What somebody is called by.
    IdentityKind {
        /// WhatsApp's id: digits.
        WaId = "wa_id",
        /// Meta's id of them for one business portfolio.
        UserId = "user_id",
        /// The same for portfolios that belong together.
        ParentUserId = "parent_user_id",
        /// A phone number: digits.
        Phone = "phone",
        /// WhatsApp's hidden identity.
        Lid = "lid",
    }
);

/// How whoever posts the events of an external session proves that he may.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum ReceiverAuth {
    /// By a manager's token of the organization.
    Token,
    /// By the session's secret, in the address or in a header.
    Secret,
    /// By a signature of Standard Webhooks, made with the session's secret.
    Signature,
}

/// What a token's holder may do; each role may do all that the ones before it may.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Manager,
    Admin,
    /// Above all organizations.
    Operator,
}

/// Whether a message came to the session's account or went out from it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Direction {
    Inbound,
    Outbound,
}

/// How far a message has come.
///
/// Inbound messages are `Received`. An outbound one is written as `Queued` before anything is sent,
/// so that a retry after a crash uses the same id; from `Sent` on, its ack level tells the rest.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum MessageStatus {
    Received,
    /// Stored, not yet written to the socket.
    Queued,
    /// Written to the socket; WhatsApp has not said that it has it.
    Sending,
    /// WhatsApp has it.
    Sent,
    /// The recipient's device has it.
    Delivered,
    /// The recipient has seen it.
    Read,
    /// The recipient has played it.
    Played,
    /// It will not be sent, or WhatsApp refused it.
    Failed,
}
