//! What was asked and answered, counted for Prometheus: by route, method and status, never by who asked.

use std::{fmt, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::route::{Route, Statement};

/// Upper bounds of answers' times, in seconds.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What any route may answer through no fault of its caller's: a mistake of ours, and a database that is away.
const OWN_FAULTS: [u16; 2] = [500, 503];

/// What an address is called that is no route's.
const NO_ROUTE: &str = "-";

/// Counts answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Traffic {
    answers: Family<Answer, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
    connections: Connections,
}

/// Counts connections that came to nothing, or to a bad end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    crowded: Counter,
    stalled: Counter,
}

impl Connections {
    /// How many were closed at once, as their neighbourhood has its share.
    pub fn crowded(&self) -> u64 {
        self.crowded.get()
    }

    /// How many were ended, as their clients took nothing any more.
    pub fn stalled(&self) -> u64 {
        self.stalled.get()
    }

    /// One was closed at once: its neighbourhood has as many as it may have.
    pub(super) fn was_crowded(&self) {
        self.crowded.inc();
    }

    /// One was ended: its client took nothing of its answer any more.
    pub(super) fn was_stalled(&self) {
        self.stalled.inc();
    }
}

/// Both are closed sets: routes are those of the table, and methods those that they have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: String,
}

impl Default for Traffic {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            answers: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            connections: Connections::default(),
        }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    /// Begins with a zero for each answer that is to be expected of these routes: a rate over what was not there before its
    /// first time would miss it.
    pub(super) fn expect<'a>(&self, routes: impl Iterator<Item = &'a Route>) {
        for route in routes {
            let Statement { method, path, .. } = route.statement();
            for status in route.operation().expected().chain(OWN_FAULTS) {
                let method = word(method);
                let answer = Answer { method, route: (*path).to_owned(), status };
                drop(self.answers.get_or_create(&answer));
            }
            drop(self.seconds.get_or_create(&Asked { route: (*path).to_owned() }));
        }
    }

    /// A request was answered; of a stream, it was begun. `route` is as the table writes it, none for an
    /// address that is nowhere in it.
    pub(super) fn answered(
        &self,
        method: &Method,
        route: Option<&str>,
        status: StatusCode,
        time: Duration,
    ) {
        let route = route.unwrap_or(NO_ROUTE).to_owned();
        let answer = Answer { method: word(method), route: route.clone(), status: status.as_u16() };
        self.answers.get_or_create(&answer).inc();
        self.seconds.get_or_create(&Asked { route }).observe(time.as_secs_f64());
    }

    /// What connections are counted by.
    pub(super) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Adds the figures to those that are shown.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests answered, by route, method and status";
        registry.register("wagate_http_requests", help, self.answers.clone());
        let help = "Time to an answer, to the first byte of a stream; long polls wait on purpose";
        registry.register("wagate_http_request_seconds", help, self.seconds.clone());
        let Connections { crowded, stalled } = self.connections.clone();
        let help = "Connections closed at once, as their neighbourhood has its share of all";
        registry.register("wagate_http_connections_crowded", help, crowded);
        let help = "Connections ended, as nothing of an answer was taken for too long";
        registry.register("wagate_http_connections_stalled", help, stalled);
    }
}

/// A method as it is counted and logged. Callers can send any word as one: each would be a series of its own, and
/// could be anything, a phone number too.
pub(super) fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_strangers_make_up_is_one_series() {
        let traffic = Traffic::default();
        for method in ["BREW", "PROPFIND", "X"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            traffic.answered(&method, None, StatusCode::NOT_FOUND, Duration::from_millis(3));
        }
        let mut registry = Registry::default();
        traffic.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with("wagate_http_requests_total")).collect();
        let one = r#"wagate_http_requests_total{method="OTHER",route="-",status="404"} 3"#;
        assert_eq!(series, [one]);
        assert!(text.contains(r#"wagate_http_request_seconds_bucket{le="0.005",route="-"} 3"#));
    }
}
