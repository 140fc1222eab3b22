//! Addresses and ids, as whatsapp-web.js and its like write them.

use serde_json::Value;

use crate::service::recipient;

/// The longest address, and the longest id, in bytes.
const LONGEST_ADDRESS: usize = 128;
const LONGEST_ID: usize = 256;

/// An address as messages keep it: `…@c.us` is `…@s.whatsapp.net` there, and no device is named.
pub(super) fn read(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Object(members) => members.get("_serialized")?.as_str()?,
        _ => return None,
    };
    parse(text)
}

fn parse(text: &str) -> Option<String> {
    if text.len() > LONGEST_ADDRESS {
        return None;
    }
    let Some((user, server)) = text.split_once('@') else {
        return recipient::phone_number(text).ok().map(|digits| format!("{digits}@s.whatsapp.net"));
    };
    let user = user.split(':').next().unwrap_or_default();
    let is_user = !user.is_empty()
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_server = !server.is_empty()
        && server.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'.' | b'-'));
    let server = if server == "c.us" { "s.whatsapp.net" } else { server };
    (is_user && is_server).then(|| format!("{user}@{server}"))
}

/// What WhatsApp calls a message, with what the client's form of it tells besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) id: String,
    pub(super) from_me: Option<bool>,
    /// The conversation.
    pub(super) chat: Option<String>,
}

impl Name {
    /// `"3EB0…"`, `"true_6281…@c.us_3EB0…"`, or an object with either. All are one id.
    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str);
                let mut id = Self::parse(text("id").or_else(|| text("_serialized"))?)?;
                let from_me = members.get("fromMe").and_then(Value::as_bool);
                let chat = members.get("remote").and_then(read);
                id.from_me = from_me.or(id.from_me);
                id.chat = chat.or(id.chat);
                Some(id)
            }
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let is_id = |text: &str| {
            (1..=LONGEST_ID).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        let mut parts = text.split('_');
        if let (Some(from_me @ ("true" | "false")), Some(chat), Some(id)) =
            (parts.next(), parts.next(), parts.next())
            && let Some(chat) = parse(chat)
            && is_id(id)
        {
            let from_me = Some(from_me == "true");
            return Some(Self { id: id.to_owned(), from_me, chat: Some(chat) });
        }
        is_id(text).then(|| Self { id: text.to_owned(), from_me: None, chat: None })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_person_has_one_address_however_it_is_written() {
        let person = Some("6281234567890@s.whatsapp.net".to_owned());
        for written in [
            json!("6281234567890@c.us"),
            json!("6281234567890@s.whatsapp.net"),
            json!("6281234567890:12@s.whatsapp.net"),
            json!("+62 812-3456-7890"),
            json!({ "server": "c.us", "user": "6281234567890", "_serialized": "6281234567890@c.us" }),
        ] {
            assert_eq!(read(&written), person, "{written}");
        }
        assert_eq!(read(&json!("1203@g.us")).as_deref(), Some("1203@g.us"));
        assert_eq!(read(&json!("status@broadcast")).as_deref(), Some("status@broadcast"));
        for wrong in
            [json!(7), json!(""), json!("@c.us"), json!("a@b@c"), json!("a b@c.us"), json!({})]
        {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_has_one_id_however_it_is_written() {
        let plain = Name::read(&json!("3EB0ABC")).unwrap();
        let serialized = Name::read(&json!("true_6281@c.us_3EB0ABC")).unwrap();
        let of_group = Name::read(&json!("false_1203@g.us_3EB0ABC_6281@c.us")).unwrap();
        let object = Name::read(&json!({
            "fromMe": true, "remote": "6281@c.us", "id": "3EB0ABC",
            "_serialized": "true_6281@c.us_3EB0ABC",
        }));
        for id in [&plain, &serialized, &of_group, object.as_ref().unwrap()] {
            assert_eq!(id.id, "3EB0ABC");
        }
        assert_eq!(object.as_ref(), Some(&serialized));
        assert_eq!((of_group.from_me, of_group.chat.as_deref()), (Some(false), Some("1203@g.us")));
        assert_eq!(Name::read(&json!("msg_123")).unwrap().id, "msg_123");
        assert_eq!(Name::read(&json!("true_x")).unwrap().id, "true_x");
        assert!(Name::read(&json!("")).is_none() && Name::read(&json!(5)).is_none());
    }
}
