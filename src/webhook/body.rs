//! The bytes of a request: the same for every attempt, as they depend on the event alone.

use entity::{
    UnixMillis,
    id::EventId,
    webhook::{event, state::Format},
};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::event::payload::{Timestamp, rfc3339};

/// What type of message one is that could not be read.
const UNREADABLE: &str = "ciphertext";

/// The body that tells of `event`, whose payload is open. `client_id` is its organization's number.
pub fn body(format: Format, event: &event::Model, client_id: i64) -> Vec<u8> {
    match format {
        Format::Envelope => envelope(event, client_id),
        Format::Flat => flat(event, client_id),
    }
}

fn envelope(event: &event::Model, client_id: i64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        r#type: &'a str,
        timestamp: Timestamp,
        id: &'a EventId,
        sequence: i64,
        client_id: i64,
        session_id: Option<&'a str>,
        data: Box<RawValue>,
    }
    let envelope = Envelope {
        r#type: &event.event_type,
        timestamp: rfc3339(event.occurred_at),
        id: &event.id,
        sequence: event.seq,
        client_id,
        session_id: event.session_id.as_deref(),
        // Written by us, as JSON; a row that somebody else broke is told of without its data.
        data: RawValue::from_string(event.payload.clone())
            .unwrap_or_else(|_| RawValue::NULL.to_owned()),
    };
    // Strings, numbers and JSON: nothing here can fail to be written.
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// Whether this is what endpoints are told of a message that could not be read: when it can be, they are told of it.
pub fn is_unreadable(payload: &str) -> bool {
    let data: Value = serde_json::from_str(payload).unwrap_or_default();
    data["message"]["type"] == UNREADABLE
}

/// One object per message, people by their number.
fn flat(event: &event::Model, client_id: i64) -> Vec<u8> {
    let data: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    let message = &data["message"];
    let text = |name: &str| message[name].as_str();
    let at = message["timestamp"].as_i64().map_or(event.occurred_at, UnixMillis::from_secs);
    // Who wrote it: in a group the chat is in the metadata.
    let from = text("author").or_else(|| text("from"));
    let mut metadata = Map::new();
    for (name, value) in [
        ("event_id", json!(event.id)),
        ("event_type", json!(event.event_type)),
        ("sequence", json!(event.seq)),
        ("session_id", json!(event.session_id)),
        ("wa_message_id", message["id"].clone()),
        ("gateway_message_id", message["messageId"].clone()),
        ("chat", message["chat"].clone()),
        ("from_me", message["fromMe"].clone()),
        ("is_group", message["isGroup"].clone()),
        ("push_name", message["pushName"].clone()),
        ("target_id", message["targetId"].clone()),
        ("interaction", message["interaction"].clone()),
        ("offline", message["offline"].clone()),
        ("channel", message["channel"].clone()),
    ] {
        if !value.is_null() {
            metadata.insert(name.to_owned(), value);
        }
    }
    let body = json!({
        "client_id": client_id,
        "message_id": message["id"],
        "from": from.map(number),
        "to": text("to").map(number),
        "timestamp": seconds(at),
        "type": message["type"],
        "content": message["body"],
        "metadata": metadata,
    });
    body.to_string().into_bytes()
}

/// A person's number; the whole address of what has none.
fn number(address: &str) -> &str {
    address.strip_suffix("@c.us").unwrap_or(address)
}

/// RFC 3339 to the second, as the flat body writes it: `2025-11-05T14:23:00Z`.
fn seconds(at: UnixMillis) -> String {
    OffsetDateTime::from_unix_timestamp(at.as_secs())
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| rfc3339(at).as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, payload: &Value) -> event::Model {
        event::Model {
            id: EventId::new(UnixMillis(1_762_352_580_000), 7),
            organization_id: entity::id::OrganizationId::new(UnixMillis(0), 1),
            seq: 42,
            event_type: event_type.to_owned(),
            session_key: None,
            session_id: Some("shop".to_owned()),
            conversation: String::new(),
            payload: payload.to_string(),
            occurred_at: UnixMillis(1_762_352_580_123),
            in_feed: false,
        }
    }

    #[test]
    fn a_message_is_the_flat_object_that_receivers_know() {
        let payload = json!({ "message": {
            "id": "3EB0", "messageId": "msg_1", "body": "Hello from WhatsApp!", "type": "text",
            "from": "5511999999999@c.us", "to": "5511888888888@c.us", "chat": "5511999999999@c.us",
            "author": null, "fromMe": false, "isGroup": false, "timestamp": 1_762_352_580,
            "channel": "embedded",
        } });
        let body = body(Format::Flat, &event("message.received", &payload), 1);
        let body: Value = serde_json::from_slice(&body).unwrap();
        insta::assert_json_snapshot!(body, @r#"
        {
          "client_id": 1,
          "content": "Hello from WhatsApp!",
          "from": "5511999999999",
          "message_id": "3EB0",
          "metadata": {
            "channel": "embedded",
            "chat": "5511999999999@c.us",
            "event_id": "evt_01K9A6CHD00000000000000007",
            "event_type": "message.received",
            "from_me": false,
            "gateway_message_id": "msg_1",
            "is_group": false,
            "sequence": 42,
            "session_id": "shop",
            "wa_message_id": "3EB0"
          },
          "timestamp": "2025-11-05T14:23:00Z",
          "to": "5511888888888",
          "type": "text"
        }
        "#);
    }

    #[test]
    fn what_could_not_be_read_is_known_by_its_type() {
        let of = |kind: &str| json!({ "message": { "id": "3EB0", "type": kind } }).to_string();
        assert!(is_unreadable(&of("ciphertext")));
        assert!(!is_unreadable(&of("text")));
        assert!(!is_unreadable("no JSON"));
    }

    #[test]
    fn anything_fits_into_the_envelope() {
        let payload = json!({ "phoneNumber": "5511999999999", "pushName": null });
        let body = body(Format::Envelope, &event("session.ready", &payload), 1);
        let body: Value = serde_json::from_slice(&body).unwrap();
        insta::assert_json_snapshot!(body, @r#"
        {
          "client_id": 1,
          "data": {
            "phoneNumber": "5511999999999",
            "pushName": null
          },
          "id": "evt_01K9A6CHD00000000000000007",
          "sequence": 42,
          "session_id": "shop",
          "timestamp": "2025-11-05T14:23:00.123Z",
          "type": "session.ready"
        }
        "#);
    }
}
