//! Contacts and conversations.

use serde_json::{Value, json};

use super::{AT, messages, page};
use crate::http::{
    api::{
        List,
        contacts::{ContactView, ConversationView},
        messages::MessageView,
    },
    code::Code,
    operation::{Operation, Tag, operation, text, word},
};

const CONTACT: &str = "con_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";

fn contact() -> Value {
    json!({
        "id": CONTACT, "name": "Sheena Nelson", "username": "@realsheenanelson",
        "identities": [
            { "kind": "phone", "value": "16505551234" },
            { "kind": "user_id", "value": "US.13491208655302741918" },
            { "kind": "wa_id", "value": "16505551234" },
        ],
        "createdAt": AT, "updatedAt": AT,
    })
}

fn conversation() -> Value {
    json!({
        "id": "cnv_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "sessionId": "meta_106540352242922",
        "channel": "cloud", "chat": "16505551234@c.us", "contactId": CONTACT,
        "name": "Sheena Nelson", "lastMessageAt": AT, "lastInboundAt": AT, "createdAt": AT,
    })
}

pub(in crate::http::api) fn list() -> Operation {
    operation("listContacts", Tag::Messages, "People who write to numbers at Meta's")
        .about(
            "The oldest first. Whoever turns out to be one person is one from then on, as the one that is older. Those of linked devices are not \
             among them yet.",
        )
        .query([text("identity", "Only who is called so: a number in digits, or an id of Meta's.")
            .pattern("^[^\\u0000]*$").example("15550001111")])
        .paged()
        .answers::<List<ContactView>>(200, "A page of contacts.", page(&contact()))
}

pub(in crate::http::api) fn conversations() -> Operation {
    operation("listConversations", Tag::Messages, "Conversations of numbers at Meta's")
        .about("The youngest first, by when they began. Those of linked devices are not among them yet.")
        .query([
            text("sessionId", "Only those of this session.")
                .pattern("^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$").example("shop-1"),
            text("contactId", "Only those with this contact.")
                .pattern("^con_[0-7][0-9A-HJKMNP-TV-Z]{25}$").example("con_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
        ])
        .paged()
        .answers::<List<ConversationView>>(200, "A page of conversations.", page(&conversation()))
        .refuses([Code::SessionNotFound])
}

pub(in crate::http::api) fn messages_of() -> Operation {
    operation("listConversationMessages", Tag::Messages, "A conversation's messages")
        .about("The newest first.")
        .query([word("direction", &["inbound", "outbound"], "Only messages in this direction.")])
        .paged()
        .answers::<List<MessageView>>(200, "A page of messages.", page(&messages::example()))
}
