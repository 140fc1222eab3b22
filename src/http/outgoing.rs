//! What webhook receivers get, as the OpenAPI document describes it: the bodies are made by what makes those that are sent.

use entity::{
    UnixMillis,
    id::{EventId, OrganizationId},
    webhook::{event, state::Format},
};
use serde_json::{Map, Value, json};

use super::operation::Tag;
use crate::webhook::{
    EventType,
    body::body,
    catalogue::{example, schema},
};

/// When the events of the examples happened.
const AT: UnixMillis = UnixMillis(1_762_352_580_123);

/// The document's `webhooks`.
pub(super) fn webhooks() -> Value {
    let examples = EventType::ALL.iter().map(|kind| {
        let shown =
            json!({ "summary": kind.description(), "value": made(Format::Envelope, *kind) });
        (kind.name().to_owned(), shown)
    });
    let envelopes: Vec<_> = EventType::ALL.iter().map(|kind| envelope(*kind)).collect();
    let event = content(&json!({ "oneOf": envelopes }), &examples.collect());
    let example = json!({
        "summary": EventType::MessageReceived.description(),
        "value": made(Format::Flat, EventType::MessageReceived),
    });
    let name = EventType::MessageReceived.name().to_owned();
    let message = content(&flat(), &Map::from_iter([(name, example)]));
    json!({
        "event": { "post": told(
            "tellEvent",
            "An event, as endpoints of the format `envelope` are told of it",
            "Of any type that the endpoint has chosen; `GET /api/webhooks/event-types` has them all, with schemas of their `data`.",
            &event,
        ) },
        "message": { "post": told(
            "tellMessage",
            "A message, as endpoints of the format `flat` are told of it",
            "What `POST /api/webhooks/register` makes is told of messages so: one object each, people by their number.",
            &message,
        ) },
    })
}

fn told(id: &str, summary: &str, about: &str, content: &Value) -> Value {
    json!({
        "operationId": id,
        "tags": [Tag::Webhooks.name()],
        "summary": summary,
        "description": format!(
            "{about}\n\nIt is signed as Standard Webhooks says: verify the signature over the bytes as they came, before anything is read. \
             Anything but a 2xx in time is a failed attempt, which comes again with the same `webhook-id`; so what came before is to be \
             recognised by that, and answered like the first. Members are added in the course of time."
        ),
        "parameters": [
            header("webhook-id", "Which event it is: the same for every attempt, and the `id` of the envelope.", &json!({ "type": "string" }), &id_of_example()),
            header("webhook-timestamp", "When this attempt was made, in seconds since 1970: what is far from now is to be refused.", &json!({ "type": "string", "pattern": "^[0-9]+$" }), "1762352581"),
            header(
                "webhook-signature",
                "`v1,` and base64 of the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}`, keyed with what stands behind `whsec_` in the \
                 endpoint's secret, decoded. While an old secret is still good there are several, with spaces between.",
                &json!({ "type": "string", "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$" }),
                "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            ),
        ],
        "requestBody": { "required": true, "content": content },
        "responses": {
            "2XX": { "description": "It is taken, and not told again. The answer's body is kept in part, for people to read." },
            "410": { "description": "The receiver is gone: the endpoint is disabled." },
            "default": { "description": "It is told again later. After 429 and 503 not before `Retry-After` has passed." },
        },
        "security": [],
    })
}

fn header(name: &str, about: &str, schema: &Value, example: &str) -> Value {
    json!({
        "name": name, "in": "header", "required": true,
        "description": about, "schema": schema, "example": example,
    })
}

fn content(schema: &Value, examples: &Map<String, Value>) -> Value {
    json!({ "application/json": { "schema": schema, "examples": examples } })
}

/// The schema of what endpoints are told of events of this type.
fn envelope(kind: EventType) -> Value {
    json!({
        "type": "object",
        "title": kind.name(),
        "properties": {
            "type": { "type": "string", "const": kind.name() },
            "timestamp": { "type": "string", "format": "date-time" },
            "id": { "type": "string" },
            "sequence": { "type": "integer" },
            "client_id": { "type": "integer" },
            "session_id": { "type": ["string", "null"] },
            "data": data(kind),
        },
        "required": ["type", "timestamp", "id", "sequence", "client_id", "session_id", "data"],
    })
}

/// The schema of their `data`, as a part of another.
fn data(kind: EventType) -> Value {
    let mut schema = schema(kind);
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    schema
}

/// The schema of the flat object.
fn flat() -> Value {
    json!({
        "type": "object",
        "properties": {
            "client_id": { "type": "integer" },
            "message_id": { "type": ["string", "null"] },
            "from": { "type": ["string", "null"] },
            "to": { "type": ["string", "null"] },
            "timestamp": { "type": "string", "format": "date-time" },
            "type": { "type": ["string", "null"] },
            "content": { "type": ["string", "null"] },
            "metadata": {
                "type": "object",
                "properties": {
                    "event_id": { "type": "string" },
                    "event_type": { "type": "string" },
                    "sequence": { "type": "integer" },
                    "session_id": { "type": "string" },
                    "wa_message_id": { "type": "string" },
                    "gateway_message_id": { "type": "string" },
                    "interaction": { "type": "object" },
                    "chat": { "type": "string" },
                    "from_me": { "type": "boolean" },
                    "is_group": { "type": "boolean" },
                    "push_name": { "type": "string" },
                    "target_id": { "type": "string" },
                    "offline": { "type": "boolean" },
                    "channel": { "type": "string" },
                },
                "required": ["event_id", "event_type", "sequence"],
            },
        },
        "required": ["client_id", "message_id", "from", "to", "timestamp", "type", "content", "metadata"],
    })
}

/// The body that tells of the catalogue's example.
fn made(format: Format, kind: EventType) -> Value {
    let event = event::Model {
        id: EventId::new(AT, 7),
        organization_id: OrganizationId::new(AT, 1),
        seq: 42,
        event_type: kind.name().to_owned(),
        session_key: None,
        session_id: Some("shop".to_owned()),
        conversation: String::new(),
        payload: example(kind).to_string(),
        occurred_at: AT,
        in_feed: false,
    };
    // Written a moment ago: nothing in it can fail to be read.
    serde_json::from_slice(&body(format, &event, 1)).unwrap_or_default()
}

fn id_of_example() -> String {
    EventId::new(AT, 7).to_string()
}
