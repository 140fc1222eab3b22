//! A file that somebody sends: how it is announced, and how good the media host is at handing it over.

use serde::{Deserialize, Serialize};

/// A file to be sent.
#[derive(Clone, Debug)]
pub struct MediaFile {
    /// How it is announced.
    pub kind: MediaKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the message calls its type.
    pub mimetype: Option<String>,
    /// What a document is called.
    pub name: Option<String>,
    /// Whether it may be opened once.
    pub view_once: bool,
    /// How it is handed over.
    pub delivery: MediaDelivery,
    /// What the message says instead of the truth about it.
    pub lie: MediaLie,
}

/// How a file is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// An image.
    Image,
    /// A video.
    Video,
    /// A voice note.
    Voice,
    /// A document.
    Document,
    /// A sticker.
    Sticker,
}

/// How the media host hands a file over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaDelivery {
    /// As it was uploaded.
    #[default]
    Whole,
    /// With a byte of it changed on the way.
    Corrupted,
    /// Without its end.
    Truncated,
    /// It answers with this status instead.
    Missing(u16),
    /// It sends who asks to this address.
    Elsewhere,
    /// It takes so many milliseconds, piece by piece.
    Slow(u64),
    /// It begins, and nothing follows.
    Stuck,
    /// It never ends.
    Endless,
}

/// What a message says that is not so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MediaLie {
    /// Nothing.
    #[default]
    None,
    /// So many bytes.
    Size(u64),
    /// Another hash of the file.
    Hash,
    /// That it is at this path.
    Path(String),
    /// That it is at this address, of the sender's own.
    Address(String),
}

impl MediaFile {
    /// A file of this kind, as people send them.
    pub fn new(kind: MediaKind, bytes: impl Into<Vec<u8>>) -> Self {
        let mimetype = match kind {
            MediaKind::Image => "image/jpeg",
            MediaKind::Video => "video/mp4",
            MediaKind::Voice => "audio/ogg; codecs=opus",
            MediaKind::Document => "application/pdf",
            MediaKind::Sticker => "image/webp",
        };
        Self {
            kind,
            bytes: bytes.into(),
            mimetype: Some(mimetype.to_owned()),
            name: None,
            view_once: false,
            delivery: MediaDelivery::Whole,
            lie: MediaLie::None,
        }
    }

    /// Called so.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Said to be of this type.
    #[must_use]
    pub fn of_type(mut self, mimetype: &str) -> Self {
        self.mimetype = Some(mimetype.to_owned());
        self
    }

    /// Handed over so.
    #[must_use]
    pub fn delivered(mut self, delivery: MediaDelivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// With something in the message that is not so.
    #[must_use]
    pub fn lying(mut self, lie: MediaLie) -> Self {
        self.lie = lie;
        self
    }

    /// To be opened once.
    #[must_use]
    pub fn view_once(mut self) -> Self {
        self.view_once = true;
        self
    }
}

/// A file that was sent.
#[derive(Clone, Debug)]
pub struct SentMedia {
    /// The message's id.
    pub id: String,
    /// Where it is at the media host.
    pub path: String,
}

/// What a phone does when a companion asks it to upload a file again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reupload {
    /// It does so.
    #[default]
    Upload,
    /// It says that it has lost it.
    Lost,
    /// It says nothing.
    Silent,
}
