//! What endpoints and deliveries look like.

use entity::{
    id::{AttemptId, DeliveryId, EndpointId, EventId, GapId, SecretId, SessionId},
    webhook::{
        attempt, delivery, endpoint, gap, secret,
        state::{Cause, DeliveryState, DisabledReason, EndpointState, Format, Ordering},
    },
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    event::payload::{Timestamp, rfc3339},
    service::webhooks::{Detail, Endpoint, EndpointDetail, Tested},
    webhook::health::{Breaker, breaker},
};

/// An endpoint. Neither its secrets nor the values of its headers are ever in it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
pub(super) struct EndpointView {
    id: EndpointId,
    url: String,
    description: Option<String>,
    format: Format,
    #[schemars(with = "Vec<String>")]
    event_types: Box<RawValue>,
    #[schemars(with = "Vec<SessionId>")]
    session_ids: Box<RawValue>,
    #[schemars(with = "Vec<String>")]
    phone_numbers: Box<RawValue>,
    has_headers: bool,
    ordering: Ordering,
    max_in_flight: i32,
    rate_per_second: Option<i32>,
    timeout_ms: i32,
    max_retries: Option<i32>,
    max_age_seconds: i64,
    state: EndpointState,
    disabled_reason: Option<DisabledReason>,
    disabled_at: Option<Timestamp>,
    health: HealthView,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "WebhookHealth")]
pub(super) struct HealthView {
    /// `closed`, `open` or `half_open`.
    breaker: &'static str,
    consecutive_failures: i32,
    failing_since: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
    last_success_at: Option<Timestamp>,
    /// Not called before: its breaker is open, or it asked for it.
    held_until: Option<Timestamp>,
}

impl EndpointView {
    pub(super) fn of(endpoint: Endpoint, now: entity::UnixMillis) -> Self {
        let Endpoint { row, health } = endpoint;
        let list = |json: String| {
            RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
        };
        let health = health.map_or_else(
            || HealthView { breaker: "closed", ..HealthView::default() },
            |health| HealthView {
                breaker: match breaker(health.consecutive_failures, health.hold_until, now) {
                    Breaker::Closed => "closed",
                    Breaker::Open => "open",
                    Breaker::HalfOpen => "half_open",
                },
                consecutive_failures: health.consecutive_failures,
                failing_since: health.first_failure_at.map(rfc3339),
                last_failure_at: health.last_failure_at.map(rfc3339),
                last_success_at: health.last_success_at.map(rfc3339),
                held_until: health.hold_until.filter(|until| *until > now).map(rfc3339),
            },
        );
        Self {
            id: row.id,
            url: row.url,
            description: row.description,
            format: row.format,
            event_types: list(row.event_types),
            session_ids: list(row.session_ids),
            phone_numbers: list(row.phone_numbers),
            has_headers: row.headers.is_some(),
            ordering: row.ordering,
            max_in_flight: row.max_in_flight,
            rate_per_second: row.rate_per_second,
            timeout_ms: row.timeout_ms,
            max_retries: row.max_retries,
            max_age_seconds: row.max_age_ms / 1000,
            state: row.state,
            disabled_reason: row.disabled_reason,
            disabled_at: row.disabled_at.map(rfc3339),
            health,
            created_at: rfc3339(row.created_at),
            updated_at: rfc3339(row.updated_at),
        }
    }
}

/// An endpoint in every detail.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookDetail")]
pub(super) struct DetailView {
    #[serde(flatten)]
    endpoint: EndpointView,
    secrets: Vec<SecretView>,
    gaps: Vec<GapView>,
}

/// A secret, without the secret.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookSecret")]
pub(super) struct SecretView {
    id: SecretId,
    /// The first eight hexadecimal digits of the SHA-256 of `fingerprint:` and the secret as it was shown.
    fingerprint: Option<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// What an endpoint has missed as it was disabled, by sequence numbers: what it did not take since it began to fail, and
/// what it was not owed until it was resumed. It may have been told of some in between.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookGap")]
pub(super) struct GapView {
    id: GapId,
    reason: DisabledReason,
    after_sequence: i64,
    through_sequence: Option<i64>,
    since: Timestamp,
    until: Option<Timestamp>,
}

impl From<gap::Model> for GapView {
    fn from(row: gap::Model) -> Self {
        Self {
            id: row.id,
            reason: row.reason,
            after_sequence: row.after_seq,
            through_sequence: row.through_seq,
            since: rfc3339(row.since),
            until: row.until.map(rfc3339),
        }
    }
}

impl DetailView {
    pub(super) fn of(detail: EndpointDetail, now: entity::UnixMillis) -> Self {
        let live = |(row, _): &(secret::Model, Option<String>)| {
            row.expires_at.is_none_or(|until| until > now)
        };
        Self {
            endpoint: EndpointView::of(detail.endpoint, now),
            secrets: detail
                .secrets
                .into_iter()
                .filter(live)
                .map(|(row, fingerprint)| SecretView {
                    id: row.id,
                    fingerprint,
                    created_at: rfc3339(row.created_at),
                    expires_at: row.expires_at.map(rfc3339),
                })
                .collect(),
            gaps: detail.gaps.into_iter().map(Into::into).collect(),
        }
    }
}

/// What `register` answers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RegisteredWebhook")]
pub(super) struct RegisteredView {
    id: EndpointId,
    phone_number: Option<String>,
    webhook_url: String,
    max_retries: Option<i32>,
    /// Shown this once, when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    state: EndpointState,
    created_at: Timestamp,
    /// What it has missed, if it was disabled until now: it can be replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<GapView>,
}

impl RegisteredView {
    pub(super) fn of(
        row: endpoint::Model,
        secret: Option<String>,
        missed: Option<gap::Model>,
    ) -> Self {
        let numbers: Vec<String> = serde_json::from_str(&row.phone_numbers).unwrap_or_default();
        Self {
            id: row.id,
            phone_number: numbers.into_iter().next(),
            webhook_url: row.url,
            max_retries: row.max_retries,
            secret,
            state: row.state,
            created_at: rfc3339(row.created_at),
            missed: missed.map(Into::into),
        }
    }
}

/// A delivery.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub(super) struct DeliveryView {
    id: DeliveryId,
    webhook_id: EndpointId,
    /// What the receiver knows it by: `webhook-id`.
    event_id: EventId,
    event_type: String,
    sequence: i64,
    /// `pending`, `claimed` (being sent), `succeeded`, `exhausted` (given up) or `cancelled`.
    status: DeliveryState,
    cause: Cause,
    attempts: i32,
    response_status: Option<i32>,
    error: Option<String>,
    /// None when it is due at once, or has come to its end.
    next_attempt_at: Option<Timestamp>,
    expires_at: Timestamp,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl From<delivery::Model> for DeliveryView {
    fn from(row: delivery::Model) -> Self {
        let waits = row.state == DeliveryState::Pending && row.next_at > 0;
        Self {
            id: row.id,
            webhook_id: row.endpoint_id,
            event_id: row.event_id,
            event_type: row.event_type,
            sequence: row.seq,
            status: row.state,
            cause: row.cause,
            attempts: row.attempts,
            response_status: row.last_status,
            error: row.last_error,
            next_attempt_at: waits.then(|| rfc3339(entity::UnixMillis(row.next_at))),
            expires_at: rfc3339(row.expires_at),
            created_at: rfc3339(row.created_at),
            finished_at: row.finished_at.map(rfc3339),
        }
    }
}

/// A delivery that is sent again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RetriedDelivery")]
pub(super) struct RetriedView {
    #[serde(flatten)]
    pub(super) delivery: DeliveryView,
    /// Not sent before: the receiver has asked to be left alone (`Retry-After`, 429, 503 and their like).
    pub(super) held_until: Option<Timestamp>,
}

/// A delivery with its event and attempts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryDetail")]
pub(super) struct DeliveryDetailView {
    #[serde(flatten)]
    delivery: DeliveryView,
    event: Option<EventView>,
    /// The latest 200 tries, the oldest of them first.
    attempt_log: Vec<AttemptView>,
    /// Whether there are older ones: `GET /api/webhooks/events/{deliveryId}/attempts` has them all.
    has_older_attempts: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeliveredEvent")]
pub(super) struct EventView {
    session_id: Option<String>,
    occurred_at: Timestamp,
    #[schemars(with = "Map<String, Value>")]
    data: Box<RawValue>,
}

/// One HTTP request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryAttempt")]
pub(super) struct AttemptView {
    id: AttemptId,
    number: i32,
    started_at: Timestamp,
    duration_ms: i32,
    /// Who answered, or who was called and did not: address and port. With commas, if a name has several addresses.
    peer: Option<String>,
    status: Option<i32>,
    error: Option<String>,
    response: Option<String>,
}

impl From<attempt::Model> for AttemptView {
    fn from(row: attempt::Model) -> Self {
        Self {
            id: row.id,
            number: row.number,
            started_at: rfc3339(row.started_at),
            duration_ms: row.duration_ms,
            peer: row.peer,
            status: row.status,
            error: row.error,
            response: row.response,
        }
    }
}

impl From<Detail> for DeliveryDetailView {
    fn from(detail: Detail) -> Self {
        let event = detail.event.map(|event| EventView {
            session_id: event.session_id,
            occurred_at: rfc3339(event.occurred_at),
            data: RawValue::from_string(event.payload)
                .unwrap_or_else(|_| RawValue::NULL.to_owned()),
        });
        let attempt_log = detail.attempts.into_iter().map(Into::into).collect();
        let has_older_attempts = detail.has_older_attempts;
        Self { delivery: detail.row.into(), event, attempt_log, has_older_attempts }
    }
}

/// What came of a test.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookTest")]
pub(super) struct TestView {
    delivered: bool,
    event_id: EventId,
    event_type: &'static str,
    status: Option<u16>,
    error: Option<&'static str>,
    duration_ms: u64,
    /// Who answered, or who was called and did not.
    peer: Option<String>,
    response: Option<String>,
}

impl From<Tested> for TestView {
    fn from(tested: Tested) -> Self {
        let reply = tested.reply;
        let peer = reply.peer();
        Self {
            delivered: reply.error.is_none(),
            event_id: tested.event_id,
            event_type: tested.event_type.name(),
            status: reply.status,
            error: reply.error,
            duration_ms: u64::try_from(reply.took.as_millis()).unwrap_or(u64::MAX),
            peer,
            response: reply.body,
        }
    }
}

/// Names of what each word of a closed set is called in complaints.
pub(super) fn one_of(words: &[&str]) -> String {
    format!(
        "must be one of {}",
        words.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
    )
}

/// A page of some list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct Page<T> {
    #[schemars(extend("const" = true))]
    pub(super) success: bool,
    pub(super) data: Vec<T>,
    /// `null` after the last.
    pub(super) next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` of the items, which are one more if there are more.
    pub(super) fn of<I>(
        mut items: Vec<I>,
        limit: u64,
        id: impl Fn(&I) -> String,
        view: impl Fn(I) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(id);
        Self { success: true, data: items.into_iter().map(view).collect(), next_cursor }
    }
}
