//! `GET /problems/{code}`: what a problem's code means. The `type` of every problem document.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::IntoResponse,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::ok;
use crate::http::{code::Code, error::ApiError, problem::Problem};

/// A code, explained.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProblemCode")]
pub(super) struct ProblemView {
    code: &'static str,
    status: u16,
    title: &'static str,
    /// What has happened, and what can be done about it.
    about: &'static str,
    /// A whole document.
    example: Value,
}

impl From<Code> for ProblemView {
    fn from(code: Code) -> Self {
        Self {
            code: code.word(),
            status: code.status().as_u16(),
            title: code.title(),
            about: code.about(),
            example: code.example(),
        }
    }
}

/// `{code}`
#[derive(Debug)]
pub(super) struct CodePath(Code);

impl<S: Send + Sync> FromRequestParts<S> for CodePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let code = parameters
            .ok()
            .and_then(|parameters| parameters.iter().find_map(|(_, word)| Code::of_word(word)));
        code.map(Self).ok_or_else(|| Problem::of(Code::ProblemNotFound).into())
    }
}

pub(super) async fn list() -> impl IntoResponse {
    let codes: Vec<_> = Code::ALL.iter().map(|code| ProblemView::from(*code)).collect();
    ok(codes)
}

pub(super) async fn show(CodePath(code): CodePath) -> impl IntoResponse {
    ok(ProblemView::from(code))
}
