//! What clients of seed 002 read of an error: the members that its server writes, beside those of the problem document.
//!
//! `statusCode`, `message`, and `error`, the status in words. Where the seed says what the message is, it is that, to
//! the letter: of its guard, of what is missing (`api::connect`), of a user who is connected (`error`). The rest has the
//! problem's own detail.

use std::{collections::HashSet, sync::Arc};

use axum::http::StatusCode;

use super::{code::Code, problem::Problem};

/// What the seed's guard says where no token is shown, and where one opens nothing.
const NO_TOKEN: &str = "Token not found";
const NO_SUCH_TOKEN: &str = "Invalid token";

/// The addresses at which errors have these members.
#[derive(Clone, Debug, Default)]
pub(super) struct Elder(Arc<HashSet<&'static str>>);

impl Elder {
    pub(super) fn of(paths: impl Iterator<Item = &'static str>) -> Self {
        Self(Arc::new(paths.collect()))
    }

    /// Adds the members to what a request at `path`, the route's, is refused with, if it is one of these addresses.
    pub(super) fn tell(&self, path: Option<&str>, problem: Problem, shows_token: bool) -> Problem {
        if path.is_some_and(|path| self.0.contains(path)) {
            told(problem, shows_token)
        } else {
            problem
        }
    }
}

/// Adds the members to a problem.
pub(super) fn told(problem: Problem, shows_token: bool) -> Problem {
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
