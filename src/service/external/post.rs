//! From what a client elsewhere posts to events in our words: a pure function.

use entity::UnixMillis;
use serde_json::{Map, Value};

use super::{
    members::{Faults, Members},
    messages,
};
use crate::{
    event::{Account, Call, ClientState, Event, GroupChange, GroupTurn, Report, Reported},
    service::{FieldError, recipient},
};

/// The longest name of an event, and the longest of what a client says for people.
const LONGEST_NAME: usize = 128;
const LONGEST_TEXT: usize = 1024;

/// The longest pairing code: more does not fit into an image.
const LONGEST_QR: usize = 2048;

/// How long a code is good if its client does not say. A newer one comes before that.
const QR_LIFE: std::time::Duration = std::time::Duration::from_mins(1);

/// The most members of a group that a notice names.
const MOST_PARTICIPANTS: usize = 2048;

/// What a post comes to.
#[derive(Clone, Debug)]
pub(super) struct Post {
    /// The event's name, as the client has it.
    pub(super) name: String,
    /// What must have been before, if it is new to us.
    pub(super) before: Option<(UnixMillis, Event)>,
    /// What it tells; nothing if that is nothing.
    pub(super) event: Option<Event>,
    /// When it happened: by its own word, or just now.
    pub(super) at: UnixMillis,
    /// Whether it says when itself.
    pub(super) is_timed: bool,
}

/// Reads a post of the receiver.
pub(super) fn read(body: &Map<String, Value>, now: UnixMillis) -> Result<Post, Vec<FieldError>> {
    let faults = Faults::default();
    let members = Members::new(body, &faults);
    let name = members.need("event", members.text("event", 1..=LONGEST_NAME));
    let said_at = members.moment("timestamp");
    let none = Map::new();
    let data = if members.has("data") {
        members.object("data")
    } else {
        Some(Members::new(&none, &faults))
    };
    let post = name.zip(data).and_then(|(name, data)| {
        let said_at = said_at.or_else(|| data.moment("timestamp"));
        // What is ahead of us is a clock that is wrong, and would outlast everything that follows.
        let at = said_at.map_or(now, |at| at.min(now));
        let mut post = Post { name, before: None, event: None, at, is_timed: said_at.is_some() };
        let raw = body.get("data").cloned().unwrap_or(Value::Null);
        fill(&mut post, &data, raw, now)?;
        Some(post)
    });
    faults.settle(post)
}

/// Writes what `data` tells into the post. None when it cannot be read, for which there is a fault then.
fn fill(post: &mut Post, data: &Members<'_>, raw: Value, now: UnixMillis) -> Option<()> {
    let at = post.at;
    let event = match post.name.as_str() {
        "qr" => {
            let qr = data.need("qr", data.text("qr", 1..=LONGEST_QR))?;
            Event::Qr { qr, expires_at: at + QR_LIFE }
        }
        "authenticated" => Event::Authenticated,
        "ready" => Event::Ready(account(data)),
        "loading_screen" => {
            let percent = data.need("percent", data.number("percent", 0..=100));
            let message = data.text("message", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let message = message.unwrap_or_else(|| "Loading WhatsApp session".to_owned());
            Event::LoadingScreen { percent: u8::try_from(percent?).ok()?, message }
        }
        "change_state" => {
            let state = data.need("state", data.text("state", 1..=LONGEST_NAME))?;
            report(Reported::State(state_of(data, "state", &state)?))
        }
        "disconnected" => {
            let reason = data.text("reason", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let reason = reason.unwrap_or_else(|| "disconnected".to_owned());
            report(Reported::Disconnected { reason })
        }
        "auth_failure" => {
            let msg = data.text("msg", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let msg = msg.unwrap_or_else(|| "WhatsApp refused the session".to_owned());
            report(Reported::AuthFailure { msg })
        }
        "message" | "message_create" => {
            let message = data.need("message", data.object("message"))?;
            let own = post.name == "message_create";
            let message = messages::message(&message, own, (at, now))?;
            post.at = message.sent_at;
            Event::Message(Box::new(message))
        }
        "message_ack" => return messages::ack(post, data, now),
        "message_revoke" | "message_revoke_everyone" | "message_revoke_me" => {
            Event::Message(Box::new(messages::revoke(data, (at, now))?))
        }
        "message_reaction" => Event::Message(Box::new(messages::reaction(data, (at, now))?)),
        "call" | "incoming_call" => call(data, (at, now))?,
        "group_join" => group(data, GroupTurn::Joined, post, now)?,
        "group_leave" => group(data, GroupTurn::Left, post, now)?,
        "group_update" => group(data, GroupTurn::Updated, post, now)?,
        name => Event::Unknown { name: name.to_owned(), data: raw },
    };
    post.event = Some(event);
    Some(())
}

fn report(what: Reported) -> Event {
    Event::Reported(Report { what, phone_number: None })
}

fn state_of(data: &Members<'_>, name: &str, word: &str) -> Option<ClientState> {
    ClientState::of_word(word).or_else(|| {
        let words: Vec<_> = ClientState::ALL.iter().map(|state| state.word()).collect();
        data.fault(name, format!("must be one of {}", words.join(", ")))
    })
}

/// Whose session it is, as far as the client says so: beside the rest, or as its `info`.
fn account(data: &Members<'_>) -> Account {
    let number = phone_number(data, "phoneNumber");
    let name = data.text("pushName", 0..=LONGEST_NAME);
    let info = data.object("info");
    let number = number.or_else(|| {
        let wid = info.as_ref()?.address("wid")?;
        wid.strip_suffix("@s.whatsapp.net").map(ToOwned::to_owned)
    });
    let name = name.or_else(|| info.as_ref()?.text("pushname", 0..=LONGEST_NAME));
    linked_to(number, name.filter(|name| !name.is_empty()))
}

fn linked_to(phone_number: Option<String>, push_name: Option<String>) -> Account {
    let jid = phone_number.as_ref().map(|digits| format!("{digits}@s.whatsapp.net"));
    Account { phone_number, push_name, jid, lid: None }
}

/// A phone number, or a person's address.
fn phone_number(data: &Members<'_>, name: &str) -> Option<String> {
    let text = data.text(name, 0..=LONGEST_NAME).filter(|text| !text.is_empty())?;
    let text = text.split('@').next().unwrap_or_default();
    recipient::phone_number(text)
        .map_err(|malformed| data.fault::<()>(name, malformed.to_string()))
        .ok()
}

fn call(data: &Members<'_>, (at, now): (UnixMillis, UnixMillis)) -> Option<Event> {
    let call = data.need("call", data.object("call"))?;
    let id = call.need("id", call.id("id"));
    let from = call.need("from", call.address("from"));
    let (video, group) = (call.flag("isVideo"), call.flag("isGroup"));
    let at = call.moment("timestamp").map_or(at, |at| at.min(now));
    Some(Event::Call(Call {
        id: id?.id,
        from: from?,
        video: video.unwrap_or(false),
        group: group.unwrap_or(false),
        stage: "offer",
        at,
    }))
}

fn group(data: &Members<'_>, turn: GroupTurn, post: &mut Post, now: UnixMillis) -> Option<Event> {
    let is_within = data.has("notification");
    let notice = if is_within { data.object("notification")? } else { data.clone() };
    let id = notice.id("id");
    let chat = match id.as_ref().and_then(|id| id.chat.clone()) {
        Some(chat) if !notice.has("chatId") => Some(chat),
        _ => notice.need("chatId", notice.address("chatId")),
    };
    let author = notice.address("author");
    let participants = notice.addresses("recipientIds", MOST_PARTICIPANTS);
    let kind = notice.text("type", 0..=LONGEST_NAME);
    let body = notice.text("body", 0..=LONGEST_TEXT);
    if let Some(at) = notice.moment("timestamp") {
        (post.at, post.is_timed) = (at.min(now), true);
    }
    Some(Event::Group(GroupChange {
        turn,
        id: id.map(|id| id.id),
        chat: chat?,
        author,
        participants,
        kind,
        body,
        at: post.at,
    }))
}

/// Reads a post of the status webhook: what the session is called where it runs, and what is told of it.
pub(super) fn status(
    body: &Map<String, Value>,
    now: UnixMillis,
) -> Result<(String, Post), Vec<FieldError>> {
    let faults = Faults::default();
    let members = Members::new(body, &faults);
    let id = members.need("sessionId", members.text("sessionId", 1..=super::data::LONGEST_ID));
    let word = members.need("status", members.text("status", 1..=LONGEST_NAME));
    let number = phone_number(&members, "phoneNumber");
    let said_at = members.moment("timestamp");
    let event = word.as_deref().and_then(|word| {
        told_by(word, number).or_else(|| {
            members.fault("status", "must be `connected`, `disconnected`, `reconnecting`, or a status or state that sessions have")
        })
    });
    let read = id.zip(word).zip(event).map(|((id, name), event)| {
        let at = said_at.map_or(now, |at| at.min(now));
        let is_timed = said_at.is_some();
        (id, Post { name, before: None, event: Some(event), at, is_timed })
    });
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
