//! What the status webhook is told, in the words of the seeds: a pure function.

use entity::UnixMillis;
use serde_json::{Map, Value};

use super::{
    data::LONGEST_ID,
    members::{Faults, Members},
    post::{LONGEST_NAME, Post, blank, linked_to, phone_number},
};
use crate::{
    event::{ClientState, Event, Report, Reported},
    service::FieldError,
};

/// Reads a post of the status webhook: what the session is called where it runs, and what is told of it.
pub(super) fn read(
    body: &Map<String, Value>,
    now: UnixMillis,
) -> Result<(String, Post), Vec<FieldError>> {
    let faults = Faults::default();
    let members = Members::new(body, &faults);
    let id = members.need("sessionId", members.text("sessionId", 1..=LONGEST_ID)).filter(|id| {
        let is_text = !id.chars().any(char::is_control);
        if !is_text {
            members.fault::<()>("sessionId", "must have no control characters");
        }
        is_text
    });
    let word = members.need("status", members.text("status", 1..=LONGEST_NAME));
    let number = phone_number(&members, "phoneNumber");
    let said_at = members.written_moment("timestamp");
    let event = word.as_deref().and_then(|word| {
        told_by(word, number).or_else(|| {
            members.fault("status", "must be `connected`, `disconnected`, `reconnecting`, or a status or state that sessions have")
        })
    });
    let read = id
        .zip(word)
        .zip(event)
        .map(|((id, name), event)| (id, Post { event: Some(event), ..blank(name, said_at, now) }));
    faults.settle(read)
}

/// What a status tells: the words of the seeds, and those of whatsapp-web.js.
fn told_by(word: &str, phone_number: Option<String>) -> Option<Event> {
    let what = match word.to_ascii_lowercase().as_str() {
        "connected" | "session_connected" | "ready" => {
            return Some(Event::Ready(linked_to(phone_number, None)));
        }
        "loading" | "authenticated" => return Some(Event::Authenticated),
        "disconnected" | "session_not_connected" => {
            Reported::Disconnected { reason: word.to_owned() }
        }
        "auth_failure" => Reported::AuthFailure { msg: "WhatsApp refused the session".to_owned() },
        // There is a code to scan, which did not come along.
        "qr_generated" => Reported::State(ClientState::Pairing),
        _ => Reported::State(ClientState::of_word(word)?),
    };
    Some(Event::Reported(Report { what, phone_number }))
}
