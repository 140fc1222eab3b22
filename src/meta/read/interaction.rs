//! What was chosen, ordered, filled in or shown in a message, beside the words that stand for it.
//!
//! It is Meta's own object of it, under Meta's word: what a reader of Meta's documentation looks for is where it says.

use serde_json::{Map, Value};

/// The most that is kept beside the message, in bytes of JSON.
const LARGEST: usize = 32 * 1024;

/// Types of messages that say more than a text can.
const TYPES: [&str; 6] = ["interactive", "button", "order", "location", "contacts", "system"];

/// What a message says besides its words, as JSON; None if that is nothing. What is too large is named in `omitted`.
pub(super) fn read(message: &Value) -> Option<String> {
    let word = message.get("type").and_then(Value::as_str).unwrap_or_default();
    let part = TYPES.contains(&word).then(|| message.get(word)).flatten();
    let context = message.get("context");
    let parts = [
        (word, part),
        ("referral", message.get("referral")),
        ("referred_product", context.and_then(|it| it.get("referred_product"))),
    ];
    let (mut all, mut room, mut omitted) = (Map::new(), LARGEST, Vec::new());
    for (name, part) in parts {
        let Some(part) = part.filter(|it| it.is_object() || it.is_array()) else { continue };
        let size = part.to_string().len();
        if size > room {
            omitted.push(Value::from(name));
            continue;
        }
        room -= size;
        all.insert(name.to_owned(), part.clone());
    }
    if !omitted.is_empty() {
        all.insert("omitted".to_owned(), Value::Array(omitted));
    }
    (!all.is_empty()).then(|| Value::Object(all).to_string().replace("\\u0000", "\\ufffd"))
}
