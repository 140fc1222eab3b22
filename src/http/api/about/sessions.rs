//! Sessions and their QR codes.

use serde_json::{Value, json};

use super::{AT, success};
use crate::{
    http::{
        api::{
            Success,
            list::{self, LONGEST},
            migrate::MigrationView,
            qr::{LIFETIMES, QrView, SignedUrlView, limits},
            sessions::{CodeView, DeletedView, LoggedOutView, MadeView},
            status::SessionView,
        },
        code::Code,
        operation::{
            Content, Field, Operation, Tag, flag, number, object, operation, phone_number, text,
            texts, word,
        },
    },
    qr::Layout,
    service::{signatures::USUAL, text::LONGEST_USER_ID},
};

/// An address with its signature.
const SIGNED: &str = "/api/whatsapp/session/shop-1/qr.png?signed=1737367500.org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V.tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V.mUq2…";

/// A session that shows a code.
pub(super) fn example() -> Value {
    json!({
        "sessionId": "shop-1", "status": "qr_generated",
        "message": "QR code generated, scan to connect",
        "qr": "2@AbCd…", "qrImage": "data:image/png;base64,iVBORw0KGgo…",
        "qrUrl": SIGNED, "userId": "user-42", "createdAt": AT, "updatedAt": AT,
        "isConnected": false, "needsQR": true, "isLoading": false, "hasError": false,
        "phoneNumber": null, "pushName": null, "loadingPercent": null,
        "qrIssuedAt": AT, "qrExpiresAt": "2025-01-20T10:01:00.000Z", "qrSequence": 1,
        "reconnecting": false, "since": AT, "nextAttemptAt": null, "lastDisconnect": null,
        "bannedUntil": null, "pairing": { "attempts": 1, "lastError": null, "lastQrAt": AT },
        "accountChanged": null, "desiredState": "running", "connectedAt": null,
        "lastActiveAt": null, "undecryptableMessages": 0, "isNotification": false, "aiConfig": null, "migratedTo": null,
        "migratedAt": null, "migratedFrom": [],
        "lastActiveAt": null, "origin": "embedded", "sessionData": null, "webhookAuth": null,
    })
}

/// One that runs elsewhere, just made.
fn elsewhere() -> Value {
    let mut example = example();
    let members = json!({
        "origin": "external", "webhookAuth": "secret",
        "sessionData": { "vps_session_id": "wa_a545e2c1-0b0e-4b6e-9a7b-5c4d3e2f1a0b" },
        "secret": "whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t",
        "webhookUrl": "/api/whatsapp/webhook/shop-1?secret=whsec_Jm3sXqGZ0cC1v7Uq2nTgYw9oB4dKfLhE6aPzRi5t",
    });
    for (name, value) in members.as_object().into_iter().flatten() {
        example[name] = value.clone();
    }
    example
}

fn session_data() -> Field {
    object(
        "sessionData",
        "Of a session that runs elsewhere: what the caller keeps with it. `vps_session_id` is what it is called there; no other \
         session of the organization may have the same.",
    )
}

fn webhook_auth() -> Field {
    word(
        "webhookAuth",
        &["token", "secret", "signature"],
        "Of a session that runs elsewhere: how whoever posts its events proves that he may. `secret` and `signature` make a secret, \
         which is shown once.",
    )
}

fn user_id() -> Field {
    text("userId", "The organization's own user that the session is of.")
        .lengths(1..=LONGEST_USER_ID)
        .pattern("^[^\\u0000-\\u001f\\u007f-\\u009f]*$")
        .example("user-42")
}

/// Settings that are the organization's own.
fn own_settings() -> [Field; 2] {
    [
        flag(
            "isNotification",
            "Whether the session's user wants notifications: the organization's own, no more.",
        ),
        object(
            "aiConfig",
            "A configuration of the organization's own, of at most 16 KiB; kept and shown as it is. No place for secrets: every viewer sees it.",
        ),
    ]
}

fn shown(operation: Operation, about: &'static str) -> Operation {
    operation.answers::<Success<SessionView>>(200, about, success(&example()))
}

pub(in crate::http::api) fn create() -> Operation {
    operation("createSession", Tag::Sessions, "Make a session")
        .about("It starts at once, unless `start` is `false`; its first QR code is there within seconds.")
        .body([
            text("sessionId", "What to call it; generated if it is not given.")
                .pattern("^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")
                .example("shop-1"),
            user_id(),
            phone_number("phoneNumber", "The number that it is meant for, with country code."),
            flag("start", "Whether to start it.").usually(true).example(true),
            word("origin", &["embedded", "external"], "Whether it runs here or elsewhere.")
                .usually("embedded"),
            session_data(),
            webhook_auth().usually("token"),
        ])
        .also(own_settings())
        .idempotent()
        .answers::<Success<MadeView>>(201, "The session.", success(&elsewhere()))
        .says("Location", "Where it is.")
        .answers::<Success<MadeView>>(
            200,
            "The session that an earlier request with this key has made, as it is at present.",
            success(&example()),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::SessionExists, Code::TooManySessions, Code::VpsSessionExists])
}

pub(in crate::http::api) fn list() -> Operation {
    let session = json!({
        "sessionId": "shop-1", "status": "session_connected", "message": "Connected",
        "qr": null, "userId": "user-42", "createdAt": AT, "updatedAt": AT, "isConnected": true,
        "needsQR": false, "isLoading": false, "hasError": false, "hasQR": false, "lastUpdated": AT,
    });
    let example = json!({
        "success": true, "data": [session],
        "summary": {
            "connected": 1, "disconnected": 0, "loading": 0, "needsQR": 0, "error": 0, "total": 1,
        },
        "timestamp": AT,
    });
    operation("listSessions", Tag::Sessions, "All sessions, and how many are in which state")
        .about("All of them, unless `limit` or `cursor` asks for a page.")
        .query([
            text("userId", "Only sessions of this user.")
                .lengths(1..=LONGEST_USER_ID)
                .pattern("^[^\\u0000-\\u001f\\u007f-\\u009f]*$").example("user-42"),
            word(
                "status",
                &[
                    "connected",
                    "disconnected",
                    "loading",
                    "needsQR",
                    "error",
                    "session_not_connected",
                    "connecting",
                    "qr_generated",
                    "session_connected",
                    "auth_failure",
                ],
                "Only sessions of this group of the summary, or with this status.",
            ),
            word(
                "migrated",
                &["true", "false", "include"],
                "Whether sessions that have handed over to another one are listed and counted: they alone, not, or with the others.",
            )
            .usually("false"),
            number("limit", 1..=LONGEST, "The most sessions of the page."),
            text("cursor", "Where the page begins: `nextCursor` of the page before.").example("MDFKSjJROFpLNFhHMFYzTTVON1A5UjFUM1Y"),
        ])
        .answers::<list::List>(200, "The sessions, or a page of them.", example)
}

pub(in crate::http::api) fn status() -> Operation {
    shown(
        operation("getSessionStatus", Tag::Sessions, "A session's status")
            .about("The same as `GET /api/whatsapp/session/{sessionId}`."),
        "The session.",
    )
}

pub(in crate::http::api) fn show() -> Operation {
    shown(operation("getSession", Tag::Sessions, "One session"), "The session.")
}

pub(in crate::http::api) fn change() -> Operation {
    let operation = operation("changeSession", Tag::Sessions, "Change a session's settings")
        .about("`null` clears a setting.")
        .body([
            user_id(),
            phone_number("phoneNumber", "The number that it is meant for."),
            session_data(),
            webhook_auth(),
        ])
        .also(own_settings())
        .refuses([Code::PhoneNumberKnown, Code::VpsSessionExists]);
    operation.answers::<Success<MadeView>>(200, "The session as it is then.", success(&elsewhere()))
}

pub(in crate::http::api) fn delete() -> Operation {
    let example = success(&json!({ "sessionId": "shop-1", "deleted": true, "unlinked": true }));
    operation("deleteSession", Tag::Sessions, "Delete a session")
        .about(
            "With its keys and messages, for good. Its device is unlinked from the account first.",
        )
        .query([flag("logout", "Whether to unlink the device from the account.").usually(true)])
        .answers::<Success<DeletedView>>(200, "It is gone.", example)
        .refuses([Code::SessionOnOtherNode])
}

/// Something that is done with a session, without more to say.
fn act(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    let operation = operation(id, Tag::Sessions, summary)
        .about(about)
        .body([])
        .refuses([Code::SessionExternal, Code::SessionOnOtherNode]);
    shown(operation, "The session as it is then.")
}

pub(in crate::http::api) fn start() -> Operation {
    act(
        "startSession",
        "Start a session",
        "It runs until it is stopped, over restarts of the daemon. Started twice, it is the same.",
    )
    .refuses([Code::SessionMigrated])
}

pub(in crate::http::api) fn stop() -> Operation {
    act("stopSession", "Stop a session", "It stays linked, and is started again only by a start.")
}

pub(in crate::http::api) fn restart() -> Operation {
    act("restartSession", "Stop a session and start it", "What is wanted of it is then: running.")
        .refuses([Code::SessionMigrated])
}

pub(in crate::http::api) fn log_out() -> Operation {
    let mut example = example();
    example["unlinked"] = true.into();
    operation("logOutSession", Tag::Sessions, "Unlink a session from its account")
        .about("The session stays, without an account; its messages stay, too.")
        .body([flag(
            "forgetAccount",
            "Whether the session may then be linked to another account than before.",
        )
        .usually(false)
        .example(false)])
        .answers::<Success<LoggedOutView>>(
            200,
            "The session as it is then; `unlinked` is `false` when WhatsApp could not be told.",
            success(&example),
        )
        .refuses([Code::SessionExternal, Code::SessionOnOtherNode])
}

pub(in crate::http::api) fn pair() -> Operation {
    operation("pairSession", Tag::Sessions, "Get a code to type on the phone")
        .about("Instead of a QR code. The session must be started, and must not be linked. Eight characters, good for a few minutes.")
        .body([phone_number("phoneNumber", "The number of the account to link.").required()])
        .answers::<Success<CodeView>>(
            200,
            "The code.",
            success(&json!({ "code": "ABCD1234", "expiresAt": AT })),
        )
        .refuses([
            Code::SessionExternal,
            Code::SessionMigrated,
            Code::SessionNotRunning,
            Code::SessionNotConnected,
            Code::SessionAlreadyPaired,
            Code::PairingCodeOutstanding,
            Code::PairingCodeNotAvailable,
            Code::PairingForbidden,
            Code::PairingRefused,
            Code::PairingRateLimited,
            Code::PairingUnavailable,
            Code::SessionOnOtherNode,
        ])
}

const LOOKS: &[&str] = &["image/png", "image/svg+xml", "text/plain; charset=utf-8"];

pub(in crate::http::api) fn migrate() -> Operation {
    let example = json!({
        "sessionId": "shop-2", "dryRun": false,
        "migrated": [{
            "sessionId": "shop-1", "messages": 1204, "settings": ["isNotification"],
            "webhooks": ["ep_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"], "campaigns": 1,
        }],
        "skipped": [],
    });
    operation("migrateSessions", Tag::Sessions, "Take over from other sessions of the account")
        .about(
            "A session that becomes connected takes over by itself from every other one of the organization with the same number that is \
             not connected and not running. This is the same by hand. The history of the old sessions is read with that of the new one; \
             endpoints that choose them, their settings and campaigns are the new one's. They stay, with `migratedTo`, and start no more. \
             Done again, it changes nothing.",
        )
        .body([
            texts("from", "The sessions that shall hand over: all of these, or none. Without it, all that can.")
                .example(json!(["shop-1"])),
            flag("dryRun", "Only tell what would be handed over.").usually(false),
        ])
        .answers::<Success<MigrationView>>(
            200,
            "What was handed over, or would be.",
            success(&example),
        )
        .refuses([
            Code::SessionMigrated,
            Code::MigrationRefused,
            Code::SessionNeverConnected,
        ])
}

pub(in crate::http::api) fn qr() -> Operation {
    let json = Content::Json {
        schema: schemars::SchemaGenerator::subschema_for::<Success<QrView>>,
        example: success(&json!({
            "sessionId": "shop-1", "qr": "2@AbCd…",
            "qrImage": "data:image/png;base64,iVBORw0KGgo…", "issuedAt": AT,
            "expiresAt": "2025-01-20T10:01:00.000Z", "sequence": 1,
        })),
    };
    code("getQr", "The QR code to scan", vec![Content::Media(LOOKS), json])
        .about("As an image, as text for a terminal or as JSON: whichever `Accept` prefers. `wait` has it wait for a code that the caller does not know.")
        .refuses([Code::NotAcceptable])
}

pub(in crate::http::api) fn qr_png() -> Operation {
    code("getQrPng", "The QR code as a PNG", vec![Content::Media(&["image/png"])])
}

pub(in crate::http::api) fn qr_svg() -> Operation {
    code("getQrSvg", "The QR code as an SVG", vec![Content::Media(&["image/svg+xml"])])
}

pub(in crate::http::api) fn qr_text() -> Operation {
    code(
        "getQrText",
        "The QR code for a terminal",
        vec![Content::Media(&["text/plain; charset=utf-8"])],
    )
}

pub(in crate::http::api) fn qr_json() -> Operation {
    let Operation { responses, .. } = qr();
    let json = responses
        .into_iter()
        .flat_map(|response| response.contents)
        .filter(|content| matches!(content, Content::Json { .. }));
    code("getQrJson", "The QR code as JSON", json.collect())
}

pub(in crate::http::api) fn sign_qr() -> Operation {
    let usual = Layout::default();
    operation("signQrUrl", Tag::Sessions, "An address of the QR code that opens without a token")
        .about(
            "For an `<img>`, which cannot show a token: the address of the code as an image, good for this session, look and time. It ends \
             early with the session, and with the token that asked for it. Use it as it is: whatever is changed or added makes it invalid. \
             `qrUrl` of a session is one of these.",
        )
        .body([
            word("format", &["png", "svg"], "What kind of image.").usually("png").example("png"),
            number("size", limits(Layout::SIZES), "Width and height in pixels.")
                .usually(usual.size)
                .example(300),
            number("margin", limits(Layout::MARGINS), "Width of the light frame, in modules.")
                .usually(usual.margin),
            number("wait", 0..=60, "Seconds that the image waits for a code when there is none.")
                .usually(0),
            number("expiresIn", LIFETIMES, "Seconds that it is good.")
                .usually(USUAL.as_secs())
                .example(300),
        ])
        .answers::<Success<SignedUrlView>>(
            200,
            "The address.",
            success(&json!({ "url": SIGNED, "expiresAt": "2025-01-20T10:05:00.000Z" })),
        )
}

fn code(id: &'static str, summary: &'static str, contents: Vec<Content>) -> Operation {
    let usual = Layout::default();
    operation(id, Tag::Sessions, summary)
        .query([
            number("size", limits(Layout::SIZES), "Width and height in pixels.")
                .usually(usual.size),
            number("margin", limits(Layout::MARGINS), "Width of the light frame, in modules.")
                .usually(usual.margin),
            number("after", 0..=i64::MAX, "The caller knows the codes up to this `sequence`."),
            number("wait", 0..=60, "Seconds to wait for a code that the caller does not know.")
                .usually(0),
        ])
        .header(
            text("If-None-Match", "The `ETag` of the code that the caller has.")
                .example("\"b5a7c2\""),
        )
        .response(200, "The code.", contents)
        .says("ETag", "Names this code in this look.")
        .says(
            "Cache-Control",
            "A code may be kept, and must be asked for again before it is shown.",
        )
        .says("X-Qr-Sequence", "Counts the codes of the session.")
        .says("X-Qr-Issued-At", "When WhatsApp gave it.")
        .says("X-Qr-Expires-At", "Until when it can be scanned.")
        .answers_nothing(304, "The caller has it.")
        .says("ETag", "Names this code in this look.")
        .refuses([Code::QrNotAvailable, Code::TooManyStreams, Code::StreamsOfCaller])
}
