//! Sessions that run elsewhere, and the call that connects a user.

use serde_json::{Value, json};

use super::{AT, success};
use crate::{
    http::{
        api::{
            Success,
            connect::ConnectingView,
            receiver::{ReceiptView, ReceiverView},
            sessions::SecretView,
        },
        code::Code,
        operation::{
            Field, OddProblem, Operation, Tag, any, label, object, operation, overlap,
            phone_number, text,
        },
    },
    service::{Conflict, external::LONGEST_VPS_ID, text::LONGEST_USER_ID},
};

fn receipt(event: &str) -> Value {
    success(&json!({
        "sessionId": "shop-1", "event": event, "recorded": true, "duplicate": false,
        "outdated": false, "sequence": 4711, "status": "session_connected",
    }))
}

fn secret() -> Field {
    text(
        "x-webhook-secret",
        "The secret, where it is not in the address. `webhook-secret-key` is as good.",
    )
    .example("whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t")
}

pub(in crate::http::api) fn receive() -> Operation {
    operation("receiveEvent", Tag::External, "Tell what happens on a session that runs elsewhere")
        .about(
            "For clients such as whatsapp-web.js. Known are `qr`, `authenticated`, `ready`, `loading_screen`, `change_state`, `disconnected`, \
             `auth_failure`, `message`, `message_create`, `message_ack`, `message_revoke`, `message_reaction`, `call`, `group_join`, \
             `group_leave` and `group_update`; any other event is kept as `unknown` and answered with 202.\n\nThe same event twice is recorded once, and \
             answered with `duplicate: true`: messages are known by their id, acknowledgements by message and level (one below the level \
             reached is a repetition, too), the rest by `Idempotency-Key`, or else by what they say. A key is for one body alone. What \
             happened before the session came to be as it is (`timestamp`) does not \
             change how it is; a time in whole seconds stands for all of its second. An acknowledgement with nothing but its message's id waits \
             for the message, if that is not known yet: nothing is recorded then, and it is no repetition. One at level 0 says less than is known of a \
             message, and is a repetition once that is known, or this is. One that says `fromMe: false` tells nothing here: it is neither recorded nor a \
             repetition, however often it comes. A message that says neither by `fromMe` nor by its id whose it is was received if it is \
             told of as `message`, and told of as `message_create` it is the account's if it is from its number, or, outside of groups, that is not known. Within one second the order in which things come is what counts, and what was \
             told before is told of another moment only within a second of when it first came: later it is a repetition. With `external.auto_create`, a session that is not there is made by its first event that can be read, \
             posted with a token: under the id in the address, so however often and by however many it is posted, there is one.\n\nWhoever posts proves that he may as `webhookAuth` of the session says: `token` by a manager's token; `secret` \
             by the session's secret, as `?secret=…` or in a header; `signature` by a signature of Standard Webhooks.",
        )
        .query([text("secret", "The session's secret.").example("whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t")])
        .header(secret())
        .header(text("webhook-id", "Of a signed request: its name.").example("msg_1"))
        .header(text("webhook-timestamp", "Of a signed request: its time, in seconds.").example("1762352581"))
        .header(text("webhook-signature", "Of a signed request: `v1,` and the signature.").example("v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="))
        .header(text("Idempotency-Key", "What the client calls the event: this one, and no other.").pattern("^[!-~]{1,255}$").example("event-17"))
        .open_body([
            text("event", "The event's name.").lengths(1..=128).required().example("ready"),
            object("data", "What it tells.").example(json!({})),
            any("timestamp", "When it happened: seconds or milliseconds since 1970, or RFC 3339.")
                .example(1_737_367_200),
        ])
        .answers::<Success<ReceiptView>>(200, "What became of it.", receipt("ready"))
        .answers::<Success<ReceiptView>>(
            202,
            "It has no name here, and is kept as it is.",
            receipt("media_uploaded"),
        )
        .refuses([
            Code::SessionEmbedded,
            Code::WebhookAuthMismatch,
            Code::TooManySessions,
            Code::IdempotencyKeyReused,
        ])
}

pub(in crate::http::api) fn verify() -> Operation {
    let example = json!({
        "sessionId": "shop-1", "webhookAuth": "secret", "status": "session_connected",
        "message": "Events of this session are received here", "timestamp": AT,
    });
    operation("verifyReceiver", Tag::External, "Whether events of a session may be posted so")
        .about("A signed request signs its empty body.")
        .query([text("secret", "The session's secret.")
            .example("whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t")])
        .header(secret())
        .answers::<Success<ReceiverView>>(200, "They may.", success(&example))
        .refuses([Code::SessionEmbedded, Code::WebhookAuthMismatch])
}

pub(in crate::http::api) fn rotate() -> Operation {
    let example = json!({
        "secret": "whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t",
        "url": "/api/whatsapp/webhook/shop-1?secret=whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t",
        "oldSecretUntil": AT,
    });
    operation(
        "rotateSessionSecret",
        Tag::External,
        "Give a session that runs elsewhere a new secret",
    )
    .about(
        "It is shown once. The one before is as good for a while, so that its client has time to learn the new one; the one before that no \
         longer. A change of `webhookAuth` ends that while.",
    )
    .body([overlap("overlapSeconds", "For how long the secret before is good.")])
    .idempotent()
    .answers::<Success<SecretView>>(200, "The new secret.", success(&example))
    .says("Idempotency-Replayed", "`true`, if an earlier request with this key has done it.")
    .refuses([Code::SessionEmbedded, Code::WebhookAuthMismatch])
}

fn report(id: &'static str) -> Operation {
    operation(id, Tag::External, "Report the status of a session that runs elsewhere")
        .about(
            "The session is found by `vps_session_id` of its `sessionData`, and by nothing else. `status` is `connected`, `disconnected` or \
             `reconnecting`, a status as sessions have it, or a state of whatsapp-web.js.\n\nWhat the operator has set as \
             `external.webhook_secret_key` is to be shown in a header. It names no organization: what is reported is of the one that \
             `external.report_organization` names, the first unless the operator has said another or any; sessions of others are not found by it. Who shows a manager's token in the same header reports of sessions of the token's \
             organization alone, and needs no key, be one set or not.",
        )
        .header(text("webhook-secret-key", "The key, or a manager's token.").example("wag_example"))
        .header(text("x-webhook-secret", "The same.").example("wag_example"))
        .header(text("Idempotency-Key", "What the caller calls the report: this one, and no other.").pattern("^[!-~]{1,255}$").example("report-17"))
        .open_body([
            label("sessionId", "`vps_session_id`.").lengths(1..=LONGEST_VPS_ID).required().example("wa_a545e2c1-0b0e-4b6e-9a7b-5c4d3e2f1a0b"),
            text("status", "What has become of it.").required().example("connected"),
            phone_number("phoneNumber", "The account's number."),
            any("timestamp", "When: seconds or milliseconds since 1970, or RFC 3339.").example(AT),
        ])
        .answers::<Success<ReceiptView>>(200, "What became of it.", receipt("connected"))
        .refuses([
            Code::SessionNotFound,
            Code::StatusWebhookClosed,
            Code::TooManySessions,
            Code::IdempotencyKeyReused,
        ])
}

pub(in crate::http::api) fn report_status() -> Operation {
    report("reportStatus")
}

/// Where seed 000 has it.
pub(in crate::http::api) fn report_status_to_function() -> Operation {
    report("reportStatusToFunction")
}

pub(in crate::http::api) fn connect() -> Operation {
    let example = json!({
        "status": "reconnecting", "qr_code": "2@AbCd…",
        "session_id": "wa_0190d5c2-7b1e-7c3a-9a53-5b1f6c1d2e3f",
    });
    operation("connectUser", Tag::Sessions, "Connect one of the organization's users")
        .about(
            "Makes a session for the user, or takes one that he has and that is not connected, starts it, and waits some seconds for the code \
             to scan. A session that was linked to another number is left alone, and one that cannot be started stays, stopped, and says why. \
             Where a member is missing or wrong, `message` of the problem is `Invalid params`; without a token it is `Token not found`, and \
             with one that opens nothing `Invalid token`.",
        )
        .body([
            text("user_id", "The organization's own user.")
                .lengths(1..=LONGEST_USER_ID)
                .pattern("^[^\\u0000-\\u001f\\u007f-\\u009f]*$")
                .required().example("user-uuid-123"),
            phone_number("phone_number", "The number that he will link.").required(),
        ])
        .idempotent()
        .answers::<ConnectingView>(
            201,
            "A new session; or one that the user had, or that an earlier request with this key came to, as it is now.",
            example,
        )
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key came to it.")
        .refuses_with(OddProblem {
            status: 400,
            code: Code::SessionExists,
            about: "The user has a session that is connected: it can be used as it is, or logged out first. `detail` and `message` are \
                    the seed's.",
            detail: Conflict::UserConnected.to_string(),
        })
        .says_to(Code::ValidationFailed, "Invalid params")
        .refuses([Code::TooManySessions, Code::SessionOnOtherNode])
}
