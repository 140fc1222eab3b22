//! What a message says: of what kind it is in our words, its text, and which other message it is about.

use entity::kind::MessageKind;
use serde_json::Value;

use super::text;

/// The longest text that is kept beside the message, in characters. Meta's own limit is 4,096.
const LONGEST: usize = 20_000;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: MessageKind,
    pub(super) body: Option<String>,
    pub(super) target: Option<String>,
}

pub(super) fn read(message: &Value) -> Content {
    let word = text(message, "type").unwrap_or_default();
    let part = message.get(&word).unwrap_or(&Value::Null);
    let (kind, body) = said(&word, part);
    // A member of a message that is about another one: what it is about goes before what it answers.
    let target = match word.as_str() {
        "reaction" => text(part, "message_id"),
        "edit" | "revoke" => text(part, "original_message_id").or_else(|| text(part, "message_id")),
        _ => None,
    };
    let answered = || message.get("context").and_then(|it| text(it, "id"));
    let target = target.or_else(answered).map(|it| it.replace('\0', "\u{fffd}"));
    let body = body.map(|it| it.chars().take(LONGEST).collect());
    Content { kind, body, target }
}

fn said(word: &str, part: &Value) -> (MessageKind, Option<String>) {
    let caption = || text(part, "caption");
    match word {
        "text" => (MessageKind::Text, text(part, "body").or(Some(String::new()))),
        "image" => (MessageKind::Image, caption()),
        "video" => (MessageKind::Video, caption()),
        "audio" | "voice" => (MessageKind::Audio, None),
        "sticker" => (MessageKind::Sticker, None),
        "document" => (MessageKind::Document, caption().or_else(|| text(part, "filename"))),
        "location" => (MessageKind::Location, Some(place(part))),
        "contacts" => (MessageKind::Contact, Some(names(part))),
        "button" => (MessageKind::Text, text(part, "text").or_else(|| text(part, "payload"))),
        "interactive" => (MessageKind::Text, chosen(part)),
        // An empty one takes it back.
        "reaction" => (MessageKind::Reaction, Some(text(part, "emoji").unwrap_or_default())),
        "edit" => {
            let edited = part.get("message").unwrap_or(part);
            let word = text(edited, "type").unwrap_or_else(|| "text".to_owned());
            let inner = edited.get(&word).unwrap_or(edited);
            let body = if word == "edit" { None } else { said(&word, inner).1 };
            (MessageKind::Edit, body)
        }
        "revoke" => (MessageKind::Revoke, None),
        "order" => (MessageKind::Unsupported, text(part, "text")),
        "system" => (MessageKind::Unsupported, text(part, "body")),
        _ => (MessageKind::Unsupported, None),
    }
}

/// What was chosen of what was offered, in the words that its reader has seen.
fn chosen(interactive: &Value) -> Option<String> {
    let word = text(interactive, "type")?;
    let reply = interactive.get(&word)?;
    ["title", "body", "response", "text", "id"].into_iter().find_map(|name| text(reply, name))
}

/// A place, by its name and its address; by where it is, if it has neither.
fn place(location: &Value) -> String {
    let named: Vec<_> = ["name", "address"].iter().filter_map(|it| text(location, it)).collect();
    if !named.is_empty() {
        return named.join(", ");
    }
    let number = |name: &str| location.get(name).map(ToString::to_string).unwrap_or_default();
    format!("{},{}", number("latitude"), number("longitude"))
}

fn names(contacts: &Value) -> String {
    let cards = contacts.as_array().into_iter().flatten();
    let names = cards.filter_map(|card| {
        let name = card.get("name")?;
        ["formatted_name", "first_name", "last_name"].into_iter().find_map(|it| text(name, it))
    });
    names.collect::<Vec<_>>().join(", ")
}
