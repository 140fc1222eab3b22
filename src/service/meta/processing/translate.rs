//! From what Meta told to what follows from it: a pure function.

use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    meta::event,
    state::{Direction, MessageStatus},
};

use crate::{
    event::{Call, NewMessage},
    meta::{self, Told, Unreadable},
    store::{
        contacts::Person,
        meta::{Effect, Exchanged},
        statuses::NewStatus,
    },
};

/// What follows from what an item tells. `row` is what is known of it, `now` what time it is.
pub(super) fn effect(
    told: Result<Told, Unreadable>,
    row: &event::Model,
    now: UnixMillis,
) -> Result<Effect, &'static str> {
    Ok(match told.map_err(|Unreadable(why)| why)? {
        Told::Message(message) => Effect::Message(Box::new(exchanged(*message, row, now))),
        Told::Echo(message) => Effect::Past(vec![exchanged(*message, row, now)]),
        Told::History(messages, unread) => {
            if unread > 0 {
                tracing::warn!(meta.event = %row.id, unread, "Messages of the past cannot be read");
            }
            Effect::Past(messages.into_iter().map(|it| exchanged(it, row, now)).collect())
        }
        Told::Status(status) => {
            let meta::Status {
                wa_id,
                word,
                level,
                person,
                group,
                participant,
                at,
                error,
                pricing,
                callback,
            } = *status;
            let ours = callback.and_then(|id| id.parse().ok());
            let status = NewStatus {
                wa_id,
                word,
                level,
                participant: participant.unwrap_or_default(),
                at: at.unwrap_or(row.event_ts),
                error,
                pricing,
            };
            Effect::Status { status: Box::new(status), person: person.into(), group, ours }
        }
        Told::Call(call) => {
            let at = call.at.unwrap_or(row.event_ts);
            let stage = stage(&call.event);
            let of =
                Call { id: call.id, from: String::new(), video: false, group: false, stage, at };
            Effect::Call { call: of, person: call.person.into() }
        }
        Told::People(people) => {
            Effect::People(people.into_iter().map(|(it, gone)| (it.into(), gone)).collect())
        }
        Told::Other { field, value } => Effect::Note { name: format!("meta.{field}"), data: value },
    })
}

fn exchanged(message: meta::Message, row: &event::Model, now: UnixMillis) -> Exchanged {
    let meta::Message {
        wa_id,
        person,
        group,
        is_own,
        kind,
        body,
        interaction,
        target,
        at,
        renamed,
        level,
        raw,
    } = message;
    let renamed = renamed.map(|it| (it.to.into(), it.no_longer.into()));
    let message = NewMessage {
        id: MessageId::new(now, in_order(rand::random())),
        wa_id,
        chat: String::new(),
        sender: String::new(),
        direction: if is_own { Direction::Outbound } else { Direction::Inbound },
        kind,
        body,
        target_wa_id: target,
        interaction,
        raw: Some(raw.into_bytes()),
        push_name: person.name.clone().filter(|_| !is_own),
        // What is ahead of us is a clock that is wrong.
        sent_at: at.unwrap_or(row.event_ts).min(now),
        is_group: group.is_some(),
        offline: false,
        status: if is_own { MessageStatus::Sent } else { MessageStatus::Received },
    };
    Exchanged { message, person: person.into(), group, renamed, level }
}

impl From<meta::Person> for Person {
    fn from(meta::Person { ids, name, username }: meta::Person) -> Self {
        Self { ids, name, username }
    }
}

/// What events call the stage of a call.
fn stage(word: &str) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "connect" | "ringing" => "offer",
        "accepted" | "accept" => "accept",
        "rejected" | "reject" => "reject",
        "missed" => "missed",
        _ => "terminate",
    }
}
