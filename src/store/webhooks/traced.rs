//! Changes of endpoints in the audit log. Nothing in an entry is a secret: a URL may hold one in its path or
//! query, so its host stands for it, and header names for headers.

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId},
    kind::AuditAction,
};
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Map, Value, json};
use url::Url;

use super::{EndpointChange, NewEndpoint};
use crate::store::audit::{self, By};

/// Writes what was done to an endpoint, and by whom.
pub(super) async fn trace(
    txn: &DatabaseTransaction,
    (organization, id): (&OrganizationId, &EndpointId),
    by: &By,
    at: UnixMillis,
    action: AuditAction,
    detail: &Value,
) -> Result<(), DbErr> {
    audit::write(txn, organization, by, at, (action, id.as_str()), detail).await
}

/// What an endpoint was made as.
pub(super) fn of_new(new: &NewEndpoint) -> Value {
    let change = EndpointChange {
        url: Some(new.url.clone()),
        description: Some(new.description.clone()),
        format: Some(new.format),
        event_types: Some(new.event_types.clone()),
        session_ids: Some(new.session_ids.clone()),
        phone_numbers: Some(new.phone_numbers.clone()),
        headers: Some(new.headers.clone()),
        ordering: Some(new.ordering),
        max_in_flight: Some(new.max_in_flight),
        rate_per_second: Some(new.rate_per_second),
        timeout: Some(new.timeout),
        max_retries: Some(new.max_retries),
        max_age: Some(new.max_age),
    };
    of_change(&change)
}

/// What was changed of one.
pub(super) fn of_change(change: &EndpointChange) -> Value {
    let host = |url: &String| Url::parse(url).ok()?.host_str().map(str::to_owned);
    let members = [
        ("host", change.url.as_ref().map(|url| json!(host(url)))),
        ("description", change.description.as_ref().map(|it| json!(it))),
        ("format", change.format.map(|it| json!(it))),
        ("eventTypes", change.event_types.as_ref().map(|it| json!(it))),
        ("sessionIds", change.session_ids.as_ref().map(|it| json!(it))),
        ("phoneNumbers", change.phone_numbers.as_ref().map(|it| json!(it))),
        ("headers", change.headers.as_ref().map(|it| json!(it.keys().collect::<Vec<_>>()))),
        ("ordering", change.ordering.map(|it| json!(it))),
        ("maxInFlight", change.max_in_flight.map(|it| json!(it))),
        ("ratePerSecond", change.rate_per_second.map(|it| json!(it))),
        ("timeoutMs", change.timeout.map(|it| json!(it.as_millis()))),
        ("maxRetries", change.max_retries.map(|it| json!(it))),
        ("maxAgeSeconds", change.max_age.map(|it| json!(it.as_secs()))),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect::<Map<_, _>>())
}
