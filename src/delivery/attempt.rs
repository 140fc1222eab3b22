//! One try: from a delivery that was taken to what is to be written about it.

use std::time::Duration;

use entity::UnixMillis;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::{
    answer::{Reply, fetch},
    client::Client,
    jumps::Jumps,
};
use crate::{
    clock::Clock,
    store::webhooks::{AttemptRecord, Claimed, Ending, Settled, Target},
    webhook::{body::body, health::Sign, schedule, sign},
};

/// How long a delivery that could not be tried for reasons of ours is left alone.
const OWN_FAULT: Duration = Duration::from_secs(30);

/// When something is due that is due at once.
const AT_ONCE: UnixMillis = UnixMillis(0);

/// Sends `payload` to an endpoint, signed at the time that it is `now`.
pub(super) async fn send(
    client: &Client,
    target: &Target,
    id: &str,
    payload: Vec<u8>,
    now: impl Fn() -> UnixMillis,
) -> Reply {
    // What may be called can have changed since it was saved.
    let Ok(url) = client.parse(&target.row.url) else { return Reply::refused("url_refused") };
    let timeout = Duration::from_millis(u64::try_from(target.row.timeout_ms).unwrap_or(0));
    let headers = headers(target, id, &payload, now());
    let request = client.post(url.clone()).headers(headers).timeout(timeout).body(payload);
    let mut reply = fetch(request, now).await;
    if reply.is_unanswered() {
        reply.peers = client.addresses(&url);
    }
    reply
}

fn headers(target: &Target, id: &str, payload: &[u8], now: UnixMillis) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &target.headers {
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    let live = target.secrets.iter().filter(|(_, until)| until.is_none_or(|until| until > now));
    let signature = sign(live.map(|(secret, _)| secret), id, now.as_secs(), payload);
    for (name, value) in [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", now.as_secs().to_string()),
        ("webhook-signature", signature),
    ] {
        // Letters, digits and base64.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// What a try is to be remembered as.
pub(super) fn record(reply: &Reply, started_at: UnixMillis) -> AttemptRecord {
    AttemptRecord {
        started_at,
        duration_ms: i32::try_from(reply.took.as_millis()).unwrap_or(i32::MAX),
        peer: reply.peer(),
        status: reply.status.map(i32::from),
        error: reply.error,
        response: reply.body.clone(),
    }
}

/// Tries a delivery once, and says what becomes of it.
pub(super) async fn attempt(
    client: &Client,
    target: &Target,
    claimed: Claimed,
    clock: &Clock,
) -> Settled {
    let (started_at, jumps) = (clock.now(), Jumps::new(clock));
    let too_old = claimed.expires_at.0 > 0 && claimed.expires_at <= started_at;
    let event = match &claimed.event {
        _ if too_old => return given_up(claimed, "expired"),
        None => return given_up(claimed, "event_retired"),
        Some(event) => event,
    };
    let payload = body(target.row.format, event, target.client_id);
    let reply = send(client, target, event.id.as_str(), payload, || clock.now()).await;
    // A clock that was set meanwhile makes nothing older: it is judged by the time before that, and what comes of it is
    // written by the time as it is now.
    let jump = jumps.look(clock).unwrap_or(0);
    let moved = |at: UnixMillis, by: i64| UnixMillis(at.0.saturating_add(by));
    let (ending, sign) = judge(&reply, target, &claimed, moved(clock.now(), -jump));
    let ending = match ending {
        Ending::Retry(at) => Ending::Retry(moved(at, jump)),
        other => other,
    };
    let made = record(&reply, moved(started_at, jump));
    let called = Some(target.kept_url.clone());
    Settled { attempt: Some(made), sign: Some(sign), called, ..untried(claimed, ending, None) }
}

/// A delivery that was taken and cannot be tried now, for reasons of ours.
pub(super) fn postpone(claimed: Claimed, now: UnixMillis) -> Settled {
    untried(claimed, Ending::Released(now + OWN_FAULT), None)
}

/// A delivery that was taken, and is due as it was.
pub(super) fn release(claimed: Claimed) -> Settled {
    untried(claimed, Ending::Released(AT_ONCE), None)
}

/// A delivery that is given up without a request.
fn given_up(claimed: Claimed, why: &'static str) -> Settled {
    Settled { sign: Some(Sign::GivenUp), ..untried(claimed, Ending::Exhausted, Some(why)) }
}

fn untried(claimed: Claimed, ending: Ending, error: Option<&'static str>) -> Settled {
    Settled {
        delivery: claimed.id,
        event: claimed.event.map(|event| event.id),
        endpoint: claimed.endpoint_id,
        organization: claimed.organization_id,
        order_key: claimed.order_key,
        claim: claimed.claim,
        attempts: claimed.attempts,
        ending,
        error,
        attempt: None,
        sign: None,
        called: None,
    }
}

fn judge(reply: &Reply, target: &Target, claimed: &Claimed, now: UnixMillis) -> (Ending, Sign) {
    if reply.is_success() {
        return (Ending::Succeeded, Sign::Success);
    }
    let gone = reply.error == Some("gone");
    let ending = if gone || reply.is_final() {
        Ending::Exhausted
    } else {
        let next = schedule::next(
            u32::try_from(claimed.attempts).unwrap_or(0).saturating_add(1),
            target.row.max_retries.and_then(|most| u32::try_from(most).ok()),
            claimed.expires_at,
            now,
            reply.retry_after,
            rand::random_range(0.0..1.0),
        );
        match next {
            schedule::Next::At(at) => Ending::Retry(at),
            schedule::Next::Exhausted => Ending::Exhausted,
        }
    };
    let sign = Sign::Failure {
        throttle: reply.wants_less().then_some(reply.retry_after),
        gone,
        exhausted: ending == Ending::Exhausted,
        probe: claimed.probe,
    };
    (ending, sign)
}
