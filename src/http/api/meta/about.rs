//! What the routes of Meta's webhooks say about themselves.

use entity::meta::state::{MetaEventState, MetaStatus};
use serde_json::{Value, json};

use super::views::{
    AccountView, EventDetailView, EventView, OverviewPage, ReprocessedView, RotatedView,
    UpsertedView,
};
use crate::{
    http::{
        api::{
            List, Success,
            about::{AT, page, success},
        },
        code::Code,
        fields::LONGEST_PAGE,
        operation::{Content, Field, Operation, Tag, flag, label, operation, text, time, word},
    },
    service::meta::{MOST_ACCOUNTS, limits},
};

const ID: &str = "mac_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";
const NUMBER: &str = "106540352242922";
const WABA: &str = "102290129340398";
const TOKEN: &str = "n4Vv3m5N7P9R1T3VkQ8ZK4XG0V3M5N7P9R1T3VkQ8ZI";
const WAMID: &str = "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA=";

fn account() -> Value {
    json!({
        "id": ID, "label": "Support", "phoneNumberId": NUMBER, "wabaId": WABA,
        "displayPhoneNumber": "15550783881", "appId": "670843887433847",
        "sessionId": format!("meta_{NUMBER}"), "hasAppSecret": true,
        "previousAppSecretUntil": null, "hasAccessToken": true,
        "callbackPath": "/api/webhooks/whatsapp",
        "callbackUrl": "https://gateway.example.com/api/webhooks/whatsapp",
        "ownPath": format!("/api/webhooks/whatsapp/{TOKEN}"), "status": "verified",
        "lastVerifiedAt": AT, "hasCompleteWhatsAppConfig": true, "missing": [],
        "silentSince": null,
        "createdAt": AT, "updatedAt": AT,
    })
}

fn with_token(token: Option<&str>) -> Value {
    let mut account = account();
    account["verifyToken"] = json!(token);
    success(&account)
}

fn event() -> Value {
    json!({
        "id": "mev_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "accountId": ID, "eventType": "message",
        "subtype": "text", "objectId": WAMID, "eventTs": AT,
        "dedupKey": format!("m:{NUMBER}:{WAMID}"), "unrouted": false, "processed": false,
        "processedAt": null, "state": "waiting", "attempts": 0, "nextAttemptAt": null,
        "error": null, "createdAt": AT,
    })
}

fn item() -> Value {
    json!({
        "from": "16505551234", "id": WAMID, "timestamp": "1737367200", "type": "text",
        "text": { "body": "Does it come in another color?" },
    })
}

fn posted() -> Value {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": WABA, "changes": [{ "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": NUMBER },
            "contacts": [{ "profile": { "name": "Sheena Nelson" }, "wa_id": "16505551234" }],
            "messages": [item()],
        } }] }],
    })
}

fn members(number: Field) -> Vec<Field> {
    vec![
        number.lengths(limits::ID),
        label("label", "What people call it.").lengths(limits::LABEL),
        text("wabaId", "Meta's id of the business account that the number is of.").lengths(limits::ID).example(WABA),
        label("displayPhoneNumber", "The number, for people.").lengths(limits::NUMBER),
        text("appId", "Meta's id of the app.").lengths(limits::ID).example("670843887433847"),
        text(
            "appSecret",
            "The app's secret, which Meta signs with. Whoever points an account at a number must show it; an operator may leave it out, for the \
             installation's own app. Never shown again.",
        )
        .lengths(limits::SECRET)
        .example("614fc2afde15eee07a26b2fe3eaee9b9"),
        time("previousAppSecretUntil", "Until when the app's secret before is good, too: a day from now if nothing is said, 30 days at most."),
        text("accessToken", "What Meta's Graph API is called with. Never shown again.").lengths(limits::ACCESS_TOKEN),
        text("verifyToken", "What Meta shows in a challenge: one is made, and shown once, for a new account that is given none.")
            .lengths(limits::SECRET),
        text("callbackPath", "Where Meta was told to call: a path of this daemon, or an https URL. `/api/webhooks/whatsapp` if nothing is said. It decides nothing.")
            .lengths(limits::CALLBACK),
        status(),
    ]
}

fn status() -> Field {
    word(
        "status",
        MetaStatus::WORDS,
        "`disabled` takes neither challenges nor events. `verified` by hand is for an account whose app was verified through another.",
    )
    .example("disabled")
}

fn number() -> Field {
    text("phoneNumberId", "Meta's id of the phone number.").example(NUMBER)
}

pub(super) fn upsert() -> Operation {
    operation("upsertMetaAccount", Tag::Meta, "Set a phone number up")
        .about(
            "Makes an account of a number, or changes the one that the organization has. Another verify token makes a verified account unverified, until Meta has shown it.",
        )
        .body(members(number().required()))
        .idempotent()
        .answers::<Success<UpsertedView>>(201, "The new account.", with_token(Some(TOKEN)))
        .says("Location", "Where it is.")
        .answers::<Success<UpsertedView>>(
            200,
            "The account that was there, changed; or that an earlier request with this key has made.",
            with_token(None),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key has made it.")
        .refuses([Code::TooManyMetaAccounts, Code::MetaNumberTaken, Code::MetaAccountIncomplete])
}

fn filters() -> [Field; 2] {
    [
        word("status", &["unverified", "verified", "disabled"], "Only accounts in this state."),
        text("phoneNumberId", "Only the accounts of this number, by Meta's id of it.")
            .pattern("^[^\\u0000]*$")
            .example(NUMBER),
    ]
}

pub(super) fn list() -> Operation {
    operation("listMetaAccounts", Tag::Meta, "The organization's accounts")
        .about("The oldest first. No secret is in it.")
        .query(filters())
        .paged()
        .answers::<List<AccountView>>(200, "A page of accounts.", page(&account()))
}

pub(super) fn show() -> Operation {
    operation("getMetaAccount", Tag::Meta, "One account")
        .about("Without its secrets, which are never shown.")
        .answers::<Success<AccountView>>(200, "The account.", success(&account()))
}

pub(super) fn change() -> Operation {
    operation("changeMetaAccount", Tag::Meta, "Change an account")
        .about("What is given is changed; `null` clears.")
        .body(members(number()))
        .answers::<Success<AccountView>>(200, "The account as it is then.", success(&account()))
        .refuses([Code::MetaNumberTaken, Code::MetaAccountIncomplete])
}

pub(super) fn delete() -> Operation {
    operation("deleteMetaAccount", Tag::Meta, "Delete an account")
        .about(
            "Nothing of it is taken from Meta any more, and nothing is sent: what waits to be sent fails. Its messages and what Meta has told stay, and an account that is made \
             of the number again goes on with them.",
        )
        .answers_nothing(204, "It is gone.")
}

pub(super) fn rotate() -> Operation {
    operation("rotateMetaVerifyToken", Tag::Meta, "Give an account another verify token")
        .about("The old one is good no more. A verified account is unverified until Meta has shown the new one; events are taken all the while.")
        .body([])
        .idempotent()
        .answers::<Success<RotatedView>>(200, "The account, with the token.", with_token(Some(TOKEN)))
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key has done it.")
}

pub(super) fn set_status() -> Operation {
    operation("setMetaAccountStatus", Tag::Meta, "Switch an account off or on")
        .body([status().required()])
        .answers::<Success<AccountView>>(200, "The account as it is then.", success(&account()))
        .refuses([Code::MetaAccountIncomplete])
}

pub(super) fn overview() -> Operation {
    let mut overview = success(&json!({
        "organizationId": "org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "name": "Toko Budi",
        "hasCompleteWhatsAppConfig": true, "whatsappBusinessAccountId": WABA,
        "whatsappPhoneNumberId": NUMBER, "whatsappAppId": "670843887433847",
        "whatsappWebhookUrl": "https://gateway.example.com/api/webhooks/whatsapp",
        "hasWhatsappAccessToken": true, "hasWhatsappWebhookVerifyToken": true,
        "hasWhatsappAppSecret": true, "accounts": [account()],
    }));
    overview["nextCursor"] = Value::Null;
    operation("getOrganizationWhatsApp", Tag::Meta, "An organization's configuration at Meta")
        .about(
            "With its accounts, the oldest first: all of them, or those of a page or a state, with `nextCursor` beside `data`. What stands beside \
             them is of all accounts, whatever was asked for. Another organization than the token's own is shown to operators alone.",
        )
        .query(filters())
        .pages_of(LONGEST_PAGE, MOST_ACCOUNTS)
        .answers::<OverviewPage>(200, "The configuration.", overview)
}

pub(super) fn list_events() -> Operation {
    operation("listMetaEvents", Tag::Meta, "What Meta told")
        .about("The newest first. Everything is there once, however often Meta has told it.")
        .query([
            flag("processed", "Only what was, or was not, carried out."),
            text("type", "Only events of this type.").pattern("^[^\\u0000]*$").example("message"),
            text("account", "Only events about this account.")
                .pattern("^mac_[0-7][0-9A-HJKMNP-TV-Z]{25}$")
                .example("mac_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
            flag("unrouted", "Only what names, or does not name, a number that nobody has set up."),
            word(
                "state",
                MetaEventState::WORDS,
                "Only what is so far: `failed` is what was given up.",
            ),
            time("from", "Only events from this time on."),
            time("to", "Only events before this time."),
        ])
        .paged()
        .answers::<List<EventView>>(200, "A page of events.", page(&event()))
}

fn reprocesses(id: &'static str, summary: &'static str) -> Operation {
    operation(id, Tag::Meta, summary)
        .about(
            "It is carried out as if Meta told it now, in the order of each conversation. What is there is there once: messages, statuses and what \
             endpoints were told are not doubled. What waits goes on waiting.\n\n\
             With a range comes what was told of your numbers before they were set up and was kept as nobody's, by an app that organizations share: as if Meta \
             told it now, and not among `events`.",
        )
        .idempotent()
        .answers::<Success<ReprocessedView>>(
            202,
            "It is carried out soon: see `state`.",
            success(&json!({ "events": 1 })),
        )
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key has asked for it.")
}

pub(super) fn reprocess_one() -> Operation {
    reprocesses("reprocessMetaEvent", "Have one event carried out again").body([])
}

pub(super) fn reprocess() -> Operation {
    reprocesses("reprocessMetaEvents", "Have a range of events carried out again").body([
        word("state", &["processed", "failed"], "Only what was carried out, or was given up.")
            .example("failed"),
        text("type", "Only events of this type.").pattern("^[^\\u0000]*$"),
        text("account", "Only events about this account.")
            .pattern("^mac_[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
        flag("unrouted", "Only what names, or does not name, a number that nobody has set up."),
        time("from", "Only events from this time on."),
        time("to", "Only events before this time."),
    ])
}

pub(super) fn show_event() -> Operation {
    let mut detail = event();
    detail["item"] = item();
    detail["payload"] = posted();
    detail["payloadBase64"] = Value::Null;
    detail["isPart"] = json!(false);
    detail["signature"] =
        json!("sha256=dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756");
    detail["receivedAt"] = json!(AT);
    operation("getMetaEvent", Tag::Meta, "One thing that Meta told")
        .about("With the body of the request that it came in, as it came.")
        .answers::<Success<EventDetailView>>(200, "The event.", success(&detail))
}

fn challenge_as(id: &'static str) -> Operation {
    operation(id, Tag::Meta, "Meta's challenge")
        .about("For Meta. The token of an account that is complete and not disabled verifies it; the installation's default token verifies nothing, and is answered on the shared addresses.")
        .query([
            text("hub.mode", "`subscribe`").required().example("subscribe"),
            text("hub.verify_token", "The account's verify token.").required().example(TOKEN),
            text("hub.challenge", "What to say back.").required().example("1158201444"),
        ])
        .response(200, "The challenge.", vec![Content::Text { kind: "text/plain; charset=utf-8", example: "1158201444" }])
        .refuses([Code::MetaChallengeRefused, Code::RateLimited, Code::DatabaseUnavailable, Code::Unavailable])
}

pub(super) fn challenge() -> Operation {
    challenge_as("answerMetaChallenge")
}

pub(super) fn challenge_short() -> Operation {
    challenge_as("answerMetaChallengeShort")
}

pub(super) fn challenge_own() -> Operation {
    challenge_as("answerMetaChallengeOfAccount")
}

fn receive_as(id: &'static str, refused: Code) -> Operation {
    let signature = text(
        "X-Hub-Signature-256",
        "`sha256=` and the HMAC-SHA-256 of the body's bytes under the app's secret, in hexadecimal.",
    );
    operation(id, Tag::Meta, "Meta's events")
        .about(
            "For Meta. 200 says that the body is on disk, and each thing in it once. A body of several organizations' is verified for each. \
             What is signed well and cannot be read is kept, too; it is answered 200, as Meta would only send the same again.\n\nNo address is refused for how much it sends. \
             Signatures that fit nothing are counted by address, and answered with 429 where there were too many; what is signed well is taken from there, too.",
        )
        .header(signature.required().example("sha256=dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756"))
        .posted(posted())
        .answers_nothing(200, "It is kept.")
        .refuses([
            refused,
            Code::MetaAccountDisabled,
            Code::BadRequest,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
            Code::RateLimited,
            Code::DatabaseUnavailable,
            Code::Unavailable,
        ])
}

pub(super) fn receive() -> Operation {
    receive_as("receiveMetaEvents", Code::MetaSignatureInvalid)
}

pub(super) fn receive_short() -> Operation {
    receive_as("receiveMetaEventsShort", Code::MetaSignatureInvalid)
}

pub(super) fn receive_own() -> Operation {
    receive_as("receiveMetaEventsOfAccount", Code::MetaSignatureRequired)
        .refuses([Code::MetaAccountNotFound])
}
