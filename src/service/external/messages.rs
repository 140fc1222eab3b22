//! Messages, their acknowledgements, reactions and withdrawals, as whatsapp-web.js has them.

use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    kind::MessageKind,
    state::{Direction, MessageStatus},
};

use super::{
    media,
    members::{Faults, Members},
    post::Post,
};
use crate::{
    event::{Ack, AckLevel, Event, NewMessage},
    service::text::LONGEST_MESSAGE,
};

/// The longest word for what kind a message is.
const LONGEST_KIND: usize = 64;

/// The longest name that a person gives himself.
const LONGEST_PUSH_NAME: usize = 256;

/// When something was posted, and what time it is.
type Times = (UnixMillis, UnixMillis);

/// Whose a message is that does not say so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsaid<'a> {
    /// Somebody else's.
    Received,
    /// The account's.
    Sent,
    /// The account's if it is from this address of its; and where that is not known, unless it is from a group.
    By(Option<&'a str>),
}

/// A message as it is told, and whether it is said whose it is: by itself, or by the address that it is from.
pub(super) struct Told {
    pub(super) message: NewMessage,
    pub(super) says_whose: bool,
}

/// A message.
pub(super) fn message(message: &Members<'_>, unsaid: Unsaid<'_>, (at, now): Times) -> Option<Told> {
    let id = message.need("id", message.id("id"));
    let from = message.need("from", message.address("from"));
    let to = message.address("to");
    let author = message.address("author");
    let body = message.text("body", 0..=LONGEST_MESSAGE);
    let kind = message.text("type", 0..=LONGEST_KIND);
    let push_name = message.text("notifyName", 0..=LONGEST_PUSH_NAME);
    let said = message.flag("fromMe");
    let sent_at = message.moment("timestamp").map_or(at, |sent_at| sent_at.min(now));
    let (id, from) = (id?, from?);
    let known = said.or(id.from_me).or_else(|| unsaid.is_own(&from, author.as_deref()));
    let from_me = known.unwrap_or(!matches!(unsaid, Unsaid::Received));
    // What the account has written in a group may be told of as everybody's there is: as from the group.
    let is_of_group = is_group(&from);
    let chat =
        if from_me && !is_of_group { message.need("to", to.or(id.chat))? } else { from.clone() };
    let is_group = is_group(&chat);
    let sender = author.filter(|_| is_group).unwrap_or(from);
    let kind = kind.as_deref().map_or(MessageKind::Text, kind_of);
    let (kind, raw) = media::read(message, kind);
    let message = NewMessage {
        id: MessageId::new(now, in_order(rand::random())),
        wa_id: id.id,
        chat,
        sender,
        direction: if from_me { Direction::Outbound } else { Direction::Inbound },
        kind,
        body: body.filter(|body| !body.is_empty() || kind == MessageKind::Text),
        target_wa_id: None,
        interaction: None,
        raw,
        push_name: push_name.filter(|name| !name.is_empty()),
        sent_at,
        is_group,
        offline: false,
        status: if from_me { MessageStatus::Sent } else { MessageStatus::Received },
    };
    Some(Told { message, says_whose: known.is_some() })
}

impl Unsaid<'_> {
    /// Whether a message from this address, of a group by this member of it, is the account's, as far as that tells.
    fn is_own(self, from: &str, author: Option<&str>) -> Option<bool> {
        let Self::By(own) = self else { return None };
        if is_group(from) {
            return Some(own.is_some() && own == author);
        }
        match own? {
            own if own == from => Some(true),
            // It hides the number, which may be the account's.
            _ if from.ends_with("@lid") => None,
            _ => Some(false),
        }
    }
}

fn is_group(address: &str) -> bool {
    address.ends_with("@g.us")
}

/// What kind a message is: by the words of whatsapp-web.js, and by ours.
fn kind_of(word: &str) -> MessageKind {
    match word {
        "chat" | "text" | "" => MessageKind::Text,
        "image" => MessageKind::Image,
        "video" => MessageKind::Video,
        "audio" | "ptt" => MessageKind::Audio,
        "document" => MessageKind::Document,
        "sticker" => MessageKind::Sticker,
        "location" => MessageKind::Location,
        "vcard" | "multi_vcard" | "contact" => MessageKind::Contact,
        "poll_creation" | "poll" => MessageKind::Poll,
        "reaction" => MessageKind::Reaction,
        "revoked" | "revoke" => MessageKind::Revoke,
        _ => MessageKind::Unsupported,
    }
}

/// An acknowledgement. It carries its message, which may be new to us: the one may overtake the other. What somebody
/// else has sent, nobody acknowledges to us.
pub(super) fn ack(
    post: &mut Post,
    data: &Members<'_>,
    now: UnixMillis,
    own: Option<&str>,
) -> Option<()> {
    let message_of = data.need("message", data.object("message"));
    let id = message_of.as_ref().and_then(|it| it.need("id", it.id("id")));
    let to = message_of.as_ref().and_then(|it| it.address("to"));
    let said = message_of.as_ref().and_then(|it| it.flag("fromMe"));
    let level = data.need("ack", data.number("ack", -1..=4));
    let (message_of, id, level) = (message_of?, id?, level?);
    let from_me = said.or(id.from_me);
    if from_me == Some(false) {
        return Some(());
    }
    let level = i16::try_from(level).ok().and_then(AckLevel::of).unwrap_or(AckLevel::Pending);
    let chat = to.or_else(|| id.chat.clone()).unwrap_or_default();
    let error = (level == AckLevel::Error).then(|| "reported".to_owned());
    let is_own = from_me.is_some() || own.is_some_and(|own| is_from(&message_of, own));
    // Of one that has not left yet there is nothing to tell.
    let is_told = is_own && level != AckLevel::Pending;
    post.before = is_told.then(|| whole(&message_of, (post.at, now))).flatten();
    let by = chat.clone();
    post.event = Some(Event::Ack(Ack { wa_id: id.id, chat, by, level, error, at: post.at }));
    Some(())
}

/// Whether the message is from this address.
fn is_from(message: &Members<'_>, address: &str) -> bool {
    let aside = Faults::default();
    let message = message.aside(&aside);
    let from = message.address("from");
    let by = match from.as_deref() {
        Some(from) if is_group(from) => message.address("author"),
        _ => from,
    };
    by.as_deref() == Some(address)
}

/// The message of an acknowledgement, if it is all there and the account's own.
fn whole(message_of: &Members<'_>, times: Times) -> Option<(UnixMillis, Event)> {
    let aside = Faults::default();
    let read = message(&message_of.aside(&aside), Unsaid::Sent, times);
    let message = read.map(|told| told.message).filter(|message| {
        let is_own = message.direction == Direction::Outbound;
        is_own && aside.is_empty() && message_of.has("timestamp")
    })?;
    Some((message.sent_at, Event::Message(Box::new(message))))
}

/// That a message was withdrawn. The notice has the id of what it withdraws; since whatsapp-web.js 1.34.2 it has one of its
/// own, and that of the other as `protocolMessageKey`.
pub(super) fn revoke(data: &Members<'_>, (at, now): Times) -> Option<Told> {
    let notice = data.need("message", data.object("message"))?;
    let name = ["revokedMessage", "revoked_msg"].into_iter().find(|name| data.has(name));
    let revoked = name.and_then(|name| data.object(name));
    let target = match &revoked {
        Some(revoked) => revoked.need("id", revoked.id("id")),
        None if notice.has("protocolMessageKey") => notice.id("protocolMessageKey"),
        None => notice.id("id"),
    };
    let told = message(&notice, Unsaid::Received, (at, now));
    let (target, Told { message, says_whose }) = (target?.id, told?);
    let message = NewMessage {
        wa_id: format!("{target}:revoke"),
        kind: MessageKind::Revoke,
        body: None,
        raw: None,
        target_wa_id: Some(target),
        interaction: None,
        sent_at: at,
        ..message
    };
    Some(Told { message, says_whose })
}

/// A reaction; an empty one takes it back.
pub(super) fn reaction(data: &Members<'_>, (at, now): Times) -> Option<Told> {
    let is_within = data.has("reaction") && !data.has("msgId");
    let reaction = if is_within { data.object("reaction")? } else { data.clone() };
    let emoji = reaction.need("reaction", reaction.text("reaction", 0..=LONGEST_KIND));
    let target = reaction.need("msgId", reaction.id("msgId"));
    let sender = reaction.need("senderId", reaction.address("senderId"));
    let id = reaction.id("id");
    let sent_at = reaction.moment("timestamp").map_or(at, |sent_at| sent_at.min(now));
    let (emoji, target, sender) = (emoji?, target?, sender?);
    let said = id.as_ref().and_then(|id| id.from_me);
    let from_me = said.unwrap_or(false);
    let chat = target.chat.clone().unwrap_or_else(|| sender.clone());
    let wa_id =
        id.map_or_else(|| format!("{}:reaction:{sender}:{}", target.id, sent_at.0), |id| id.id);
    let message = NewMessage {
        id: MessageId::new(now, in_order(rand::random())),
        wa_id,
        is_group: chat.ends_with("@g.us"),
        chat,
        sender,
        direction: if from_me { Direction::Outbound } else { Direction::Inbound },
        kind: MessageKind::Reaction,
        body: Some(emoji),
        target_wa_id: Some(target.id),
        interaction: None,
        raw: None,
        push_name: None,
        sent_at,
        offline: false,
        status: if from_me { MessageStatus::Sent } else { MessageStatus::Received },
    };
    Some(Told { message, says_whose: said.is_some() })
}
