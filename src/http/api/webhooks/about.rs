//! What the routes of webhooks say about themselves.

use entity::webhook::state::{DeliveryState, Format, Ordering, ReplayState};
use serde_json::{Value, json};

use super::{
    LONGEST, USUAL,
    endpoints::{CreatedView, ResumedView, RotatedView, STATES},
    replays::ReplayView,
    stats::StatsView,
    types::TypeView,
    views::{
        AttemptView, DeliveryDetailView, DeliveryView, DetailView, EndpointView, Page,
        RegisteredView, RetriedView, TestView,
    },
};
use crate::{
    http::{
        api::{Success, about::success},
        code::Code,
        operation::{
            Field, Operation, Tag, flag, label, named_texts, number, operation, overlap,
            phone_number, text, texts, time, url, word,
        },
    },
    service::webhooks::limits,
    webhook::EventType,
};

const AT: &str = "2025-01-20T10:00:00.000Z";
const URL: &str = "https://receiver.example.com/whatsapp";
const ID: &str = "ep_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const FINGERPRINT: &str = "3570c5eb";

fn endpoint() -> Value {
    json!({
        "id": ID, "url": URL, "description": "orders", "format": "envelope",
        "event_types": ["message.received"], "session_ids": [], "phone_numbers": [],
        "has_headers": false, "ordering": "none", "max_in_flight": 4, "rate_per_second": null,
        "timeout_ms": 15000, "max_retries": null, "max_age_seconds": 259_200, "state": "active",
        "disabled_reason": null, "disabled_at": null,
        "health": {
            "breaker": "closed", "consecutive_failures": 0, "failing_since": null,
            "last_failure_at": null, "last_success_at": AT, "held_until": null,
        },
        "created_at": AT, "updated_at": AT,
    })
}

fn with(mut value: Value, members: &Value) -> Value {
    for (name, member) in members.as_object().into_iter().flatten() {
        value[name] = member.clone();
    }
    value
}

fn detail() -> Value {
    let secret = json!({ "id": "sec_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "fingerprint": FINGERPRINT, "created_at": AT, "expires_at": null });
    with(endpoint(), &json!({ "secrets": [secret], "gaps": [] }))
}

fn delivery() -> Value {
    json!({
        "id": "dlv_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "webhook_id": ID,
        "event_id": "evt_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "event_type": "message.received",
        "sequence": 17, "status": "succeeded", "cause": "event", "attempts": 1,
        "response_status": 200, "error": null, "next_attempt_at": null,
        "expires_at": "2025-01-23T10:00:00.000Z", "created_at": AT, "finished_at": AT,
    })
}

fn replay() -> Value {
    json!({
        "id": "rpl_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "webhook_id": ID, "state": "running",
        "after_sequence": 0, "through_sequence": 1000, "at_sequence": 250, "percent": 25,
        "deliveries": 40, "undelivered_only": false, "remaining": null, "rate_per_second": 50, "created_at": AT, "finished_at": null,
    })
}

fn page(data: &Value) -> Value {
    json!({ "success": true, "data": [data], "next_cursor": null })
}

/// Which page of a list.
fn place() -> [Field; 2] {
    [
        number("limit", 1..=LONGEST, "The most entries of the page.").usually(USUAL),
        text("cursor", "Where the page begins: `next_cursor` of the page before.")
            .example("MDFKSjJROFpLNFhHMFYzTTVON1A5UjFUM1Y"),
    ]
}

/// What an endpoint is made of.
fn settings() -> Vec<Field> {
    vec![
        label("description", "What people call it.").lengths(0..=500).example("orders"),
        word("format", Format::WORDS, "What its bodies look like: `envelope` for any event, `flat` for messages alone.")
            .usually("envelope")
            .example("envelope"),
        texts("event_types", "What it is told of: see `GET /api/webhooks/event-types`. `message.*` and `*` stand for many.")
            .example(json!(["message.received"])),
        texts("session_ids", "Only events of these sessions; of all, if there are none.").example(json!([])),
        texts("phone_numbers", "Only events of sessions with these numbers; of all, if there are none.").example(json!([])),
        named_texts("headers", "Sent along with each request. Never shown again.").example(json!({ "X-Source": "wagate" })),
        word("ordering", Ordering::WORDS, "In which order it is told of events.").usually("none").example("none"),
        number("max_in_flight", limits::IN_FLIGHT, "Requests at a time, of all daemons together that share the database.").usually(4).example(4),
        number("rate_per_second", limits::RATE, "Requests a second, of all daemons together that share the database: each gives its part, whatever the others are asked for. `null` for any number.").example(50),
        number("timeout_ms", limits::TIMEOUT_MS, "Milliseconds that a request may take.").usually(15_000).example(15_000),
        number("max_retries", limits::RETRIES, "Tries after the first; `null` for as many as fit.").example(10),
        number("max_age_seconds", 60..=i64::from(i32::MAX), "For how long a delivery is tried: at most as long as the operator has configured.")
            .example(86_400),
    ]
}

fn target() -> Field {
    url("url", "Where events are sent.").example(URL)
}

pub(super) fn create() -> Operation {
    let created = with(endpoint(), &json!({ "secret": SECRET }));
    operation("createWebhook", Tag::Webhooks, "Make a webhook endpoint")
        .about("Requests are signed as Standard Webhooks has it; the secret is in this answer and never again.")
        .body(std::iter::once(target().required()).chain(settings()))
        .idempotent()
        .answers::<Success<CreatedView>>(201, "The endpoint, with its secret.", success(&created))
        .says("Location", "Where it is.")
        .answers::<Success<CreatedView>>(
            200,
            "The endpoint that an earlier request with this key has made, without its secret.",
            success(&with(endpoint(), &json!({ "secret": null }))),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::TooManyWebhooks])
}

pub(super) fn register() -> Operation {
    let registered = |secret: Value| {
        let endpoint = json!({
            "id": ID, "phone_number": "15550001111", "webhook_url": URL, "max_retries": 3,
            "state": "active", "created_at": AT,
        });
        success(&with(endpoint, &secret))
    };
    operation("registerWebhook", Tag::Webhooks, "Have the messages of a number sent to a URL")
        .about("An endpoint of the format `flat` for `message.received`. Registered twice, it is the same endpoint. One that was disabled is called again, and `missed` is what it has missed; one that is paused stays so, as `state` says.")
        .body([
            phone_number("phone_number", "The number of the session's account.").required(),
            url("webhook_url", "Where messages are sent.").required().example(URL),
            number("max_retries", limits::RETRIES, "Tries after the first; `null` for as many as fit. Registered again without it, they stay as they were.").example(3),
        ])
        .idempotent()
        .answers::<Success<RegisteredView>>(
            201,
            "The endpoint, with its secret.",
            registered(json!({ "secret": SECRET })),
        )
        .says("Location", "Where it is.")
        .answers::<Success<RegisteredView>>(
            200,
            "The endpoint, which was registered before.",
            registered(json!({})),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true` where a request with this key has made it.")
        .refuses([Code::TooManyWebhooks])
}

pub(super) fn list() -> Operation {
    operation("listWebhooks", Tag::Webhooks, "All webhook endpoints")
        .about("The oldest first.")
        .query([
            word("state", STATES, "Only endpoints in this state."),
            word("format", Format::WORDS, "Only endpoints of this format."),
        ])
        .query(place())
        .answers::<Page<EndpointView>>(200, "A page of endpoints.", page(&endpoint()))
}

pub(super) fn types() -> Operation {
    let kind = json!({
        "type": "session.authenticated", "description": "The phone accepted the pairing.",
        "schema": { "type": "object" }, "example": {},
    });
    operation("listEventTypes", Tag::Webhooks, "Every type of event that endpoints can be told of")
        .about("Each with a JSON Schema of its `data` and an example.")
        .answers::<Success<Vec<TypeView>>>(200, "All of them.", success(&json!([kind])))
}

fn detailed(operation: Operation, about: &'static str) -> Operation {
    operation.answers::<Success<DetailView>>(200, about, success(&detail()))
}

pub(super) fn show() -> Operation {
    let operation = operation("getWebhook", Tag::Webhooks, "One webhook endpoint")
        .about("With its secrets (of each a `fingerprint`, and nothing that is secret in it) and with what it has missed by being disabled.");
    detailed(operation, "The endpoint.")
}

pub(super) fn update() -> Operation {
    let operation = operation("changeWebhook", Tag::Webhooks, "Change a webhook endpoint")
        .about("With another `url`, what is remembered of how it answered is forgotten: an open breaker is closed.")
        .body(std::iter::once(target()).chain(settings()));
    detailed(operation, "The endpoint as it is then.")
}

pub(super) fn delete() -> Operation {
    operation("deleteWebhook", Tag::Webhooks, "Delete a webhook endpoint")
        .about("What it was owed is not sent any more.")
        .answers_nothing(204, "It is gone.")
}

pub(super) fn pause() -> Operation {
    let operation = operation("pauseWebhook", Tag::Webhooks, "Pause a webhook endpoint")
        .about("It is owed events as before, and called again when it is resumed.")
        .body([])
        .refuses([Code::WebhookDisabled]);
    detailed(operation, "The endpoint as it is then.")
}

pub(super) fn resume() -> Operation {
    let resumed = with(detail(), &json!({ "missed": null }));
    operation("resumeWebhook", Tag::Webhooks, "Resume a webhook endpoint")
        .about("One that was paused or disabled. `missed` is what it did not take since it began to fail and was not owed meanwhile: a replay of exactly these numbers sends what it was not told of.")
        .body([])
        .answers::<Success<ResumedView>>(200, "The endpoint as it is then.", success(&resumed))
}

pub(super) fn rotate() -> Operation {
    operation("rotateWebhookSecret", Tag::Webhooks, "Give a webhook endpoint a new secret")
        .body([overlap("overlap_seconds", "For how long the old secret signs beside it.")])
        .idempotent()
        .answers::<Success<RotatedView>>(
            200,
            "The new secret.",
            success(&json!({ "secret": SECRET, "old_secrets_until": AT })),
        )
        .says("Idempotency-Replayed", "`true`, if an earlier request with this key has done it.")
}

pub(super) fn test() -> Operation {
    let names: Vec<_> = EventType::ALL.iter().map(|kind| kind.name()).collect();
    let tested = json!({
        "delivered": true, "event_id": "evt_01JJ2Q8ZK4XG0V3M5N7P9R1T3V",
        "event_type": "message.received", "status": 200, "error": null, "duration_ms": 41,
        "peer": "192.0.2.7:443", "response": "ok",
    });
    operation("testWebhook", Tag::Webhooks, "Send a webhook endpoint an example")
        .about("At once, signed like any other; the answer says what came of it. An organization has three at a time.")
        .body([word("type", &names, "Of which type.").example("message.received")])
        .answers::<Success<TestView>>(200, "What came of it.", success(&tested))
        .refuses([Code::WebhookDisabled, Code::TooManyTests])
}

pub(super) fn create_replay() -> Operation {
    let sequence = |name: &'static str, about: &'static str| number(name, 0..=i64::MAX, about);
    operation("createReplay", Tag::Webhooks, "Send a range of events again")
        .about("Between two times or two numbers. It goes on by itself; each delivery has its event's id, as the first had. Five of an organization go on at a time, by turns with those of others. If the endpoint is disabled meanwhile, it is `stopped`, and `remaining` is what it has not come to.")
        .body([
            time("since", "From this time on.").example("2025-01-20T00:00:00Z"),
            time("until", "To this time.").example("2025-01-21T00:00:00Z"),
            sequence("after_sequence", "After the event of this number."),
            sequence("through_sequence", "Through the event of this number."),
            number("rate_per_second", limits::REPLAY_RATE, "Events to look at in a second.")
                .example(50),
            flag("undelivered_only", "Only events that the endpoint was neither told of nor is still to be told of. `true` for a range that is exactly one of its gaps, else `false`, unless it is said."),
        ])
        .idempotent()
        .answers::<Success<ReplayView>>(202, "The replay.", success(&replay()))
        .says("Location", "Where it is.")
        .answers::<Success<ReplayView>>(
            200,
            "The replay that an earlier request with this key has begun, as it stands.",
            success(&replay()),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::WebhookDisabled, Code::TooManyReplays])
}

pub(super) fn list_replays() -> Operation {
    operation("listReplays", Tag::Webhooks, "A webhook endpoint's replays")
        .about("The newest first.")
        .query([word("state", ReplayState::WORDS, "Only replays in this state.")])
        .query(place())
        .answers::<Page<ReplayView>>(200, "A page of replays.", page(&replay()))
}

pub(super) fn show_replay() -> Operation {
    operation("getReplay", Tag::Webhooks, "How far a replay has come")
        .answers::<Success<ReplayView>>(200, "The replay.", success(&replay()))
}

pub(super) fn cancel_replay() -> Operation {
    operation("cancelReplay", Tag::Webhooks, "Stop a replay")
        .about("What was owed by then is still sent.")
        .body([])
        .answers::<Success<ReplayView>>(200, "The replay.", success(&replay()))
        .refuses([Code::ReplayEnded])
}

pub(super) fn list_deliveries() -> Operation {
    let names: Vec<_> = EventType::ALL.iter().map(|kind| kind.name()).collect();
    operation("listDeliveries", Tag::Webhooks, "What a webhook endpoint was and is to be sent")
        .about("The newest first.")
        .query([
            word("status", DeliveryState::WORDS, "Only deliveries that are so far."),
            word("type", &names, "Only deliveries of events of this type."),
        ])
        .query(place())
        .answers::<Page<DeliveryView>>(200, "A page of deliveries.", page(&delivery()))
}

pub(super) fn show_stats() -> Operation {
    let stats = json!({
        "webhook_id": ID, "since": "2025-01-19T10:00:00.000Z", "until": AT, "attempts": 1200,
        "delivered": 1188, "failed": 12, "exhausted": 0, "success_rate": 0.99,
        "duration_ms": { "p50": 40, "p95": 210 }, "pending": 3, "in_flight": 1,
        "oldest_due_at": AT, "oldest_due_seconds": 0, "last_success_at": AT,
        "last_failure_at": null,
    });
    operation(
        "getWebhookStats",
        Tag::Webhooks,
        "How often a webhook endpoint is called, and how it answers",
    )
    .about("Counted by the hour; of the last day, unless a time is asked for.")
    .query([time("since", "The beginning of what is counted."), time("until", "Its end.")])
    .answers::<Success<StatsView>>(200, "Its figures.", success(&stats))
}

/// One try.
fn attempt() -> Value {
    json!({
        "id": "att_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "number": 1, "started_at": AT, "duration_ms": 41,
        "peer": "192.0.2.7:443", "status": 200, "error": null, "response": "ok",
    })
}

pub(super) fn list_attempts() -> Operation {
    operation("listDeliveryAttempts", Tag::Webhooks, "Every try of a delivery")
        .about("The newest first.")
        .query([flag("failed", "Only tries that failed, or only those that did not.")])
        .query(place())
        .answers::<Page<AttemptView>>(200, "A page of tries.", page(&attempt()))
}

pub(super) fn show_delivery() -> Operation {
    let event = json!({ "session_id": "shop-1", "occurred_at": AT, "data": {} });
    let detail = with(
        delivery(),
        &json!({ "event": event, "attempt_log": [attempt()], "has_older_attempts": false }),
    );
    operation("getDelivery", Tag::Webhooks, "One delivery, with its event and its latest tries")
        .answers::<Success<DeliveryDetailView>>(200, "The delivery.", success(&detail))
}

pub(super) fn retry_delivery() -> Operation {
    operation("retryDelivery", Tag::Webhooks, "Send an event again at once")
        .about("With the same id, whatever came of it before, and before all else that the endpoint is owed. While its breaker is open, it is the one request that tries whether the receiver is back. What the order asked for has to go out before it still does; a receiver that has asked to be left alone is, until `held_until`; and to an endpoint that is paused it goes when that is resumed.")
        .body([])
        .answers::<Success<RetriedView>>(
            202,
            "It is the next to be sent.",
            success(&with(delivery(), &json!({ "status": "pending", "response_status": null, "finished_at": null, "held_until": null }))),
        )
        .refuses([Code::DeliveryInFlight, Code::WebhookDisabled, Code::EventRetired])
}
