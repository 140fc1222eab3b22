//! What is remembered of a client's doings.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wacore_binary::Jid;
use waproto::whatsapp as wa;

use crate::address::DeviceKey;
use crate::fault::{Fault, Lasting, Scope};
use crate::signal::content::MessageKind;
use crate::wire::handshake::NoisePattern;

/// A message as its recipient decrypted it.
#[derive(Clone, Debug, Serialize)]
pub struct SentMessage {
    /// The message id, chosen by the sender.
    pub id: String,
    /// The device that sent it.
    pub from: DeviceKey,
    /// The chat, as the sender addressed it.
    #[serde(serialize_with = "as_text")]
    pub chat: Jid,
    /// What it is.
    pub kind: MessageKind,
    /// Its text, caption or emoji.
    pub text: Option<String>,
    /// The message it reacts to, edits or revokes.
    pub target: Option<String>,
    /// Phone numbers of those who decrypted it, in the order they did.
    pub decrypted_by: Vec<String>,
    /// Whether the sender's own phone got its copy.
    pub copied_to_phone: bool,
    /// How often it was sent again because a recipient asked for it.
    pub retries: u32,
    /// When, in milliseconds since the epoch.
    pub at: u64,
    /// The plaintext: an encoded `Message`.
    #[serde(skip)]
    pub plaintext: Bytes,
}

impl SentMessage {
    /// The whole message.
    pub fn message(&self) -> wa::Message {
        // It was decoded when it came, or it would not be here.
        waproto::codec::message_decode(&self.plaintext).unwrap_or_default()
    }
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// Arrived on a device; the two grey ticks.
    Delivered,
    /// Arrived on a device that is not in use.
    Inactive,
    /// Read; the blue ticks.
    Read,
    /// Read on another device of the same account, without telling the sender.
    ReadSelf,
    /// Played, or opened if it could be opened once.
    Played,
    /// Could not be decrypted: send it again.
    Retry,
    /// A copy of an own message arrived.
    Sender,
    /// A message between an account's own devices arrived.
    PeerMsg,
    /// A chunk of history arrived.
    HistSync,
    /// Something else.
    Other(String),
}

impl ReceiptKind {
    /// The kind that `type` says; delivery has none.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "" => Self::Delivered,
            "inactive" => Self::Inactive,
            "read" => Self::Read,
            "read-self" => Self::ReadSelf,
            "played" => Self::Played,
            "retry" => Self::Retry,
            "sender" => Self::Sender,
            "peer_msg" => Self::PeerMsg,
            "hist_sync" => Self::HistSync,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether a receipt of this kind says what is wanted. A device that is not in use receives a
    /// message just as well.
    pub(crate) fn says(&self, wanted: &Self) -> bool {
        self == wanted || (*wanted == Self::Delivered && *self == Self::Inactive)
    }

    /// The `type` attribute, if this kind has one.
    pub(crate) fn as_type(&self) -> Option<&str> {
        Some(match self {
            Self::Delivered => return None,
            Self::Inactive => "inactive",
            Self::Read => "read",
            Self::ReadSelf => "read-self",
            Self::Played => "played",
            Self::Retry => "retry",
            Self::Sender => "sender",
            Self::PeerMsg => "peer_msg",
            Self::HistSync => "hist_sync",
            Self::Other(other) => other,
        })
    }
}

/// A receipt a client sent.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The device that sent it.
    pub from: DeviceKey,
    /// Whom it was sent to: the author's address, or the group's.
    #[serde(serialize_with = "as_text")]
    pub to: Jid,
    /// In a group, the author of the messages.
    #[serde(serialize_with = "as_optional_text")]
    pub participant: Option<Jid>,
    /// The messages.
    pub ids: Vec<String>,
    /// What happened to them.
    pub kind: ReceiptKind,
    /// When, in milliseconds since the epoch.
    pub at: u64,
}

/// A login that was answered with `<success>`.
#[derive(Clone, Debug, Serialize)]
pub struct Login {
    /// Who logged in.
    pub device: DeviceKey,
    /// How the connection was made.
    pub pattern: NoisePattern,
    /// Whether the client showed the route it had been given.
    pub routed: bool,
    /// The client's own count of its logins, if it keeps one.
    pub counter: Option<i32>,
    /// When, in milliseconds since the epoch.
    pub at: u64,
}

/// A fault that was made to happen.
#[derive(Clone, Debug, Serialize)]
pub struct Inflicted {
    /// When, in milliseconds since the epoch.
    pub at: u64,
    /// For whom.
    pub scope: Scope,
    /// What.
    pub fault: Fault,
    /// For how long.
    pub lasting: Lasting,
    /// How many live connections it struck at once.
    pub struck: usize,
}

/// A typing notice a client sent.
#[derive(Clone, Debug, Serialize)]
pub struct Typing {
    /// Who types.
    pub device: DeviceKey,
    /// Where.
    #[serde(serialize_with = "as_text")]
    pub chat: Jid,
    /// `composing`, `recording` or `paused`.
    pub state: String,
}

impl fmt::Display for SentMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, kind, chat, text, .. } = self;
        write!(f, "{kind} {id} to {chat}")?;
        text.as_ref().map_or(Ok(()), |text| write!(f, " {text:?}"))
    }
}

fn as_text<S: serde::Serializer>(jid: &Jid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(jid)
}

#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn as_optional_text<S: serde::Serializer>(
    jid: &Option<Jid>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    jid.as_ref().map(ToString::to_string).serialize(serializer)
}
