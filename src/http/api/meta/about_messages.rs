//! What the routes that send, and say that something is read, say about themselves.

use serde_json::{Value, json};

use super::messages::ReadView;
use crate::{
    http::{
        api::{
            Success,
            about::{AT, success},
            messages::MessageView,
        },
        code::Code,
        operation::{Operation, Tag, flag, object, operation, text, word},
    },
    service::meta::sending_limits as limits,
};

const MESSAGE: &str = "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";
const WAMID: &str = "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=";

/// What is said of sending.
const SEND: &str = "The message is stored before Meta is asked, and sent soon, in the order of its conversation. Its `status` says how far it is: `queued`, `sending`, \
    then what Meta tells. `waId` is our own id until Meta has given it one, and `message.created` tells of it then. What Meta does not take for the moment is tried again, \
    for about three hours; `error` is Meta's code. Meta is never asked twice for what it may have sent: a message that was under way when the connection or the daemon \
    broke is `failed` with `outcome_unknown`, and becomes `sent` or more if Meta tells so later.\n\n\
    What has not been sent when its turn comes is `failed`, and told of (`message.ack`, -1), if its account is disabled (`account_disabled`), has no \
    access token (`no_access_token`), or was deleted or has another number (`account_changed`): it does not wait for the account to be mended. \
    `meta_unreachable`: nobody answers where Meta should be, and it is tried again. `not_readable`: what was to be sent cannot be opened.\n\n\
    With an `Idempotency-Key` a repetition is answered as the first request was, whatever has become of the account's state or of the message that is answered.\n\n\
    Whoever has not written for a day can be sent templates only.";

fn queued() -> Value {
    json!({
        "id": MESSAGE, "sessionId": "meta_106540352242922", "waId": MESSAGE,
        "chat": "16505551234@c.us", "from": "15550783881@c.us", "to": "16505551234@c.us",
        "direction": "outbound", "fromMe": true, "type": "text", "body": "Your parcel is on its way.",
        "targetId": null, "media": null, "pushName": null, "timestamp": AT, "offline": false,
        "history": false, "channel": "cloud", "status": "queued", "ack": 0, "error": null,
        "failedAttempts": 0, "nextAttemptAt": null, "createdAt": AT, "updatedAt": AT,
    })
}

pub(super) fn send() -> Operation {
    operation("sendMetaMessage", Tag::Meta, "Send a message through an account")
        .about(SEND)
        .body([
            text("to", "A phone number with country code, `…@c.us`, Meta's id of somebody (`…@bsuid`), or a contact by our id (`con_…@contact`): wherever they are at present.")
                .pattern("^([+]?[1-9][0-9]{6,14}|[1-9][0-9]{6,14}@(c[.]us|s[.]whatsapp[.]net)|[A-Za-z0-9._-]{1,160}@bsuid|con_[0-7][0-9A-HJKMNP-TV-Z]{25}@contact)$")
                .required()
                .example("16505551234"),
            word("type", &["text", "template"], "What is sent.").usually("text").example("text"),
            text("text", "What to say, if it is a text.")
                .lengths(1..=limits::TEXT)
                .pattern("^[^\\u0000]*$")
                .example("Your parcel is on its way."),
            flag("previewUrl", "Whether the first address in a text is shown with a picture of what is there.")
                .usually(false)
                .example(false),
            object(
                "template",
                "A template, if it is one: its `name`, its `language` as in `en_US`, and its `components` as Meta documents them.",
            ),
            text("replyTo", "The message that it answers: our id of it, or Meta's.")
                .lengths(limits::ID)
                .pattern("^[!-~]*$")
                .example(WAMID),
        ])
        .idempotent()
        .answers::<Success<MessageView>>(202, "It is taken.", success(&queued()))
        .says("Location", "Where the message is.")
        .answers::<Success<MessageView>>(
            200,
            "An earlier request with this key has had it taken.",
            success(&queued()),
        )
        .says("Location", "Where the message is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::MetaAccountNotSending])
}

pub(super) fn mark_read() -> Operation {
    operation("markConversationRead", Tag::Messages, "Say that what was written is read")
        .about(
            "Whoever the conversation is with sees a message of theirs, and all before it, as read. Meta is asked at once. For numbers at Meta's.",
        )
        .body([text("messageId", "Which message; their newest if it is not said.")
            .pattern("^msg_[0-7][0-9A-HJKMNP-TV-Z]{25}$")
            .example(MESSAGE)])
        .answers::<Success<ReadView>>(
            200,
            "Meta has it.",
            success(&json!({
                "conversationId": "cnv_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "messageId": MESSAGE, "waId": WAMID,
            })),
        )
        .refuses([
            Code::MessageNotFound,
            Code::MetaAccountNotFound,
            Code::MetaAccountNotSending,
            Code::MetaRefused,
            Code::MetaUnavailable,
        ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::meta::REASONS;

    #[test]
    fn every_reason_for_which_a_message_has_failed_is_told() {
        for reason in REASONS {
            assert!(SEND.contains(&format!("`{reason}`")), "{reason}");
        }
    }
}
