//! From what a client elsewhere posts to events in our words: a pure function.

use entity::UnixMillis;
use serde_json::{Map, Value};

use super::{
    members::{Faults, Members, Moment},
    messages::{self, Unsaid},
    names::Name,
};
use crate::{
    event::{Account, Call, ClientState, Event, GroupChange, GroupTurn, Report, Reported},
    service::{FieldError, recipient},
};

/// The longest name of an event.
pub(super) const LONGEST_NAME: usize = 128;

/// The longest of what a client says for people.
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
    pub(super) timed: Timed,
    /// Whom it says that a message of somebody else's is to.
    pub(super) to: Option<String>,
    /// Whether it says whose message it tells of, by itself or by the address that it is from.
    pub(super) says_whose: bool,
}

/// How exactly something says when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    /// Not at all.
    Not,
    /// It names a second.
    Second,
    Exactly,
}

impl Timed {
    fn of(said_at: Option<Moment>) -> Self {
        match said_at {
            None => Self::Not,
            Some(Moment { is_a_second: true, .. }) => Self::Second,
            Some(Moment { is_a_second: false, .. }) => Self::Exactly,
        }
    }

    /// The last moment at which what is said to have happened at `at` may have.
    pub(super) fn until(self, at: UnixMillis) -> UnixMillis {
        match self {
            Self::Second => UnixMillis(at.0.saturating_add(999)),
            Self::Not | Self::Exactly => at,
        }
    }
}

/// Reads a post of the receiver. `own` is the address of the session's account, as far as it is known.
pub(super) fn read(
    body: &Map<String, Value>,
    now: UnixMillis,
    own: Option<&str>,
) -> Result<Post, Vec<FieldError>> {
    let faults = Faults::default();
    let members = Members::new(body, &faults);
    let name = members.need("event", members.text("event", 1..=LONGEST_NAME));
    let said_at = members.written_moment("timestamp");
    let post = match name {
        // What it tells, and in what form, is its client's own.
        Some(word) if Name::of(&word).is_none() => Some(unknown(word, body, said_at, now)),
        word => {
            let none = Map::new();
            let data = if members.has("data") {
                members.object("data")
            } else {
                Some(Members::new(&none, &faults))
            };
            word.zip(data).and_then(|(word, data)| {
                let name = Name::of(&word)?;
                let said_at = said_at.or_else(|| data.written_moment("timestamp"));
                let mut post = blank(word, said_at, now);
                fill(&mut post, name, &data, (now, own))?;
                Some(post)
            })
        }
    };
    faults.settle(post)
}

pub(super) fn blank(name: String, said_at: Option<Moment>, now: UnixMillis) -> Post {
    // What is ahead of us is a clock that is wrong, and would outlast everything that follows.
    let at = said_at.map_or(now, |said_at| said_at.at.min(now));
    Post {
        name,
        before: None,
        event: None,
        at,
        timed: Timed::of(said_at),
        to: None,
        says_whose: false,
    }
}

/// An event that has no name here. When it happened is in what it tells, if that is where others have it.
fn unknown(
    name: String,
    body: &Map<String, Value>,
    said_at: Option<Moment>,
    now: UnixMillis,
) -> Post {
    let data = body.get("data").cloned().unwrap_or(Value::Null);
    let aside = Faults::default();
    let within = || Members::new(data.as_object()?, &aside).written_moment("timestamp");
    let mut post = blank(name, said_at.or_else(within), now);
    post.event = Some(Event::Unknown { name: post.name.clone(), data });
    post
}

/// Writes what `data` tells into the post. None when it cannot be read, for which there is a fault then.
fn fill(
    post: &mut Post,
    name: Name,
    data: &Members<'_>,
    (now, own): (UnixMillis, Option<&str>),
) -> Option<()> {
    let at = post.at;
    let event = match name {
        Name::Qr => {
            let qr = data.need("qr", data.text("qr", 1..=LONGEST_QR))?;
            // Its client's clock may be behind ours, and what is overdue is followed by the next one soon.
            Event::Qr { qr, expires_at: now + QR_LIFE }
        }
        Name::Authenticated => Event::Authenticated,
        Name::Ready => Event::Ready(account(data)),
        Name::LoadingScreen => {
            let percent = data.need("percent", data.number("percent", 0..=100));
            let message = data.text("message", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let message = message.unwrap_or_else(|| "Loading WhatsApp session".to_owned());
            Event::LoadingScreen { percent: u8::try_from(percent?).ok()?, message }
        }
        Name::ChangeState => {
            let state = data.need("state", data.text("state", 1..=LONGEST_NAME))?;
            report(Reported::State(state_of(data, "state", &state)?))
        }
        Name::Disconnected => {
            let reason = data.text("reason", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let reason = reason.unwrap_or_else(|| "disconnected".to_owned());
            report(Reported::Disconnected { reason })
        }
        Name::AuthFailure => {
            let msg = data.text("msg", 0..=LONGEST_TEXT).filter(|text| !text.is_empty());
            let msg = msg.unwrap_or_else(|| "WhatsApp refused the session".to_owned());
            report(Reported::AuthFailure { msg })
        }
        Name::Message | Name::MessageCreate => {
            let message = data.need("message", data.object("message"))?;
            let is_own = name == Name::MessageCreate;
            let unsaid = if is_own { Unsaid::By(own) } else { Unsaid::Received };
            post.to = message.aside(&Faults::default()).address("to");
            let told = messages::message(&message, unsaid, (at, now))?;
            (post.at, post.says_whose) = (told.message.sent_at, told.says_whose);
            Event::Message(Box::new(told.message))
        }
        Name::MessageAck => return messages::ack(post, data, now, own),
        Name::MessageRevoke => {
            // A `to` that is wrong is no fault here: `revoke` reads it too, and tells of it.
            post.to =
                data.aside(&Faults::default()).object("message").and_then(|it| it.address("to"));
            let told = messages::revoke(data, (at, now))?;
            post.says_whose = told.says_whose;
            Event::Message(Box::new(told.message))
        }
        Name::MessageReaction => {
            let told = messages::reaction(data, (at, now))?;
            post.says_whose = told.says_whose;
            Event::Message(Box::new(told.message))
        }
        Name::Call => call(data, (at, now))?,
        Name::GroupJoin => group(data, GroupTurn::Joined, post, now)?,
        Name::GroupLeave => group(data, GroupTurn::Left, post, now)?,
        Name::GroupUpdate => group(data, GroupTurn::Updated, post, now)?,
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

pub(super) fn linked_to(phone_number: Option<String>, push_name: Option<String>) -> Account {
    let jid = phone_number.as_ref().map(|digits| format!("{digits}@s.whatsapp.net"));
    Account { phone_number, push_name, jid, lid: None }
}

/// A phone number, or a person's address.
pub(super) fn phone_number(data: &Members<'_>, name: &str) -> Option<String> {
    let text = data.text(name, 0..=LONGEST_NAME).filter(|text| !text.is_empty())?;
    let number = match text.split_once('@') {
        None => text.as_str(),
        Some((user, "c.us" | "s.whatsapp.net")) => without_device(user),
        // A group, a channel, a hidden identity.
        Some(_) => {
            return data.fault(name, "must be a phone number, or a person's address with one");
        }
    };
    recipient::phone_number(number)
        .map_err(|malformed| data.fault::<()>(name, malformed.to_string()))
        .ok()
}

/// The user of an address that may name one of his devices: `6281234567890:12`.
fn without_device(user: &str) -> &str {
    match user.split_once(':') {
        Some((number, device))
            if (1..=5).contains(&device.len()) && device.bytes().all(|b| b.is_ascii_digit()) =>
        {
            number
        }
        _ => user,
    }
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
    if let Some(said_at) = notice.written_moment("timestamp") {
        (post.at, post.timed) = (said_at.at.min(now), Timed::of(Some(said_at)));
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
