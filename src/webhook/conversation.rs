//! Among which events an event keeps its order: its session, and the chat that it is about.

use entity::{id::SessionKey, kind::EventKind};
use serde_json::Value;

/// The conversation of an event, by its kind and `data`, as they are recorded: so it is the same whether
/// somebody is told at once, or by a replay long after.
///
/// `acknowledged` is the chat of the message that an acknowledgement is of, where it is known: the
/// acknowledgement itself may call the chat by another of its names.
pub fn conversation(
    session: &SessionKey,
    kind: EventKind,
    data: &Value,
    acknowledged: Option<&str>,
) -> String {
    let member = |pointer: &str| data.pointer(pointer).and_then(Value::as_str);
    let chat = match kind {
        EventKind::Message | EventKind::MessageCreate | EventKind::MessageCiphertext => {
            member("/message/chat")
        }
        EventKind::MessageAck => acknowledged.or_else(|| member("/message/to")),
        EventKind::Call => member("/call/from"),
        EventKind::GroupJoin | EventKind::GroupLeave | EventKind::GroupUpdate => {
            member("/group/chat")
        }
        _ => None,
    };
    let chat = chat.unwrap_or_default();
    // People are written in another way in `data` than in rows.
    match chat.strip_suffix("@c.us") {
        Some(user) => format!("{session}:{user}@s.whatsapp.net"),
        None => format!("{session}:{chat}"),
    }
}

/// WhatsApp's id of the message that an acknowledgement is of, by its `data`.
pub fn acknowledged(kind: EventKind, data: &Value) -> Option<&str> {
    match kind {
        EventKind::MessageAck => data.pointer("/message/id").and_then(Value::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_is_about_a_chat_is_of_its_conversation() {
        let session: SessionKey = SessionKey::new(entity::UnixMillis(0), 1);
        let of = |kind, data: Value| conversation(&session, kind, &data, None);
        let chat = format!("{session}:4911@s.whatsapp.net");
        let message = json!({ "message": { "chat": "4911@c.us", "to": "1@c.us" } });
        assert_eq!(of(EventKind::Message, message.clone()), chat);
        assert_eq!(of(EventKind::MessageCreate, message.clone()), chat);
        assert_eq!(of(EventKind::MessageCiphertext, message), chat);
        assert_eq!(of(EventKind::Call, json!({ "call": { "from": "4911@c.us" } })), chat);
        let group = format!("{session}:120363000000000001@g.us");
        let joined = json!({ "group": { "id": "x", "chat": "120363000000000001@g.us" } });
        assert_eq!(of(EventKind::GroupJoin, joined), group);
        assert_eq!(of(EventKind::Ready, json!({ "phoneNumber": "4911" })), format!("{session}:"));

        let ack = json!({ "message": { "id": "3EB0", "to": "1@lid" } });
        assert_eq!(of(EventKind::MessageAck, ack.clone()), format!("{session}:1@lid"));
        let known = Some("4911@s.whatsapp.net");
        assert_eq!(conversation(&session, EventKind::MessageAck, &ack, known), chat);
        assert_eq!(acknowledged(EventKind::MessageAck, &ack), Some("3EB0"));
    }
}
