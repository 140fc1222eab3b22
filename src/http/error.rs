//! The one error type that handlers return, and the one place where errors become answers.
//!
//! | Service says | Answer | `code` |
//! |---|---|---|
//! | not found, or not the caller's | 404 | `SESSION_NOT_FOUND`, `MESSAGE_NOT_FOUND` and the like |
//! | invalid | 400 with `errors` | `VALIDATION_FAILED` |
//! | a state forbids it | 409 | the service's |
//! | not connected | 409 with `sessionStatus` | `SESSION_NOT_CONNECTED` |
//! | a pairing code for another number is being shown | 409, `Retry-After` | `PAIRING_CODE_OUTSTANDING` |
//! | key of another request | 422 | `IDEMPOTENCY_KEY_REUSED` |
//! | WhatsApp gives no pairing code | 422, 429 or 503 | `PAIRING_…`: see [`pairing`] |
//! | no valid token | 401 | `UNAUTHENTICATED` |
//! | role too low | 403 | `FORBIDDEN` |
//! | (asked too often: [`super::limit`]) | 429 with `limit`, `Retry-After` | `RATE_LIMITED` |
//! | another daemon runs the session, and does not answer | 503 with `node`, `Retry-After` | `SESSION_ON_OTHER_NODE` |
//! | it will pass | 503, `Retry-After` | `UNAVAILABLE`, `DATABASE_UNAVAILABLE` |
//! | the client failed | 502 | `WHATSAPP_FAILED` |
//! | anything else | 500 | `INTERNAL` |

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::problem::Problem;
use crate::{event::PairingFailure, qr, service};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Service(#[from] service::Error),

    #[error("a QR code could not be rendered")]
    Render(#[from] qr::Error),

    /// The request itself is at fault, or what it asks for is not there.
    #[error("{}", .0.detail)]
    Request(Problem),
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

impl ApiError {
    fn problem(self) -> Problem {
        match self {
            Self::Request(problem) => problem,
            Self::Render(_) => Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR),
            Self::Service(error) => of_service(error),
        }
    }
}

fn of_service(error: service::Error) -> Problem {
    use service::Error;

    let retry_after = error.retry_after();
    let detail = error.to_string();
    let problem = |status, code| Problem::new(status, code, detail);
    match error {
        Error::NotFound { what } => problem(StatusCode::NOT_FOUND, not_found(what)),
        Error::Invalid(errors) => Problem::invalid(errors),
        Error::Conflict { code, .. } => problem(StatusCode::CONFLICT, code),
        Error::NotConnected { status } => problem(StatusCode::CONFLICT, "SESSION_NOT_CONNECTED")
            .with("sessionStatus", json!(status)),
        Error::KeyReused => problem(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED"),
        Error::PairingRefused { failure, .. } => {
            let (status, code) = pairing(failure);
            problem(status, code)
                .with("reason", failure.word())
                .with("whatsappCode", json!(failure.code()))
        }
        Error::PairingOutstanding { .. } => {
            problem(StatusCode::CONFLICT, "PAIRING_CODE_OUTSTANDING")
        }
        Error::Unauthenticated => problem(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        Error::Forbidden { needs } => {
            problem(StatusCode::FORBIDDEN, "FORBIDDEN").with("needs", json!(needs))
        }
        Error::Elsewhere { node } => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "SESSION_ON_OTHER_NODE").with("node", node)
        }
        Error::Unavailable { .. } => problem(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Error::StoreUnavailable(_) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "DATABASE_UNAVAILABLE")
        }
        Error::Client(_) => problem(StatusCode::BAD_GATEWAY, "WHATSAPP_FAILED"),
        Error::Store(_) => Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR),
    }
    .retry_after(retry_after)
}

/// What WhatsApp's refusal of a pairing code is answered with. Its own status is in the document, as
/// `whatsappCode`: a 403 of ours would say that the token may not.
const fn pairing(failure: PairingFailure) -> (StatusCode, &'static str) {
    match failure {
        PairingFailure::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "PAIRING_RATE_LIMITED"),
        PairingFailure::NotAvailable => {
            (StatusCode::UNPROCESSABLE_ENTITY, "PAIRING_CODE_NOT_AVAILABLE")
        }
        PairingFailure::Forbidden => (StatusCode::UNPROCESSABLE_ENTITY, "PAIRING_FORBIDDEN"),
        PairingFailure::ServerError | PairingFailure::Unreachable => {
            (StatusCode::SERVICE_UNAVAILABLE, "PAIRING_UNAVAILABLE")
        }
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "PAIRING_REFUSED"),
    }
}

fn not_found(what: &str) -> &'static str {
    match what {
        "session" => "SESSION_NOT_FOUND",
        "message" => "MESSAGE_NOT_FOUND",
        "organization" => "ORGANIZATION_NOT_FOUND",
        "token" => "TOKEN_NOT_FOUND",
        "webhook" => "WEBHOOK_NOT_FOUND",
        "delivery" => "DELIVERY_NOT_FOUND",
        "replay" => "REPLAY_NOT_FOUND",
        _ => "NOT_FOUND",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // The cause goes to the log, and stays there.
        match &self {
            Self::Service(
                error @ (service::Error::Store(_)
                | service::Error::StoreUnavailable(_)
                | service::Error::Client(_)),
            ) => tracing::error!(error = error as &dyn std::error::Error, "Request failed"),
            Self::Render(error) => {
                tracing::error!(error = error as &dyn std::error::Error, "Request failed");
            }
            Self::Service(_) | Self::Request(_) => {}
        }
        let problem = self.problem();
        let unauthenticated = problem.status == StatusCode::UNAUTHORIZED;
        let mut response = problem.into_response();
        if unauthenticated {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"wagate\""),
            );
        }
        response
    }
}
