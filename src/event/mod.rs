//! What happened, in our words.
//!
//! Every fact, wherever it comes from, becomes an [`Event`]: an embedded client's events, and those
//! posted by sessions that run elsewhere. The same value then decides three things, each by a
//! pure function: the session's status ([`status::apply`]), what streams and webhooks are told
//! ([`payload`]), and what is stored besides.
//!
//! Nothing here reads a clock, a database or a socket.

pub mod care;
pub mod group;
pub mod group_change;
mod identifier;
pub mod message;
pub mod pairing;
pub mod payload;
pub mod reason;
pub mod report;
pub mod status;
pub mod whose;

use entity::{UnixMillis, kind::EventKind};

pub use care::{Care, LASTING};
pub use group::Group;
pub use group_change::{GroupChange, GroupTurn};
pub use identifier::identifier;
pub(crate) use message::message_key;
pub use message::{Ack, AckLevel, Call, Ciphertext, HistoryMessage, NewMessage};
pub use pairing::PairingFailure;
pub use reason::{AuthFailure, Disconnect, Loss};
pub use report::{ClientState, Report, Reported};

/// Something that happened on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pairing code to show as a QR image. It holds a secret of the pairing.
    Qr { qr: String, expires_at: UnixMillis },
    /// The phone accepted the pairing.
    Authenticated,
    /// Catching up before it is ready; `percent` is 0 to 100.
    LoadingScreen { percent: u8, message: String },
    /// The phone hands over the account's past, and this much of it is here. The session is as ready
    /// as it was.
    HistoryProgress { percent: u8 },
    /// Connected and logged in.
    Ready(Account),
    /// The connection changed without ending for good.
    ChangeState(Change),
    /// An end that will not mend by itself.
    Disconnected(Disconnect),
    /// WhatsApp refused the pairing, the credentials or the client.
    AuthFailure(AuthFailure),
    /// A code to type on the phone was given. The code itself is for whoever asked for it. `is_last`: it was given
    /// before, and is all that is left, as the QR codes beside it are used up.
    PairingCode { expires_at: UnixMillis, is_last: bool },
    /// A try to pair did not come about; the session goes on.
    PairingFailed(PairingFailure),
    /// WhatsApp asks for the account owner's passkey to complete the pairing.
    PasskeyRequested,
    /// The session was linked to another account than the one it belonged to.
    AccountChanged(Account),
    /// A message, in or out.
    Message(Box<NewMessage>),
    /// A message that could not be decrypted, so far.
    Ciphertext(Ciphertext),
    /// An outbound message came further, or failed.
    Ack(Ack),
    /// A voice or video call.
    Call(Call),
    /// What a client that runs elsewhere says of its connection.
    Reported(Report),
    /// A group of the account was changed.
    Group(GroupChange),
    /// Something that a client which runs elsewhere, or Meta, has told, and that has no name here.
    Unknown { name: String, data: serde_json::Value },
}

/// The account that a session turned out to be linked to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Digits only, with country code.
    pub phone_number: Option<String>,
    pub push_name: Option<String>,
    /// `<digits>@s.whatsapp.net`
    pub jid: Option<String>,
    /// `<digits>@lid`
    pub lid: Option<String>,
}

/// How the connection changed, for [`Event::ChangeState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Dialling for the first time of this run.
    Connecting,
    /// The connection was lost and will be tried again, at once or at the time given.
    Reconnecting { reason: Loss, next_attempt_at: Option<UnixMillis> },
}

impl Change {
    /// The word that streams and webhooks use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Reconnecting { .. } => "reconnecting",
        }
    }
}

fn clear_nul(text: &mut String) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
}

fn make_names_storable<'a>(names: impl IntoIterator<Item = &'a mut String>) {
    for name in names {
        *name = identifier(name);
    }
}

impl Event {
    /// The same without what strangers can send and PostgreSQL does not keep, on both databases: in the
    /// place of NUL stands U+FFFD, and names that are too long for its indices are cut short
    /// ([`identifier()`]). A message's original is in its `raw`.
    #[must_use]
    pub fn storable(mut self) -> Self {
        let texts: Vec<&mut String> = match &mut self {
            Self::Qr { qr, .. } => vec![qr],
            Self::LoadingScreen { message, .. } => vec![message],
            Self::Ready(account) => {
                let Account { phone_number, push_name, jid, lid } = account;
                [phone_number, push_name, jid, lid].into_iter().flatten().collect()
            }
            Self::AuthFailure(AuthFailure::PairingRefused { detail, .. }) => vec![detail],
            Self::Message(message) => {
                message.make_storable();
                Vec::new()
            }
            Self::Ack(Ack { wa_id, chat, by, error, .. }) => {
                make_names_storable([wa_id, chat, by]);
                error.iter_mut().collect()
            }
            Self::Ciphertext(Ciphertext { wa_id, chat, sender, .. }) => {
                make_names_storable([wa_id, chat, sender]);
                Vec::new()
            }
            Self::Call(Call { id, from, .. }) => {
                make_names_storable([id, from]);
                Vec::new()
            }
            Self::Reported(Report { what, phone_number }) => {
                let text = match what {
                    Reported::State(_) => None,
                    Reported::Disconnected { reason } => Some(reason),
                    Reported::AuthFailure { msg } => Some(msg),
                };
                text.into_iter().chain(phone_number).collect()
            }
            Self::Group(GroupChange { id, chat, .. }) => {
                make_names_storable([chat].into_iter().chain(id));
                Vec::new()
            }
            _ => Vec::new(),
        };
        texts.into_iter().for_each(clear_nul);
        self
    }

    /// The name under which it is stored, streamed and delivered.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Qr { .. } => EventKind::Qr,
            Self::Authenticated => EventKind::Authenticated,
            Self::LoadingScreen { .. } | Self::HistoryProgress { .. } => EventKind::LoadingScreen,
            Self::Ready(_) => EventKind::Ready,
            Self::ChangeState(_) => EventKind::ChangeState,
            Self::Disconnected(_) => EventKind::Disconnected,
            Self::AuthFailure(_) => EventKind::AuthFailure,
            Self::PairingCode { .. } => EventKind::PairingCode,
            Self::PairingFailed(_) => EventKind::PairingFailed,
            Self::PasskeyRequested => EventKind::PasskeyRequested,
            Self::AccountChanged(_) => EventKind::AccountChanged,
            Self::Message(message) => message.event_kind(),
            Self::Ciphertext(_) => EventKind::MessageCiphertext,
            Self::Ack(_) => EventKind::MessageAck,
            Self::Call(_) => EventKind::Call,
            Self::Reported(report) => match report.what {
                Reported::State(_) => EventKind::ChangeState,
                Reported::Disconnected { .. } => EventKind::Disconnected,
                Reported::AuthFailure { .. } => EventKind::AuthFailure,
            },
            Self::Group(change) => change.turn.event_kind(),
            Self::Unknown { .. } => EventKind::Unknown,
        }
    }
}
