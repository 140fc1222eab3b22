//! What webhook endpoints may be told of an event.

use entity::{event, kind::EventKind, session};
use serde_json::Value;

use super::{NewEvent, present::Present};
use crate::{
    store::webhooks::Told,
    webhook::{EventType, conversation::conversation},
};

/// An event that is new, as endpoints may be told of it.
pub(super) fn to_tell(
    event: &NewEvent,
    row: &event::Model,
    data: &Value,
    present: &Present,
) -> Told {
    let session: Option<&session::Model> = present.sessions.get(&event.session_key);
    let acknowledged = present.acknowledged_chat(event);
    Told {
        id: row.id.clone(),
        organization_id: row.organization_id.clone(),
        seq: row.seq,
        kind: EventType::of(&event.event),
        session_key: Some(row.session_key.clone()),
        session_id: session.map(|session| session.session_id.to_string()),
        phone_number: session.and_then(|session| session.phone_number.clone()),
        conversation: conversation(&row.session_key, row.kind, data, acknowledged),
        payload: row.payload.clone(),
        occurred_at: row.occurred_at,
        about: None,
        in_feed: false,
        unreadable: row.kind == EventKind::MessageCiphertext,
    }
}
