//! Problem documents (RFC 9457): what a request that failed is answered with, whatever failed.
//!
//! A [`Problem`] travels as an extension of an empty response; the outermost layer
//! ([`super::request`]) writes the document, because only there the request's id is known. Errors
//! that are answered by a library and not by us get their document there too.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{code::Code, limit::Told};
use crate::service::FieldError;

/// What went wrong, for programs and for people.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// For programs.
    pub(crate) code: Code,
    /// For people: may be reworded at any time.
    pub(crate) detail: Cow<'static, str>,
    pub(crate) errors: Vec<FieldError>,
    /// Members of this problem alone.
    pub(crate) members: Map<String, Value>,
    pub(crate) retry_after: Option<Duration>,
    /// Where that of the code is not what an older contract says.
    pub(crate) status: Option<StatusCode>,
    /// The limit that has refused, where nothing around the handler tells it.
    told: Option<Box<Told>>,
}

/// What is written.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
pub(super) struct Document<'a> {
    /// Where the code is explained.
    #[schemars(extend("format" = "uri-reference"))]
    r#type: String,
    /// The problem in a few words, the same for every document of the code.
    title: &'static str,
    status: u16,
    #[schemars(extend("const" = false))]
    success: bool,
    /// For programs: never changed once released.
    code: &'static str,
    /// For people: may be reworded at any time.
    detail: &'a str,
    /// What the log knows the request by; also in the header `X-Request-Id`.
    request_id: &'a str,
    /// All that is wrong with the request, where that is the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault<'a>>,
    /// Members of this code alone.
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// One thing that is wrong with a request.
#[derive(Serialize, JsonSchema)]
struct Fault<'a> {
    /// Where: a JSON pointer into the body, or the name of a parameter, header or part of the address
    /// after a slash.
    pointer: &'a str,
    /// What.
    detail: &'a str,
}

/// What one answer says of a request that is not valid.
const MOST_ERRORS: usize = 100;

impl Problem {
    /// A problem of which nothing more is to be said than of any of its code.
    pub(crate) fn of(code: Code) -> Self {
        Self::new(code, code.detail())
    }

    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            retry_after: None,
            status: None,
            told: None,
        }
    }

    /// The request is not valid, for these reasons: the first hundred of them, so that no answer is larger than what
    /// was asked.
    pub(crate) fn invalid(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MOST_ERRORS);
        Self { errors, ..Self::of(Code::ValidationFailed) }
    }

    /// One thing is wrong with the request.
    pub(crate) fn invalid_field(name: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(name, detail)])
    }

    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Answered with this status instead of the code's.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Refused by this limit: its headers tell it.
    pub(super) fn told(mut self, told: Told) -> Self {
        self.told = Some(Box::new(told));
        self
    }

    /// What is said about an error that no code of ours answered.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        Self::of(match status {
            StatusCode::NOT_FOUND => Code::RouteNotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::NOT_ACCEPTABLE => Code::NotAcceptable,
            StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            status if status.is_client_error() => Code::BadRequest,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Internal,
        })
    }

    /// The document, as an answer to the request called `request_id`.
    ///
    /// Headers of `response` stay: `Allow` and `WWW-Authenticate` are part of the answer.
    pub(super) fn write(self, response: Response, request_id: &str) -> Response {
        let status = self.status.unwrap_or_else(|| self.code.status());
        let document = Document {
            r#type: self.code.address(),
            title: self.code.title(),
            status: status.as_u16(),
            success: false,
            code: self.code.word(),
            detail: &self.detail,
            request_id,
            errors: self
                .errors
                .iter()
                .map(|error| Fault { pointer: &error.pointer, detail: &error.detail })
                .collect(),
            members: &self.members,
        };
        // Strings and numbers only: nothing here can fail to be written.
        let document = serde_json::to_vec(&document).unwrap_or_default();

        let (mut parts, _) = response.into_parts();
        parts.status = status;
        parts.extensions.remove::<Self>();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts
            .headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // In whole seconds, rounded up: too early is in vain.
            let seconds = after.as_millis().div_ceil(1000).max(1);
            if let Ok(seconds) = HeaderValue::try_from(seconds.to_string()) {
                parts.headers.insert(header::RETRY_AFTER, seconds);
            }
        }
        Response::from_parts(parts, Body::from(document))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.unwrap_or_else(|| self.code.status()).into_response();
        if let Some(told) = &self.told {
            told.write(response.headers_mut());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(problem: Problem) -> (Response<()>, Value) {
        let response = problem.clone().into_response();
        let (parts, body) = problem.write(response, "req_1").into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_validation_problem_says_what_and_where() {
        let problem = Problem::invalid(vec![
            FieldError::new("to", "must have 7 to 15 digits, country code included"),
            FieldError::new("text", "must not be empty"),
        ]);
        let (response, document) = written(problem).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        insta::assert_json_snapshot!(document, @r#"
        {
          "code": "VALIDATION_FAILED",
          "detail": "the request is not valid: see `errors`",
          "errors": [
            {
              "detail": "must have 7 to 15 digits, country code included",
              "pointer": "/to"
            },
            {
              "detail": "must not be empty",
              "pointer": "/text"
            }
          ],
          "requestId": "req_1",
          "status": 400,
          "success": false,
          "title": "The request is not valid",
          "type": "/problems/VALIDATION_FAILED"
        }
        "#);
    }

    #[tokio::test]
    async fn what_passes_says_when_to_come_back() {
        let problem =
            Problem::of(Code::Unavailable).retry_after(Some(Duration::from_millis(1_200)));
        let (response, document) = written(problem).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(document["code"], "UNAVAILABLE");
        assert_eq!(document["success"], false);
    }
}
