//! How often anybody may ask: limits for each token and for each address.
//!
//! - `quota.rs`: the algorithm. `meter.rs`: one quota for each of many callers.
//! - `places.rs`: how many bodies are in memory before it is known who sent them. `known.rs`: whose signatures have come
//!   from where.
//! - `crowd.rs`: how many connections one neighbourhood may have at a time.
//! - `streams.rs`: how many streams and long polls one caller may have at a time.
//!
//! `governor` has the same algorithm. It gives no look without taking, which failed authentications
//! need, and its stores grow with the number of addresses: what would be left of it is `quota.rs`.
//!
//! What is left is told with every answer, as `draft-ietf-httpapi-ratelimit-headers` has it
//! (`RateLimit-Policy`, `RateLimit`) and as most clients know it (`X-RateLimit-…`, times in seconds from
//! now). A daemon limits what it is asked itself. Of several that share a database each gives its part of what a token and an
//! address may ask, so that all together give no more; what opens nothing each counts for itself.

mod crowd;
mod known;
mod meter;
mod places;
mod quota;
mod streams;

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use entity::id::TokenId;

pub(super) use self::crowd::{Crowd, Seat};
pub use self::quota::Quota;
use self::{meter::Meter, quota::Verdict};
pub(crate) use self::{
    places::{Places, Share},
    streams::{Stream, Streams},
};
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
    /// Daemons that live, as far as we know: they share what a token or an address may ask.
    daemons: Arc<AtomicU64>,
    /// Held for no longer than it takes to copy them.
    inner: Arc<RwLock<Inner>>,
    streams: Streams,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    tokens: Option<Arc<Meter<TokenId>>>,
    addresses: Option<Arc<Meter<IpAddr>>>,
    /// By what is guessed, in the order of [`Guess`].
    failures: [Option<Arc<Meter<IpAddr>>>; Guess::ALL],
}

/// What is shown that may open nothing. What people choose is counted apart, each kind for itself: wrong tries of one are
/// none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// A token, a signature, a session's secret.
    Secret,
    /// A verify token of Meta's, which its owner has chosen.
    VerifyToken,
    /// The key of the status webhook, which the operator has chosen.
    ReportKey,
}

impl Guess {
    const ALL: usize = 3;
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
    pub(super) fn new(limits: &Limits, clock: Clock, daemons: Arc<AtomicU64>) -> Self {
        let streams = Streams::new(limits);
        let this = Self { clock, daemons, inner: Arc::default(), streams };
        this.set(limits);
        this
    }

    /// From now on these are the limits. What was taken counts on, where the limit is the same.
    pub(crate) fn set(&self, limits: &Limits) {
        let Inner { tokens, addresses, failures } = self.now();
        let meters = Inner {
            tokens: meter(tokens, limits.per_token),
            addresses: meter(addresses, limits.per_address),
            failures: failures.map(|before| meter(before, limits.failed_authentications)),
        };
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = meters;
        self.streams.set(limits);
    }

    /// What streams and long polls are counted by.
    pub(super) fn streams(&self) -> Streams {
        self.streams.clone()
    }

    fn now(&self) -> Inner {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request of this token.
    pub(super) fn of_token(&self, token: &TokenId) -> Option<Told> {
        let meter = self.now().tokens?;
        Some(self.take("token", &meter, token))
    }

    fn of_address(&self, address: IpAddr) -> Option<Told> {
        let meter = self.now().addresses?;
        Some(self.take("address", &meter, &neighbourhood(address)))
    }

    /// Takes one of our part.
    fn take<K: Eq + Hash + Clone>(&self, name: &'static str, meter: &Meter<K>, whose: &K) -> Told {
        let daemons = u32::try_from(self.daemons.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let quota = meter.quota().shared_by(daemons);
        Told { name, quota, verdict: meter.take_of(quota, whose, self.clock.monotonic()) }
    }

    /// Refuses an address from which too much of this was shown that opens nothing.
    pub(crate) fn may_try(&self, guess: Guess, address: Option<IpAddr>) -> Result<(), Problem> {
        self.judge(guess, address, Meter::look)
    }

    /// Whether so much of this was shown from an address that the next would be told to wait.
    pub(crate) fn has_failed(&self, guess: Guess, address: Option<IpAddr>) -> bool {
        self.may_try(guess, address).is_err()
    }

    /// Something was shown from this address that opens nothing: from where there was too much of it, whoever shows
    /// more is told to wait.
    pub(crate) fn opened_nothing(
        &self,
        guess: Guess,
        address: Option<IpAddr>,
    ) -> Result<(), Problem> {
        self.judge(guess, address, Meter::take)
    }

    fn judge(
        &self,
        guess: Guess,
        address: Option<IpAddr>,
        ask: impl FnOnce(&Meter<IpAddr>, &IpAddr, Duration) -> Verdict,
    ) -> Result<(), Problem> {
        let [secrets, verify_tokens, keys] = self.now().failures;
        let meter = match guess {
            Guess::Secret => secrets,
            Guess::VerifyToken => verify_tokens,
            Guess::ReportKey => keys,
        };
        let (Some(meter), Some(address)) = (meter, address) else { return Ok(()) };
        let verdict = ask(&meter, &neighbourhood(address), self.clock.monotonic());
        if verdict.allowed {
            return Ok(());
        }
        let told = Told { name: "failed_authentications", quota: meter.quota(), verdict };
        Err(refusal(told.name, verdict.retry_after).told(told))
    }
}

/// One with this quota: the one before, where it has that.
fn meter<K: Eq + Hash + Clone>(
    before: Option<Arc<Meter<K>>>,
    quota: Option<Quota>,
) -> Option<Arc<Meter<K>>> {
    let quota = quota?;
    let kept = before.filter(|meter| meter.quota() == quota);
    Some(kept.unwrap_or_else(|| Arc::new(Meter::new(quota, MOST_CALLERS))))
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
        // In whole seconds: what there is in so many, so that the rate is the true one.
        let most = quota.within(Duration::from_secs(window));
        append(headers, POLICY, &format!("\"{name}\";q={most};w={window}"));
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
    fn a_limit_that_is_set_anew_counts_on_unless_it_is_another() {
        let clock = Clock::manual(entity::UnixMillis(0));
        let per_token = |burst| Limits {
            per_token: Some(Quota::new(1, Duration::from_hours(1), burst)),
            ..Limits::default()
        };
        let meters = Meters::new(&per_token(1), clock, Arc::new(AtomicU64::new(1)));
        let token = TokenId::new(entity::UnixMillis(0), 1);
        let is_allowed = || meters.of_token(&token).is_none_or(|told| told.refused().is_none());
        assert!(is_allowed() && !is_allowed());
        meters.set(&per_token(1));
        assert!(!is_allowed());
        meters.set(&per_token(2));
        assert!(is_allowed() && is_allowed() && !is_allowed());
        meters.set(&Limits::default());
        assert!(is_allowed());
    }

    #[test]
    fn a_daemon_that_comes_or_goes_changes_the_part_of_what_was_not_taken_yet() {
        let (clock, daemons) = (Clock::manual(entity::UnixMillis(0)), Arc::new(AtomicU64::new(1)));
        let per_token = Some(Quota::new(1, Duration::from_hours(1), 8));
        let limits = Limits { per_token, ..Limits::default() };
        let meters = Meters::new(&limits, clock, Arc::clone(&daemons));
        let token = TokenId::new(entity::UnixMillis(0), 1);
        let allowed = |most: u32| {
            let is_allowed = || meters.of_token(&token).is_none_or(|it| it.refused().is_none());
            (0..most).filter(|_| is_allowed()).count()
        };
        assert_eq!(allowed(4), 4);
        // Half of it is left, and half of that is ours.
        daemons.store(2, Ordering::Relaxed);
        assert_eq!(allowed(1), 1);
        daemons.store(1, Ordering::Relaxed);
        assert_eq!(allowed(9), 2);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
