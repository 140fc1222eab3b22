//! What clients of seed 002 read of an error: the members that its server writes, beside those of the problem document.
//!
//! `statusCode`, `message`, and `error`, the status in words. Where the seed says what the message is, it is that, to
//! the letter: of its guard, of what is missing (`api::connect`), of a user who is connected (`error`). The rest has the
//! problem's own detail.

use std::{collections::HashSet, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};

use super::{auth, code::Code, problem::Problem, request::Bare};

/// What the seed's guard says where no token is shown, and where one opens nothing.
const NO_TOKEN: &str = "Token not found";
const NO_SUCH_TOKEN: &str = "Invalid token";

/// The addresses at which errors have these members.
#[derive(Clone, Debug)]
pub(super) struct Elder(Arc<HashSet<&'static str>>);

impl Elder {
    pub(super) fn of(paths: impl Iterator<Item = &'static str>) -> Self {
        Self(Arc::new(paths.collect()))
    }
}

/// Adds the members to whatever a request at one of these addresses is refused with.
pub(super) async fn tell(
    State(Elder(paths)): State<Elder>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    if !path.is_some_and(|path| paths.contains(path.as_str())) {
        return next.run(request).await;
    }
    let shows_token = auth::bearer(request.headers()).is_some();
    let mut response = next.run(request).await;
    let status = response.status();
    let extensions = response.extensions_mut();
    let is_refused = status.is_client_error() || status.is_server_error();
    let problem = match extensions.remove::<Problem>() {
        Some(problem) => problem,
        None if is_refused && extensions.get::<Bare>().is_none() => Problem::of_status(status),
        None => return response,
    };
    extensions.insert(told(problem, shows_token));
    response
}

fn told(problem: Problem, shows_token: bool) -> Problem {
    let status = problem.status.unwrap_or_else(|| problem.code.status());
    let problem = problem.with("statusCode", status.as_u16());
    // What the seed says of missing members has no `error`.
    if problem.members.contains_key("message") {
        return problem;
    }
    let message = match problem.code {
        Code::Unauthenticated if shows_token => NO_SUCH_TOKEN.to_owned(),
        Code::Unauthenticated => NO_TOKEN.to_owned(),
        _ => problem.detail.clone().into_owned(),
    };
    problem.with("message", message).with("error", words(status))
}

fn words(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}
