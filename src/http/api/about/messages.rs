//! Messages.

use entity::state::MessageStatus;
use sea_orm::Iterable as _;
use serde_json::{Value, json};

use super::{AT, page, success};
use crate::{
    http::{
        api::{
            Success,
            figures::FiguresView,
            media::TYPES,
            messages::{LONGEST, List, MessageView, USUAL},
            qr::{LIFETIMES, SignedUrlView},
        },
        code::Code,
        operation::{Content, Field, Operation, Tag, flag, number, operation, text, word},
    },
    service::{signatures::USUAL as USUAL_LIFETIME, text::LONGEST_MESSAGE},
};

const MESSAGE: &str = "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3W";
const MEDIA: &str = "/api/whatsapp/session/shop-1/messages/msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3W/media";

/// An address with its signature.
const SIGNED: &str = "/api/whatsapp/session/shop-1/messages/msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3W/media?signed=1737367500.org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V.tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V.mUq2…";

pub(super) fn example() -> Value {
    json!({
        "id": "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "sessionId": "shop-1",
        "waId": "3EB0C767D26A1B2E5F83", "chat": "15550002222@c.us", "from": "15550001111@c.us",
        "to": "15550002222@c.us", "direction": "outbound", "fromMe": true, "type": "text",
        "body": "Your parcel is on its way.", "targetId": null, "media": null, "pushName": null, "timestamp": AT,
        "offline": false, "history": false, "channel": "embedded", "status": "sent", "ack": 1, "error": null,
        "failedAttempts": 0, "nextAttemptAt": null,
        "createdAt": AT, "updatedAt": AT,
    })
}

/// A message with an image.
fn with_media() -> Value {
    json!({
        "id": MESSAGE, "sessionId": "shop-1", "waId": "3EB0C767D26A1B2E5F84",
        "chat": "15550002222@c.us", "from": "15550002222@c.us", "to": "15550001111@c.us",
        "direction": "inbound", "fromMe": false, "type": "image", "body": "Is it this one?",
        "targetId": null,
        "media": {
            "mimetype": "image/jpeg", "size": 81_920, "width": 1200, "height": 1600,
            "voice": false, "viewOnce": false, "url": MEDIA,
        },
        "pushName": "Ada", "timestamp": AT, "offline": false, "history": false, "channel": "embedded",
        "status": "received", "ack": 0, "error": null, "failedAttempts": 0,
        "nextAttemptAt": null, "createdAt": AT, "updatedAt": AT,
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
        .answers::<List>(200, "A page of messages.", page(&with_media()))
}

pub(in crate::http::api) fn show() -> Operation {
    operation("getMessage", Tag::Messages, "One message")
        .about("`ack` is 1 once WhatsApp has it, 2 delivered, 3 read, 4 played, -1 failed; it never goes down.")
        .answers::<Success<MessageView>>(200, "The message.", success(&with_media()))
}

/// Why there is no file, wherever one is asked for.
const NO_FILE: [Code; 4] =
    [Code::SessionExternal, Code::MessageHasNoMedia, Code::MediaViewOnce, Code::MediaTooLarge];

pub(in crate::http::api) fn media() -> Operation {
    operation("getMessageMedia", Tag::Messages, "The image, video, sound, document or sticker of a message")
        .about(
            "It is downloaded from WhatsApp's media hosts when it is first asked for, decrypted, and verified to its last byte before the first \
             one is answered; after that it is here for a few minutes. No connected session is needed, unless WhatsApp no longer has it: then the \
             account's phone is asked to upload it again. Images, videos and sounds are for pages to show; documents, and whatever a browser \
             could run, are files to be stored, and everything that is not in the list of types is `application/octet-stream`. Parts can be asked \
             for with `Range`, as players do. The tag is the SHA-256 of the file.",
        )
        .header(text("Range", "The part that is wanted, such as `bytes=0-65535`. Several parts at once are not given.").example("bytes=0-65535"))
        .header(text("If-Range", "The tag of the version that a part is wanted of.").example("\"b5a7c2\""))
        .header(text("If-None-Match", "Tags that the caller has.").example("\"b5a7c2\""))
        .response(200, "The file.", vec![Content::Media(&TYPES)])
        .says("ETag", "The SHA-256 of the file, in quotes.")
        .says("Content-Disposition", "`inline` or `attachment`, and the name of the file.")
        .says("Accept-Ranges", "`bytes`")
        .response(206, "The part that was asked for.", vec![Content::Media(&TYPES)])
        .says("ETag", "The SHA-256 of the whole file, in quotes.")
        .says("Content-Range", "Which bytes of how many.")
        .answers_nothing(304, "The caller has it.")
        .says("ETag", "The SHA-256 of the file, in quotes.")
        .refuses(NO_FILE)
        .refuses([
            Code::MediaGone,
            Code::RangeNotSatisfiable,
            Code::MediaDamaged,
            Code::MediaUnavailable,
            Code::TooManyStreams,
            Code::StreamsOfCaller,
        ])
}

pub(in crate::http::api) fn figures() -> Operation {
    let figures = json!({
        "sessionId": "shop-1", "since": "2025-01-19T10:00:00.000Z", "until": AT, "received": 120,
        "sent": 80, "waiting": 0, "failed": 1,
        "acks": { "server": 2, "delivered": 30, "read": 48, "played": 0 }, "undecryptable": 0,
        "isWhole": true,
    });
    operation("getSessionFigures", Tag::Messages, "What a session has received and sent in the last day")
        .about(
            "Messages of the account's past are left out. `/metrics` has such figures of all sessions together, and of none alone.",
        )
        .answers::<Success<FiguresView>>(200, "Its figures.", success(&figures))
}

pub(in crate::http::api) fn sign_media() -> Operation {
    operation("signMediaUrl", Tag::Messages, "An address of a message's media that opens without a token")
        .about(
            "For an `<img>`, `<video>` or `<audio>`, which cannot show a token. It is good for this message and time, and ends early with the \
             session, and with the token that asked for it. Use it as it is: whatever is changed or added makes it invalid.",
        )
        .body([number("expiresIn", LIFETIMES, "Seconds that it is good.")
            .usually(USUAL_LIFETIME.as_secs())
            .example(300)])
        .answers::<Success<SignedUrlView>>(
            200,
            "The address.",
            success(&json!({ "url": SIGNED, "expiresAt": "2025-01-20T10:05:00.000Z" })),
        )
        .refuses(NO_FILE)
}
