//! Messages.

use entity::state::MessageStatus;
use sea_orm::Iterable as _;
use serde_json::{Value, json};

use super::{AT, page, success};
use crate::{
    http::{
        api::{
            Success,
            messages::{LONGEST, List, MessageView, USUAL},
        },
        code::Code,
        operation::{Field, Operation, Tag, flag, operation, text, word},
    },
    service::text::LONGEST_MESSAGE,
};

fn example() -> Value {
    json!({
        "id": "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "sessionId": "shop-1",
        "waId": "3EB0C767D26A1B2E5F83", "chat": "15550002222@c.us", "from": "15550001111@c.us",
        "to": "15550002222@c.us", "direction": "outbound", "fromMe": true, "type": "text",
        "body": "Your parcel is on its way.", "targetId": null, "pushName": null, "timestamp": AT,
        "offline": false, "history": false, "status": "sent", "ack": 1, "error": null,
        "failedAttempts": 0, "nextAttemptAt": null,
        "createdAt": AT, "updatedAt": AT,
    })
}

fn address(name: &'static str, about: &'static str) -> Field {
    text(name, about)
        .pattern("^([+]?[1-9][0-9]{6,14}|[1-9][0-9]{6,14}@(c[.]us|s[.]whatsapp[.]net)|[0-9]{5,20}@lid|[0-9]{5,20}(-[0-9]{5,20})?@g[.]us)$")
        .example("15550002222")
}

pub(in crate::http::api) fn send() -> Operation {
    operation("sendMessage", Tag::Messages, "Send a message")
        .about("The message has its id, and is stored, before it is sent: a repeated request with the same `Idempotency-Key` never sends twice.")
        .body([
            address("to", "A phone number with country code, or an address: `…@c.us`, `…@lid`, `…@g.us` for a group.")
                .required(),
            text("text", "What to say.")
                .lengths(1..=LONGEST_MESSAGE)
                .pattern("^[^\\u0000]*$")
                .required()
                .example("Your parcel is on its way."),
            word("type", &["text"], "The kind of message.").usually("text").example("text"),
            flag("queue", "Whether the message waits for a session that is not connected.")
                .usually(false)
                .example(false),
        ])
        .idempotent()
        .answers::<Success<MessageView>>(201, "It is on its way.", success(&example()))
        .says("Location", "Where it is.")
        .answers::<Success<MessageView>>(202, "It waits for its session.", success(&example()))
        .says("Location", "Where it is.")
        .answers::<Success<MessageView>>(
            200,
            "An earlier request with this key has sent it.",
            success(&example()),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([
            Code::SessionExternal,
            Code::SessionMigrated,
            Code::SessionNotRunning,
            Code::SessionNotConnected,
            Code::WhatsAppFailed,
            Code::SessionOnOtherNode,
        ])
}

pub(in crate::http::api) fn list() -> Operation {
    let statuses: Vec<_> =
        MessageStatus::iter().filter_map(|status| serde_json::to_value(status).ok()).collect();
    let statuses: Vec<_> = statuses.iter().filter_map(Value::as_str).collect();
    operation("listMessages", Tag::Messages, "A session's messages")
        .about(
            "Sent and received, the newest first; with those of sessions that have handed over to this one, each message once.",
        )
        .query([
            address("chat", "Only messages of this conversation."),
            word("direction", &["inbound", "outbound"], "Only messages in this direction."),
            word("status", &statuses, "Only messages that are so far."),
        ])
        .pages_of(LONGEST, USUAL)
        .answers::<List>(200, "A page of messages.", page(&example()))
}

pub(in crate::http::api) fn show() -> Operation {
    operation("getMessage", Tag::Messages, "One message")
        .about("`ack` is 1 once WhatsApp has it, 2 delivered, 3 read, 4 played, -1 failed; it never goes down.")
        .answers::<Success<MessageView>>(200, "The message.", success(&example()))
}
