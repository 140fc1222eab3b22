//! What webhook endpoints may be told of an event.

use entity::{event, session};

use super::NewEvent;
use crate::{event::Event, store::webhooks::Told, webhook::EventType};

/// An event that is new, as endpoints may be told of it.
pub(super) fn to_tell(
    event: &NewEvent,
    row: &event::Model,
    session: Option<&session::Model>,
) -> Told {
    let chat = match &event.event {
        Event::Message(message) => message.chat.as_str(),
        Event::Ack(ack) => ack.chat.as_str(),
        Event::Call(call) => call.from.as_str(),
        Event::Group(change) => change.chat.as_str(),
        _ => "",
    };
    Told {
        id: row.id.clone(),
        organization_id: row.organization_id.clone(),
        seq: row.seq,
        kind: EventType::of(&event.event),
        session_key: Some(row.session_key.clone()),
        session_id: session.map(|session| session.session_id.to_string()),
        phone_number: session.and_then(|session| session.phone_number.clone()),
        conversation: format!("{}:{chat}", row.session_key),
        payload: row.payload.clone(),
        occurred_at: row.occurred_at,
        about: None,
        in_feed: false,
    }
}
