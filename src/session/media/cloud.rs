//! What Meta says of the file of a message to a number there.

use entity::kind::MessageKind;
use serde_json::Value;

use super::{Media, MediaKind};

/// Where a file is, for whoever has the account's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtMeta {
    /// Meta's id of it: it is good for some days.
    pub id: String,
    pub sha256: Option<[u8; 32]>,
}

/// Reads it from the message as Meta told it: JSON. None if it says nothing of a file; a hash is read by `hash`.
pub(super) fn read(
    raw: &[u8],
    kind: MessageKind,
    hash: impl Fn(&str) -> Option<[u8; 32]>,
) -> Option<Media> {
    let kind = match kind {
        MessageKind::Image => MediaKind::Image,
        MessageKind::Video => MediaKind::Video,
        MessageKind::Audio => MediaKind::Audio,
        MessageKind::Document => MediaKind::Document,
        MessageKind::Sticker => MediaKind::Sticker,
        _ => return None,
    };
    let message: Value = serde_json::from_slice(raw).ok()?;
    let word = message.get("type").and_then(Value::as_str)?;
    let part = message.get(word).filter(|it| it.is_object())?;
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    let is_id = |it: &&str| {
        (1..=128).contains(&it.len())
            && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let number = part.get("id").and_then(Value::as_u64).map(|id| id.to_string());
    let id = text("id").filter(is_id).map(str::to_owned).or(number);
    let short = |it: &str| it.chars().filter(|it| !it.is_control()).take(255).collect::<String>();
    Some(Media {
        mimetype: text("mime_type").map(short),
        file_name: text("filename").map(short),
        is_voice: part.get("voice").and_then(Value::as_bool) == Some(true),
        at_meta: id.map(|id| AtMeta { id, sha256: text("sha256").and_then(hash) }),
        ..Media::of_kind(kind)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(message: &Value, kind: MessageKind) -> Option<Media> {
        read(message.to_string().as_bytes(), kind, |text| (text == "hash").then_some([7; 32]))
    }

    #[test]
    fn a_file_is_described_as_meta_describes_it() {
        let told = json!({
            "from": "1", "id": "wamid.1", "type": "document",
            "document": { "id": "2754859441498128", "mime_type": "application/pdf", "filename": "Bill.pdf", "sha256": "hash" },
        });
        let media = of(&told, MessageKind::Document).unwrap();
        assert_eq!(media.file_name.as_deref(), Some("Bill.pdf"));
        assert_eq!(media.sha256(), Some(&[7; 32]));
        assert_eq!(media.at_meta.as_ref().unwrap().id, "2754859441498128");
        assert!(media.is_somewhere());
        assert_eq!(of(&told, MessageKind::Text), None);
    }

    #[test]
    fn an_id_that_would_lead_elsewhere_is_none() {
        for id in [json!("../me"), json!("1?x=1"), json!(""), json!("a/b"), json!({})] {
            let told = json!({ "type": "image", "image": { "id": id, "mime_type": "image/png" } });
            let media = of(&told, MessageKind::Image).unwrap();
            assert!(!media.is_somewhere(), "{media:?}");
        }
        assert_eq!(of(&json!({ "type": "image" }), MessageKind::Image), None);
    }
}
