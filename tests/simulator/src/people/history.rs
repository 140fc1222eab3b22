//! The past of an account, as its phone hands it to a companion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One chunk of history. A phone sends several, one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// What the chunk is for.
    pub kind: HistoryKind,
    /// Conversations.
    pub chats: Vec<HistoryChat>,
    /// Names that people gave themselves, by phone number.
    pub push_names: BTreeMap<String, String>,
    /// How far the whole transfer is, in percent.
    pub progress: Option<u32>,
    /// The chunk's place among those of its kind.
    pub chunk: Option<u32>,
    /// How it gets to the client.
    pub carriage: Carriage,
}

/// What a chunk of history is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The newest messages of every chat, right after pairing.
    #[default]
    InitialBootstrap,
    /// Status updates.
    InitialStatusV3,
    /// Everything.
    Full,
    /// The last months.
    Recent,
    /// Names only.
    PushName,
    /// Settings and the like, which nobody waits for.
    NonBlockingData,
    /// What a client has asked for.
    OnDemand,
}

/// How a chunk gets to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carriage {
    /// Inside the notification.
    Inline,
    /// Encrypted, from the media host.
    #[default]
    Download,
    /// The same, with a byte of the blob changed on the way.
    Corrupted,
    /// As it was sealed, but what is sealed is not compressed history.
    Nonsense,
    /// The media host answers with this status instead.
    Missing(u16),
    /// The media host takes so many milliseconds to hand the blob over, piece by piece.
    Slow(u64),
}

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryChat {
    /// A phone number, or a group's address.
    pub with: String,
    /// What the phone calls it.
    pub name: Option<String>,
    /// Whether people are named by LID; the chunk says whose it is.
    pub by_lid: bool,
    /// Messages, the newest first.
    pub messages: Vec<HistoryMessage>,
    /// Older ones, made up while the chunk is written.
    pub generated: Option<Generated>,
}

/// A text message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryMessage {
    /// The message id.
    pub id: String,
    /// What it says.
    pub text: String,
    /// An image instead, of these bytes.
    #[serde(skip)]
    pub image: Option<Vec<u8>>,
    /// Whether the account wrote it.
    pub from_me: bool,
    /// In a group: who wrote it, by phone number.
    pub from: Option<String>,
    /// When, in seconds since the epoch.
    pub at: u64,
}

/// Messages that are made up: `count` of them, each a second older than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// How many.
    pub count: u32,
    /// Bytes of text in each.
    pub text_bytes: u32,
    /// When the newest was written, in seconds since the epoch.
    pub newest_at: u64,
}

impl History {
    /// An empty chunk.
    pub fn new(kind: HistoryKind, carriage: Carriage) -> Self {
        Self { kind, carriage, ..Self::default() }
    }

    /// With one more conversation.
    #[must_use]
    pub fn chat(mut self, chat: HistoryChat) -> Self {
        self.chats.push(chat);
        self
    }
}

impl HistoryChat {
    /// An empty conversation.
    pub fn with(with: impl Into<String>) -> Self {
        Self { with: with.into(), ..Self::default() }
    }

    /// With one more message of the other side.
    #[must_use]
    pub fn received(mut self, id: &str, text: &str, at: u64) -> Self {
        let (id, text) = (id.to_owned(), text.to_owned());
        self.messages.push(HistoryMessage { id, text, at, ..HistoryMessage::default() });
        self
    }

    /// With one more image of the other side.
    #[must_use]
    pub fn received_image(mut self, id: &str, image: Vec<u8>, at: u64) -> Self {
        let message = HistoryMessage {
            id: id.to_owned(),
            image: Some(image),
            at,
            ..HistoryMessage::default()
        };
        self.messages.push(message);
        self
    }

    /// With one more message of the account.
    #[must_use]
    pub fn sent(mut self, id: &str, text: &str, at: u64) -> Self {
        let (id, text) = (id.to_owned(), text.to_owned());
        let message = HistoryMessage { id, text, at, from_me: true, ..HistoryMessage::default() };
        self.messages.push(message);
        self
    }

    /// With so many made up, of so many bytes each.
    #[must_use]
    pub fn generated(mut self, count: u32, text_bytes: u32, newest_at: u64) -> Self {
        self.generated = Some(Generated { count, text_bytes, newest_at });
        self
    }
}
