//! What surrounds every request: its id, its line in the log, its time limit, and its last resort.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tokio::{
    task::JoinError,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::{
    auth,
    code::Code,
    elder::Elder,
    problem::Problem,
    traffic::{self, Traffic},
};

/// Where callers say, and are told, what a request is called.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that a caller may give a request.
const LONGEST_ID: usize = 128;

/// The most bytes of headers, and the most headers.
pub(super) const HEAD_BYTES: usize = 32 << 10;
pub(super) const HEADERS: usize = 100;

/// The longest address, query included.
const LONGEST_ADDRESS: usize = 8 << 10;

/// Marks a response that says nothing but its status, on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare;

/// What is known around all requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub(super) traffic: Traffic,
    pub(super) elder: Elder,
}

/// Names the request, contains its panics, writes problem documents, counts, and logs one line.
///
/// The outermost layer: whatever comes out of the others is turned into what clients may see here.
/// The line names the route and not the address, whose query may hold what no log should.
pub(super) async fn observe(
    State(Around { traffic, elder }): State<Around>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| is_id(id))
        .map_or_else(new_id, ToOwned::to_owned);
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let matched = matched.as_ref().map(MatchedPath::as_str);
    let route = matched.unwrap_or("-");
    let shows_token = auth::bearer(request.headers()).is_some();
    let span = tracing::info_span!(
        "http.request",
        request.id = id,
        token.id = Empty,
        http.method = Empty,
        http.route = Empty,
        http.status = Empty,
    );

    let run = async {
        match too_much(&request) {
            Some(problem) => problem.into_response(),
            None => next.run(request).await,
        }
    };
    let run = AssertUnwindSafe(run).catch_unwind().instrument(span.clone());
    let mut response = run.await.unwrap_or_else(|_| {
        // The panic hook has said where and why.
        span.in_scope(|| tracing::error!(http.route = route, "A request handler panicked"));
        Problem::of(Code::Internal).into_response()
    });

    let status = response.status();
    let is_bare = response.extensions().get::<Bare>().is_some();
    let is_refused = (status.is_client_error() || status.is_server_error()) && !is_bare;
    let problem = response.extensions_mut().remove::<Problem>();
    let problem = problem.or_else(|| is_refused.then(|| Problem::of_status(status)));
    if let Some(problem) = problem {
        response = elder.tell(matched, problem, shows_token).write(response, &id);
    }
    name(response.headers_mut(), &id);

    let time = started.elapsed();
    traffic.answered(&method, matched, status, time);
    let duration_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let method = traffic::word(&method);
    span.in_scope(|| {
        let status = status.as_u16();
        if matches!(route, "/livez" | "/readyz") && status < 400 {
            tracing::debug!(
                http.method = method,
                http.route = route,
                http.status = status,
                duration_ms,
                "Answered"
            );
        } else {
            tracing::info!(
                http.method = method,
                http.route = route,
                http.status = status,
                duration_ms,
                "Answered"
            );
        }
    });
    if cfg!(feature = "otlp") {
        // For traces; last, as every line has what its span has.
        span.record("http.method", method);
        span.record("http.route", route);
        span.record("http.status", status.as_u16());
    }
    response
}

/// What a request is called if its caller does not say.
pub(super) fn new_id() -> String {
    format!("req_{}", Uuid::new_v4().simple())
}

/// Says in an answer what the request is called.
pub(super) fn name(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// What of a request's head is more than anybody needs.
fn too_much(request: &Request) -> Option<Problem> {
    let address = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    if address > LONGEST_ADDRESS {
        return Some(Problem::of(Code::UriTooLong));
    }
    let headers = request.headers();
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let fits = headers.len() <= HEADERS && bytes.sum::<usize>() <= HEAD_BYTES;
    (!fits).then(|| Problem::of(Code::HeadersTooLarge))
}

/// Visible and harmless in a header, a log line and a document.
fn is_id(id: &str) -> bool {
    let mut bytes = id.bytes();
    (1..=LONGEST_ID).contains(&id.len())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// How long a request may take, and where those go on that nobody waits for any more.
#[derive(Clone, Debug)]
pub(super) struct TimeLimit {
    pub(super) limit: Duration,
    pub(super) work: TaskTracker,
}

/// Gives up on requests that are not answered in time.
///
/// What is meant to change something is carried out to the end, whether or not the caller is still
/// there for the answer: between two of its steps a session would be wanted stopped, say, and run.
pub(super) async fn time_limit(
    State(TimeLimit { limit, work }): State<TimeLimit>,
    request: Request,
    next: Next,
) -> Response {
    let answered = if request.method().is_safe() {
        timeout(limit, next.run(request)).await
    } else {
        let run = work.spawn(next.run(request).in_current_span());
        timeout(limit, run).await.map(|ended| match ended.map_err(JoinError::try_into_panic) {
            Ok(response) => response,
            // It is reported like any other.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Cancelled, with the whole process.
            Err(Err(_)) => Problem::of(Code::Unavailable).into_response(),
        })
    };
    answered.unwrap_or_else(|_| {
        Problem::of(Code::Timeout).retry_after(Some(Duration::from_secs(1))).into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, to_bytes},
        http::StatusCode,
        middleware::from_fn_with_state,
        routing::get,
    };
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_that_tells_nothing() {
        async fn panics() -> StatusCode {
            panic!("a secret of ours");
        }
        let elder = Elder::of(["/elder"].into_iter());
        let around = Around { elder, ..Around::default() };
        let router = Router::new()
            .route("/", get(panics))
            .route("/elder", get(panics))
            .layer(from_fn_with_state(around, observe));
        for (path, is_elder) in [("/", false), ("/elder", true)] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let id = response.headers()[REQUEST_ID].to_str().unwrap().to_owned();
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["code"], "INTERNAL");
            assert_eq!(problem["requestId"], id);
            assert!(!problem.to_string().contains("secret"));
            let has = |name| !problem[name].is_null();
            assert_eq!(has("statusCode") && has("message") && has("error"), is_elder, "{problem}");
        }
    }

    #[test]
    fn an_id_from_outside_is_taken_only_if_harmless() {
        assert!(is_id("a545e2c1-0b0e.X:1_"));
        for bad in ["", "a b", "a\"b", "ä", &"x".repeat(129)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
