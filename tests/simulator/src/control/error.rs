//! Errors of the control API, and the extractors that make them.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Error;

/// A JSON body whose rejection is JSON as well.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// A query string whose rejection is JSON.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(query.0))
    }
}

/// A status and what to say.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::BadNumber(_) | Error::BadQr(_) | Error::Media(_) => StatusCode::BAD_REQUEST,
            Error::UnknownPerson(_)
            | Error::UnknownGroup(_)
            | Error::UnknownScript(_)
            | Error::UnknownDevice(_)
            | Error::UnknownMessage(_) => StatusCode::NOT_FOUND,
            Error::StaleQr
            | Error::ForeignQr
            | Error::NoCode(_)
            | Error::WrongCode
            | Error::PasskeyRequired
            | Error::PairingRefused(_) => StatusCode::CONFLICT,
            Error::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            Error::Listen(_) | Error::Stopped | Error::History(_) | Error::Encrypt { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += ": ";
            text += &cause.to_string();
            source = cause.source();
        }
        Self { status, text }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        // A well-formed body with the wrong fields is as bad as any other bad request.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            other => other,
        };
        Self { status, text: rejection.body_text() }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self { status: rejection.status(), text: rejection.body_text() }
    }
}

pub(super) async fn not_found() -> ApiError {
    let text = "no such resource; the documentation of wagate_simulator::control lists them";
    ApiError { status: StatusCode::NOT_FOUND, text: text.to_owned() }
}

pub(super) async fn method_not_allowed() -> ApiError {
    let text = "this resource does not know that method";
    ApiError { status: StatusCode::METHOD_NOT_ALLOWED, text: text.to_owned() }
}
