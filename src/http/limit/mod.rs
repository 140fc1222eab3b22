//! How often anybody may ask: limits for each token and for each address.
//!
//! - `quota.rs`: the algorithm. `meter.rs`: one quota for each of many callers.
//! - `places.rs`: how many bodies are in memory before it is known who sent them.
//!
//! `governor` has the same algorithm. It gives no look without taking, which failed authentications
//! need, and its stores grow with the number of addresses: what would be left of it is `quota.rs`.
//!
//! What is left is told with every answer, as `draft-ietf-httpapi-ratelimit-headers` has it
//! (`RateLimit-Policy`, `RateLimit`) and as most clients know it (`X-RateLimit-…`, times in seconds from
//! now). A daemon limits what it is asked itself: with several of them, each has limits of its own.

mod meter;
mod places;
mod quota;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use entity::id::TokenId;

pub(crate) use self::places::{Places, Share};
pub use self::quota::Quota;
use self::{meter::Meter, quota::Verdict};
use super::{Limits, client::Client, code::Code, problem::Problem};
use crate::clock::Clock;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Callers that each limit tells apart: some ten megabytes.
const MOST_CALLERS: usize = 100_000;

/// The limits that there are, and what was taken of them. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    clock: Clock,
    meters: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tokens: Option<Meter<TokenId>>,
    addresses: Option<Meter<IpAddr>>,
    failures: Option<Meter<IpAddr>>,
}

/// What a limit says to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// What the limit is called.
    name: &'static str,
    quota: Quota,
    verdict: Verdict,
}

impl Meters {
    pub(super) fn new(limits: &Limits, clock: Clock) -> Self {
        fn meter<K: Eq + std::hash::Hash + Clone>(quota: Option<Quota>) -> Option<Meter<K>> {
            quota.map(|quota| Meter::new(quota, MOST_CALLERS))
        }
        let meters = Arc::new(Inner {
            tokens: meter(limits.per_token),
            addresses: meter(limits.per_address),
            failures: meter(limits.failed_authentications),
        });
        Self { clock, meters }
    }

    /// A request of this token.
    pub(super) fn of_token(&self, token: &TokenId) -> Option<Told> {
        let meter = self.meters.tokens.as_ref()?;
        let verdict = meter.take(token, self.clock.monotonic());
        Some(Told { name: "token", quota: meter.quota(), verdict })
    }

    fn of_address(&self, address: IpAddr) -> Option<Told> {
        let meter = self.meters.addresses.as_ref()?;
        let verdict = meter.take(&neighbourhood(address), self.clock.monotonic());
        Some(Told { name: "address", quota: meter.quota(), verdict })
    }

    /// Refuses an address from which too much was shown that opens nothing.
    pub(crate) fn may_try(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        let (Some(meter), Some(address)) = (&self.meters.failures, address) else { return Ok(()) };
        let wait = meter.wait(&neighbourhood(address), self.clock.monotonic());
        if wait.is_zero() { Ok(()) } else { Err(refusal("failed_authentications", wait)) }
    }

    /// Something was shown from this address that opens nothing.
    pub(crate) fn failed(&self, address: Option<IpAddr>) {
        if let (Some(meter), Some(address)) = (&self.meters.failures, address) {
            meter.take(&neighbourhood(address), self.clock.monotonic());
        }
    }
}

impl Meters {
    /// Counts what opened nothing, where it is looked at whatever was shown before: from where there was too much
    /// of it, whoever shows more is told to wait.
    pub(crate) fn opened_nothing(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        self.may_try(address)?;
        self.failed(address);
        Ok(())
    }
}

impl Told {
    /// The answer, if the request goes no further.
    pub(super) fn refused(&self) -> Option<Response> {
        let Verdict { allowed, retry_after, .. } = self.verdict;
        (!allowed).then(|| refusal(self.name, retry_after).into_response())
    }

    /// Says in an answer what is left. Of several limits the one that was written first, which is the
    /// innermost, is what simple clients see, unless a later one has refused.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Self { name, quota, verdict } = self;
        let (burst, window) = (quota.burst(), seconds(quota.window()));
        let (left, reset) = (verdict.remaining, seconds(verdict.reset));
        append(headers, POLICY, &format!("\"{name}\";q={burst};w={window}"));
        append(headers, STATE, &format!("\"{name}\";r={left};t={reset}"));
        if !headers.contains_key(X_LIMIT) || !verdict.allowed {
            headers.insert(X_LIMIT, burst.into());
            headers.insert(X_REMAINING, left.into());
            headers.insert(X_RESET, reset.into());
        }
    }
}

fn refusal(limit: &'static str, wait: Duration) -> Problem {
    Problem::of(Code::RateLimited).with("limit", limit).retry_after(Some(wait))
}

/// Adds an item to a list.
fn append(headers: &mut HeaderMap, name: HeaderName, item: &str) {
    let before = headers.get(&name).and_then(|value| value.to_str().ok());
    let list = before.map_or_else(|| item.to_owned(), |before| format!("{before}, {item}"));
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(name, list);
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What counts as one address: of IPv6, where anybody has as many as he likes, the network of one
/// customer.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        IpAddr::V4(_) => address,
    }
}

/// Lets an address ask so often and no more.
pub(super) async fn by_address(
    State(meters): State<Meters>,
    request: Request,
    next: Next,
) -> Response {
    let client = request.extensions().get::<Client>().copied();
    let told = client.and_then(|Client(address)| meters.of_address(address));
    let Some(told) = told else { return next.run(request).await };
    let mut response = match told.refused() {
        Some(response) => response,
        None => next.run(request).await,
    };
    told.write(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
