//! What may be sent, and how Meta is asked for it.

use entity::{
    id::{ContactId, MessageId},
    kind::MessageKind,
    state::IdentityKind,
};
use serde_json::{Map, Value, json};

use crate::{
    service::{Error, FieldError, recipient, text},
    store::contacts::Person,
};

/// Limits of what may be sent: Meta's own.
pub mod limits {
    use std::ops::RangeInclusive;

    /// Characters of a text.
    pub const TEXT: usize = 4096;
    /// Characters of a template's name.
    pub const TEMPLATE: RangeInclusive<usize> = 1..=512;
    /// Characters of a template's language.
    pub const LANGUAGE: RangeInclusive<usize> = 2..=15;
    /// Components of a template.
    pub const COMPONENTS: usize = 32;
    /// Bytes of what they say, as JSON.
    pub const COMPONENTS_BYTES: usize = 64 * 1024;
    /// Characters of an id of a message.
    pub const ID: RangeInclusive<usize> = 1..=250;
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Text {
        text: String,
        /// Whether the first address in it is shown with a picture of what is there.
        preview: bool,
    },
    /// Words that Meta has approved: they can be sent to whoever has not written for a day.
    Template {
        name: String,
        language: String,
        /// What is to be put into it, as Meta documents it.
        components: Vec<Map<String, Value>>,
    },
}

/// A message as its sender wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// A phone number, Meta's id of somebody (`…@bsuid`), or our own (`con_…@contact`).
    pub to: String,
    /// The message that it answers: our id of it, or Meta's.
    pub reply_to: Option<String>,
    pub what: What,
}

/// The same, when nothing is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) person: Person,
    pub(super) kind: MessageKind,
    pub(super) body: Option<String>,
    pub(super) reply_to: Option<String>,
    /// Whom it is for and what it says, in Meta's words.
    members: Map<String, Value>,
}

impl Outgoing {
    /// The contact that it is for, if it is for one by our own id: `con_…@contact`.
    pub(super) fn contact(&self) -> Option<ContactId> {
        self.to.trim().strip_suffix("@contact")?.parse().ok()
    }

    pub(super) fn checked(self) -> Result<Checked, Error> {
        let mut errors = Vec::new();
        let mut noted = |checked: Result<(), FieldError>| errors.extend(checked.err());
        let (mut members, mut person) = (Map::new(), Person::default());
        noted(to(&self.to).map(|(member, found)| {
            let id = found.ids[0].1.clone();
            members.insert(member.to_owned(), json!(id));
            person = found;
        }));
        if let Some(id) = &self.reply_to {
            let is_good =
                limits::ID.contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic());
            let detail = "must be an id of a message: 1 to 250 visible ASCII characters";
            noted(is_good.then_some(()).ok_or_else(|| FieldError::new("replyTo", detail)));
        }
        let (kind, body) = match self.what {
            What::Text { text, preview } => {
                noted(fits(&text));
                members.insert("type".to_owned(), json!("text"));
                members.insert("text".to_owned(), json!({ "body": text, "preview_url": preview }));
                (MessageKind::Text, text)
            }
            What::Template { name, language, components } => {
                noted(word("template/name", &name, limits::TEMPLATE, |it| {
                    it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_'
                }));
                noted(word("template/language", &language, limits::LANGUAGE, |it| {
                    it.is_ascii_alphabetic() || it == b'_'
                }));
                noted(few(&components));
                members.insert("type".to_owned(), json!("template"));
                let mut template = json!({ "name": name, "language": { "code": language } });
                if !components.is_empty() {
                    template["components"] = json!(components);
                }
                members.insert("template".to_owned(), template);
                (MessageKind::Template, name)
            }
        };
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        Ok(Checked { person, kind, body: Some(body), reply_to: self.reply_to, members })
    }
}

impl Checked {
    /// What was asked for: the same of a contact whatever is known of them by now.
    pub(super) fn asked(&self, contact: Option<&ContactId>) -> String {
        let mut asked = self.clone();
        if let Some(contact) = contact {
            asked.members.retain(|name, _| !["to", "recipient"].contains(&name.as_str()));
            asked.members.insert("contact".to_owned(), json!(contact));
        }
        asked.request(self.reply_to.as_deref(), None)
    }

    /// What Meta is asked, as JSON. It says our id of the message, if there is one, and Meta's statuses repeat it.
    pub(super) fn request(&self, target: Option<&str>, id: Option<&MessageId>) -> String {
        let mut request = self.members.clone();
        request.insert("messaging_product".to_owned(), json!("whatsapp"));
        request.insert("recipient_type".to_owned(), json!("individual"));
        if let Some(target) = target {
            request.insert("context".to_owned(), json!({ "message_id": target }));
        }
        if let Some(id) = id {
            request.insert("biz_opaque_callback_data".to_owned(), json!(id));
        }
        Value::Object(request).to_string()
    }
}

/// Whom it is for, and by which member Meta is told.
fn to(text: &str) -> Result<(&'static str, Person), FieldError> {
    let text = text.trim();
    if let Some(id) = text.strip_suffix("@bsuid") {
        let is_good = (1..=160).contains(&id.len())
            && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
        if !is_good {
            return Err(FieldError::new("to", "must be an id of Meta's before `@bsuid`"));
        }
        let ids = vec![(IdentityKind::UserId, id.to_owned())];
        return Ok(("recipient", Person { ids, ..Person::default() }));
    }
    let address = recipient::address(text).map_err(|it| FieldError::new("to", it.to_string()))?;
    let number = address.strip_suffix("@s.whatsapp.net").ok_or_else(|| {
        FieldError::new(
            "to",
            "must be a phone number with country code, `…@c.us`, `…@bsuid`, or `con_…@contact`",
        )
    })?;
    let kinds = [IdentityKind::WaId, IdentityKind::Phone];
    let ids = kinds.map(|kind| (kind, number.to_owned())).to_vec();
    Ok(("to", Person { ids, ..Person::default() }))
}

fn fits(written: &str) -> Result<(), FieldError> {
    text::message("text", written)?;
    if written.chars().count() > limits::TEXT {
        let detail = format!("must have at most {} characters", limits::TEXT);
        return Err(FieldError::new("text", detail));
    }
    Ok(())
}

fn word(
    name: &str,
    text: &str,
    lengths: std::ops::RangeInclusive<usize>,
    fits: impl Fn(u8) -> bool,
) -> Result<(), FieldError> {
    if lengths.contains(&text.len()) && text.bytes().all(fits) {
        return Ok(());
    }
    let (least, most) = (lengths.start(), lengths.end());
    let detail = format!("must be as Meta has it: {least} to {most} characters");
    Err(FieldError::new(name, detail))
}

fn few(components: &[Map<String, Value>]) -> Result<(), FieldError> {
    let bytes = serde_json::to_string(components).map_or(0, |text| text.len());
    if components.len() <= limits::COMPONENTS && bytes <= limits::COMPONENTS_BYTES {
        return Ok(());
    }
    let (count, bytes) = (limits::COMPONENTS, limits::COMPONENTS_BYTES);
    let detail = format!("must be at most {count}, and have at most {bytes} bytes as JSON");
    Err(FieldError::new("template/components", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(to: &str, text: &str) -> Outgoing {
        let what = What::Text { text: text.to_owned(), preview: false };
        Outgoing { to: to.to_owned(), reply_to: None, what }
    }

    fn request(outgoing: Outgoing, target: Option<&str>) -> Value {
        serde_json::from_str(&outgoing.checked().unwrap().request(target, None)).unwrap()
    }

    #[test]
    fn meta_is_asked_as_it_documents_it() {
        assert_eq!(
            request(text("+62 812-3456-7890", "hi"), Some("wamid.0")),
            json!({
                "messaging_product": "whatsapp", "recipient_type": "individual", "to": "6281234567890",
                "type": "text", "text": { "body": "hi", "preview_url": false }, "context": { "message_id": "wamid.0" },
            })
        );
        let to_user = request(text("US.13491208655302741918@bsuid", "hi"), None);
        assert_eq!(to_user["recipient"], "US.13491208655302741918");
        assert!(to_user.get("to").is_none());
        let what = What::Template {
            name: "order_1".to_owned(),
            language: "pt_BR".to_owned(),
            components: vec![Map::new()],
        };
        let template =
            request(Outgoing { to: "6281234567890".to_owned(), reply_to: None, what }, None);
        let expected =
            json!({ "name": "order_1", "language": { "code": "pt_BR" }, "components": [{}] });
        assert_eq!((&template["type"], &template["template"]), (&json!("template"), &expected));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let pointers = |outgoing: Outgoing| match outgoing.checked() {
            Err(Error::Invalid(errors)) => {
                errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let mut wrong = text("120363000000000001@g.us", "");
        wrong.reply_to = Some("a b".to_owned());
        assert_eq!(pointers(wrong), ["/to", "/replyTo", "/text"]);
        assert_eq!(pointers(text("a b@bsuid", &"x".repeat(4097))), ["/to", "/text"]);
        let what = What::Template {
            name: "Order".to_owned(),
            language: "e".to_owned(),
            components: vec![Map::new(); 33],
        };
        let wrong = Outgoing { to: "1".to_owned(), reply_to: None, what };
        let all = ["/to", "/template/name", "/template/language", "/template/components"];
        assert_eq!(pointers(wrong), all);
    }
}
