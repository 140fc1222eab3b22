//! How far a message has come that went out.

use entity::UnixMillis;
use serde_json::Value;

use super::{Person, Unreadable, at, text};

/// The longest word of Meta's that is kept, in bytes.
const LONGEST: usize = 128;

/// A status of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Meta's id of the message.
    pub wa_id: String,
    /// Meta's word.
    pub word: String,
    /// -1 failed, 1 sent, 2 delivered, 3 read, 4 played; 0 for a word that is not known.
    pub level: i16,
    /// Whom the message was for, as far as it says.
    pub person: Person,
    pub group: Option<String>,
    /// Which member of a group.
    pub participant: Option<String>,
    pub at: Option<UnixMillis>,
    /// Meta's code of why it failed.
    pub error: Option<String>,
    /// What it costs, as Meta has written it: JSON.
    pub pricing: Option<String>,
    /// What whoever has sent the message calls it.
    pub callback: Option<String>,
}

impl Status {
    pub(super) fn read(item: &Value, people: &[Person]) -> Result<Self, Unreadable> {
        let fits = |it: &String| it.len() <= 250 && !it.chars().any(char::is_control);
        let wa_id = text(item, "id").filter(fits).ok_or(Unreadable("no_id"))?;
        let short = |it: &String| it.len() <= LONGEST && !it.chars().any(char::is_control);
        let word = text(item, "status").filter(short).ok_or(Unreadable("no_status"))?;
        let participant = ["recipient_participant_id", "participant_recipient_id"];
        let is_group = text(item, "recipient_type").as_deref() == Some("group");
        let error = item.get("errors").and_then(|it| it.get(0)).and_then(|it| text(it, "code"));
        // Some of Meta's examples have it inside.
        let pricing = item
            .get("pricing")
            .or_else(|| item.get("conversation").and_then(|it| it.get("pricing")))
            .filter(|it| it.is_object());
        let group = is_group.then(|| text(item, "recipient_id")).flatten();
        let person = if is_group {
            None
        } else {
            Person::named(item, ["recipient_id", "recipient_user_id"], people)
        };
        Ok(Self {
            wa_id,
            level: level(&word),
            word,
            person: person.unwrap_or_default(),
            group,
            participant: participant.iter().find_map(|it| text(item, it)).filter(short),
            at: at(item),
            error: error.filter(short),
            pricing: pricing.map(|it| it.to_string().replace("\\u0000", "\\ufffd")),
            callback: text(item, "biz_opaque_callback_data").filter(short),
        })
    }
}

/// The level of a word of Meta's, in either case.
pub(super) fn level(word: &str) -> i16 {
    match word.to_ascii_lowercase().as_str() {
        "failed" | "error" => -1,
        "sent" => 1,
        "delivered" => 2,
        "read" => 3,
        "played" => 4,
        _ => 0,
    }
}
