//! Messages, readable or not, their acknowledgements, and calls, as events carry them.

use entity::{
    UnixMillis,
    id::MessageId,
    kind::{EventKind, MessageKind},
    message,
    state::{Direction, MessageStatus},
};

/// A message that is new to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    pub id: MessageId,
    /// WhatsApp's id of the message; unique within a chat and a sender.
    pub wa_id: String,
    /// The conversation's address, without device: `…@s.whatsapp.net`, `…@lid`, `…@g.us`.
    pub chat: String,
    /// The writer's address, without device.
    pub sender: String,
    pub direction: Direction,
    pub kind: MessageKind,
    /// Text, caption, emoji of a reaction, or what stands for it.
    pub body: Option<String>,
    /// WhatsApp's id of the message that a reaction, edit, revoke or reply is about.
    pub target_wa_id: Option<String>,
    /// Of one that came by Meta's Cloud API: what was chosen, ordered or shown in it, as JSON in Meta's words.
    pub interaction: Option<String>,
    /// The protobuf message as it came; of one that was posted, what is said of its file.
    pub raw: Option<Vec<u8>>,
    pub push_name: Option<String>,
    pub sent_at: UnixMillis,
    pub is_group: bool,
    /// Came from the server's offline queue.
    pub offline: bool,
    pub status: MessageStatus,
}

/// A message of the past: it is stored, and nobody is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryMessage {
    pub message: NewMessage,
    /// The highest level that it had reached, as [`AckLevel::level`] counts.
    pub ack: i16,
}

impl NewMessage {
    /// A message that is sent from here, as the event of its sending announces it.
    pub(crate) fn sent_here(row: message::Model) -> Self {
        Self {
            is_group: row.chat.ends_with("@g.us"),
            id: row.id,
            wa_id: row.wa_id,
            chat: row.chat,
            sender: row.sender,
            direction: Direction::Outbound,
            kind: row.kind,
            body: row.body,
            target_wa_id: row.target_wa_id,
            interaction: row.interaction,
            raw: None,
            push_name: None,
            sent_at: row.created_at,
            offline: false,
            status: MessageStatus::Sending,
        }
    }

    /// Makes of it what both databases keep, as [`super::Event::storable`] does.
    pub(crate) fn make_storable(&mut self) {
        let Self { wa_id, chat, sender, body, target_wa_id, push_name, .. } = self;
        super::make_names_storable([wa_id, chat, sender].into_iter().chain(target_wa_id));
        [body, push_name].into_iter().flatten().for_each(super::clear_nul);
    }

    /// What makes a redelivery recognisable: WhatsApp's id is unique only within chat and sender.
    pub fn dedupe_key(&self) -> String {
        message_key(&self.chat, &self.sender, &self.wa_id)
    }

    /// The event that announces it.
    pub fn event_kind(&self) -> EventKind {
        match self.direction {
            Direction::Inbound => EventKind::Message,
            Direction::Outbound => EventKind::MessageCreate,
        }
    }
}

pub(crate) fn message_key(chat: &str, sender: &str, wa_id: &str) -> String {
    format!("m:{chat}:{sender}:{wa_id}")
}

/// A message that could not be decrypted, so far. WhatsApp and its sender are asked for it again; what
/// comes of that is a message with the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// WhatsApp's id of the message.
    pub wa_id: String,
    /// The conversation's address, as in [`NewMessage::chat`].
    pub chat: String,
    /// The writer's address, without device.
    pub sender: String,
    pub direction: Direction,
    pub sent_at: UnixMillis,
    pub is_group: bool,
    pub offline: bool,
    /// Its sender gave this device nothing to decrypt, as with what may be viewed once.
    pub unavailable: bool,
}

impl Ciphertext {
    /// What [`Self::dedupe_key`] is never below, and always is. Their first letters differ, so that this holds
    /// in the order of any language: a database sorts as it was told to.
    pub(crate) const KEYS: (&str, &str) = ("u", "v");

    pub fn dedupe_key(&self) -> String {
        format!("u:{}:{}:{}", self.chat, self.sender, self.wa_id)
    }

    /// Chat, sender and WhatsApp's id, from a [`Self::dedupe_key`].
    pub(crate) fn parts(dedupe_key: &str) -> Option<(&str, &str, &str)> {
        let mut parts = dedupe_key.strip_prefix("u:")?.splitn(3, ':');
        Some((parts.next()?, parts.next()?, parts.next()?))
    }

    /// The key of the message itself, if it can be read after all.
    pub fn message_key(&self) -> String {
        message_key(&self.chat, &self.sender, &self.wa_id)
    }
}

/// How far an outbound message has come. The order of the variants is how much they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// It has not left yet. Only clients elsewhere say so, and of a message that is known it is no news.
    Pending,
    /// WhatsApp refused it.
    Error,
    /// WhatsApp's server has it.
    Sent,
    /// The recipient's device has it.
    Delivered,
    Read,
    Played,
}

impl AckLevel {
    /// The number that the API shows: -1 error, 0 pending, 1 sent, 2 delivered, 3 read, 4 played.
    pub const fn level(self) -> i16 {
        match self {
            Self::Error => -1,
            Self::Pending => 0,
            Self::Sent => 1,
            Self::Delivered => 2,
            Self::Read => 3,
            Self::Played => 4,
        }
    }

    /// What a number of the API says, if it says anything of what has become of the message.
    pub const fn of(level: i16) -> Option<Self> {
        match level {
            -1 => Some(Self::Error),
            1 => Some(Self::Sent),
            2 => Some(Self::Delivered),
            3 => Some(Self::Read),
            4 => Some(Self::Played),
            _ => None,
        }
    }

    /// The message status that goes with it.
    pub const fn status(self) -> MessageStatus {
        match self {
            Self::Error => MessageStatus::Failed,
            Self::Pending | Self::Sent => MessageStatus::Sent,
            Self::Delivered => MessageStatus::Delivered,
            Self::Read => MessageStatus::Read,
            Self::Played => MessageStatus::Played,
        }
    }
}

/// An acknowledgement of a message of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// WhatsApp's id of the message acknowledged.
    pub wa_id: String,
    /// The conversation, as the acknowledgement names it (it may say LID where we said PN).
    pub chat: String,
    /// Who acknowledged: the chat itself, or a member of a group.
    pub by: String,
    pub level: AckLevel,
    /// WhatsApp's error code, for [`AckLevel::Error`].
    pub error: Option<String>,
    pub at: UnixMillis,
}

impl Ack {
    /// The same acknowledgement twice is one event; in a group each member's is one of its own.
    pub fn dedupe_key(&self) -> String {
        format!("a:{}:{}:{}", self.wa_id, self.by, self.level.level())
    }
}

/// A call to the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub from: String,
    pub video: bool,
    pub group: bool,
    /// Stable word: `offer`, `accept`, `reject`, `terminate`, `missed`, `ended_elsewhere`.
    pub stage: &'static str,
    pub at: UnixMillis,
}

impl Call {
    pub fn dedupe_key(&self) -> String {
        format!("c:{}:{}", self.id, self.stage)
    }
}

/// The address as streams and webhooks write it: the seeds' `@c.us` for people, the rest unchanged.
pub fn public_address(jid: &str) -> String {
    match jid.strip_suffix("@s.whatsapp.net") {
        Some(user) => format!("{user}@c.us"),
        None => jid.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_written_as_the_seeds_write_them() {
        assert_eq!(public_address("6281234567890@s.whatsapp.net"), "6281234567890@c.us");
        assert_eq!(public_address("120363000000000001@g.us"), "120363000000000001@g.us");
        assert_eq!(public_address("100000000000001@lid"), "100000000000001@lid");
    }
}
