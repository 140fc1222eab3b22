//! An example and a schema of every type of event: what the catalogue shows and tests send.

use serde_json::{Value, json};

use super::EventType;

/// The `data` of an event of this type.
pub fn example(kind: EventType) -> Value {
    match kind {
        EventType::MessageReceived => json!({ "message": message(false) }),
        EventType::MessageCreated => json!({ "message": message(true) }),
        EventType::MessageSent => ack(1),
        EventType::MessageAck => ack(3),
        EventType::Call => json!({ "call": {
            "id": "0A1B2C3D4E5F", "from": "15550100300@c.us", "isVideo": false, "isGroup": false,
            "stage": "offer", "timestamp": 1_762_352_580, "channel": "embedded",
        } }),
        EventType::GroupJoined => group("add", None),
        EventType::GroupLeft => group("remove", None),
        EventType::GroupUpdated => group("subject", Some("Orders")),
        EventType::Unknown => {
            json!({ "event": "media_uploaded", "data": { "message": { "id": "3EB0C767D26A1D2E8A43" } } })
        }
        EventType::SessionQr => {
            json!({ "qr": "2@example", "qrExpiresAt": "2025-11-05T14:24:00.000Z" })
        }
        EventType::SessionAuthenticated => json!({}),
        EventType::SessionLoadingScreen => {
            json!({ "percent": 40, "message": "Loading your chats" })
        }
        EventType::SessionReady => json!({ "phoneNumber": "15550100200", "pushName": "Shop" }),
        EventType::SessionChangeState => json!({
            "state": "reconnecting", "reason": "connection_lost",
            "message": "The connection was lost", "code": null,
            "nextAttemptAt": "2025-11-05T14:24:00.000Z",
        }),
        EventType::SessionDisconnected => json!({
            "reason": "logged_out", "message": "Logged out on the phone", "code": null,
            "nextAttemptAt": null,
        }),
        EventType::SessionAuthFailure => json!({
            "msg": "WhatsApp has banned the account", "reason": "banned", "code": 402,
            "until": "2025-11-06T14:24:00.000Z", "nextAttemptAt": null,
        }),
        EventType::SessionPairingCode => {
            json!({ "expiresAt": "2025-11-05T14:26:00.000Z", "qrExhausted": false })
        }
        EventType::SessionPairingFailed => json!({
            "reason": "rate_limited", "message": "WhatsApp wants fewer pairings", "code": 429,
        }),
        EventType::SessionPasskeyRequested => json!({
            "reason": "passkey_required", "message": "WhatsApp asks for a passkey",
        }),
        EventType::SessionAccountChanged => json!({ "phoneNumber": "15550100400" }),
        EventType::SessionCreated => session("shop", Some("15550100200")),
        EventType::SessionDeleted => session("shop", None),
        EventType::SessionMigrated => json!({
            "sessionId": "shop", "reason": "handed_over",
            "message": "Another session of the account has taken over",
            "migratedTo": "shop-2", "phoneNumber": "15550100200",
        }),
        EventType::MetaAccountSilent | EventType::MetaAccountRecovered => json!({
            "accountId": "mac_01JBXQK7G0000000000000000", "label": "Support",
            "phoneNumberId": "106540352242922", "displayPhoneNumber": "15550783881",
            "wabaId": "102290129340398", "silentSince": "2025-11-04T14:23:00.000Z",
            "appSubscribed": (kind == EventType::MetaAccountSilent).then_some(false),
        }),
        EventType::EndpointFailing => endpoint("active", None, 10),
        EventType::EndpointRecovered => endpoint("active", None, 0),
        EventType::EndpointDisabled => endpoint("disabled", Some("failing"), 250),
        EventType::DeliveryExhausted => endpoint("active", None, 4),
    }
}

/// JSON Schema (2020-12) of the `data` of an event of this type.
///
/// Members that may be `null` or missing are named here; the rest follows from the example. Members are added
/// in the course of time, so none is forbidden.
pub fn schema(kind: EventType) -> Value {
    let mut schema = schema_of(&example(kind), may_be_missing(kind));
    if kind == EventType::Unknown {
        // Whatever it is.
        schema["properties"]["data"] = json!({});
    }
    if matches!(kind, EventType::GroupJoined | EventType::GroupLeft | EventType::GroupUpdated) {
        for name in ["id", "type"] {
            schema["properties"]["group"]["properties"][name] =
                json!({ "type": ["string", "null"] });
        }
    }
    if matches!(kind, EventType::MessageReceived | EventType::MessageCreated) {
        // Of what came by Meta's Cloud API, and says more than a text: Meta's own object.
        schema["properties"]["message"]["properties"]["interaction"] = json!({ "type": "object" });
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = kind.name().into();
    schema["description"] = kind.description().into();
    schema
}

/// Members that are texts, or numbers, or yes or no, or nothing.
const NULLABLE_TEXTS: [&str; 23] = [
    "author",
    "body",
    "by",
    "description",
    "disabledReason",
    "displayPhoneNumber",
    "error",
    "failingSince",
    "label",
    "lastSuccessAt",
    "migratedTo",
    "nextAttemptAt",
    "phoneNumber",
    "pushName",
    "reason",
    "message",
    "targetId",
    "to",
    "until",
    "from",
    "qr",
    "userId",
    "wabaId",
];
const NULLABLE_NUMBERS: [&str; 1] = ["code"];
const NULLABLE_FLAGS: [&str; 1] = ["appSubscribed"];

/// Members that are left out where there is nothing to say.
const fn may_be_missing(kind: EventType) -> &'static [&'static str] {
    match kind {
        // Of a message that cannot be read, so far, all is told but what it says.
        EventType::MessageReceived | EventType::MessageCreated => {
            &["body", "messageId", "targetId", "pushName"]
        }
        // Earlier ones have none.
        EventType::MessageSent | EventType::MessageAck => &["messageId", "channel"],
        EventType::Call => &["channel"],
        EventType::MetaAccountSilent | EventType::MetaAccountRecovered => &["appSubscribed"],
        EventType::SessionChangeState => &["reason", "message", "code", "nextAttemptAt"],
        _ => &[],
    }
}

fn schema_of(example: &Value, may_be_missing: &[&str]) -> Value {
    match example {
        Value::Object(members) => {
            let properties = members.iter().map(|(name, value)| {
                let schema = match value {
                    Value::Object(_) => schema_of(value, may_be_missing),
                    _ if NULLABLE_TEXTS.contains(&name.as_str()) => {
                        json!({ "type": ["string", "null"] })
                    }
                    _ if NULLABLE_NUMBERS.contains(&name.as_str()) => {
                        json!({ "type": ["integer", "null"] })
                    }
                    _ if NULLABLE_FLAGS.contains(&name.as_str()) => {
                        json!({ "type": ["boolean", "null"] })
                    }
                    _ => schema_of(value, may_be_missing),
                };
                (name.clone(), schema)
            });
            let properties: serde_json::Map<_, _> = properties.collect();
            let required =
                properties.keys().filter(|name| !may_be_missing.contains(&name.as_str()));
            let required: Vec<_> = required.cloned().collect();
            json!({ "type": "object", "properties": properties, "required": required })
        }
        Value::String(_) => json!({ "type": "string" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Array(_) => json!({ "type": "array" }),
        Value::Null => json!({}),
    }
}

fn message(from_me: bool) -> Value {
    let (own, other) = ("15550100200@c.us", "15550100300@c.us");
    json!({
        "id": "3EB0C767D26A1D2E8A43",
        "messageId": "msg_01JBXQK7G0000000000000000",
        "body": "Hello from WhatsApp!",
        "type": "text",
        "from": if from_me { own } else { other },
        "to": if from_me { other } else { own },
        "chat": other,
        "author": null,
        "fromMe": from_me,
        "isGroup": false,
        "targetId": null,
        "pushName": "Ada",
        "timestamp": 1_762_352_580,
        "offline": false,
        "channel": "embedded",
    })
}

fn group(kind: &str, body: Option<&str>) -> Value {
    json!({ "group": {
        "id": "3EB0C767D26A1D2E8A43",
        "chat": "120363000000000001@g.us",
        "author": "15550100300@c.us",
        "participants": ["15550100400@c.us"],
        "type": kind,
        "body": body,
        "timestamp": 1_762_352_580,
    } })
}

fn ack(level: i16) -> Value {
    json!({
        "message": {
            "id": "3EB0C767D26A1D2E8A43", "messageId": "msg_01JBXQK7G0000000000000000",
            "to": "15550100300@c.us", "fromMe": true,
        },
        "ack": level, "by": "15550100300@c.us", "error": null, "timestamp": 1_762_352_580,
        "channel": "embedded",
    })
}

fn session(id: &str, phone_number: Option<&str>) -> Value {
    json!({ "sessionId": id, "userId": "user-1", "phoneNumber": phone_number })
}

fn endpoint(state: &str, reason: Option<&str>, failures: i32) -> Value {
    json!({
        "endpointId": "ep_01JBXQK7G00000000000000000",
        "url": "https://example.com/receive",
        "description": "Orders",
        "state": state,
        "disabledReason": reason,
        "consecutiveFailures": failures,
        "failingSince": (failures > 0).then_some("2025-11-05T14:23:00.000Z"),
        "lastSuccessAt": "2025-11-05T14:22:00.000Z",
    })
}
