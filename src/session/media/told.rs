//! What a client elsewhere says of the file of a message. The file itself is there, and nothing says where.

use entity::kind::MessageKind;
use serde::{Deserialize, Serialize};

use super::{Media, MediaKind};

/// What is kept with a message of a session that runs elsewhere, where others have what came from WhatsApp: sealed, as
/// a file's name is for nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ToldMedia {
    pub mimetype: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    pub file_name: Option<String>,
    /// Pixels.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub seconds: Option<u32>,
    pub is_voice: bool,
    pub is_view_once: bool,
}

impl ToldMedia {
    /// As it is kept: JSON, which never looks like a message of WhatsApp's.
    pub fn to_raw(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was kept so; none of anything else.
    pub(in crate::session) fn read(raw: &[u8], kind: MessageKind) -> Option<Media> {
        let kind = match kind {
            MessageKind::Image => MediaKind::Image,
            MessageKind::Video => MediaKind::Video,
            MessageKind::Audio => MediaKind::Audio,
            MessageKind::Document => MediaKind::Document,
            MessageKind::Sticker => MediaKind::Sticker,
            _ => return None,
        };
        let told: Self = serde_json::from_slice(raw).ok()?;
        Some(Media {
            mimetype: told.mimetype,
            size: told.size,
            file_name: told.file_name,
            width: told.width,
            height: told.height,
            seconds: told.seconds,
            is_voice: told.is_voice,
            is_view_once: told.is_view_once,
            ..Media::of_kind(kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_a_file_is_read_again_and_says_not_where_it_is() {
        let told = ToldMedia {
            mimetype: Some("application/pdf".to_owned()),
            size: Some(48_213),
            file_name: Some("Bill.pdf".to_owned()),
            ..ToldMedia::default()
        };
        let raw = told.to_raw();
        let media = ToldMedia::read(&raw, MessageKind::Document).unwrap();
        assert_eq!((media.kind, media.size), (MediaKind::Document, Some(48_213)));
        assert_eq!(media.file_name.as_deref(), Some("Bill.pdf"));
        assert_eq!(media.sha256(), None);
        assert_eq!(ToldMedia::read(&raw, MessageKind::Text), None);
        // What comes from WhatsApp is no JSON, and this is nothing that WhatsApp sends.
        assert_eq!(ToldMedia::read(&[0x0a, 2, b'h', b'i'], MessageKind::Document), None);
        assert_eq!(crate::session::client::media::read(&raw), None);
    }
}
