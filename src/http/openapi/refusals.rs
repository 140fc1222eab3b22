//! What a route refuses, and with which documents.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use entity::state::Role;
use serde_json::{Map, Value, json};

use super::{Writer, request_id, variables};
use crate::http::{
    code::Code,
    elder::told,
    operation::{OddProblem, Operation},
    problem::{Document as ProblemDocument, Problem},
    route::{Access, Key, Statement},
};

/// Why a request is refused, with what is said of that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    code: Code,
    about: &'a str,
    detail: &'a str,
}

/// All that a route refuses, by the status.
pub(super) fn of<'a>(
    statement: &Statement,
    operation: &'a Operation,
) -> BTreeMap<u16, Vec<Refused<'a>>> {
    let mut by_status: BTreeMap<u16, Vec<Refused<'a>>> = BTreeMap::new();
    for code in problems(statement, operation) {
        let codes = by_status.entry(code.status().as_u16()).or_default();
        if !codes.iter().any(|refused| refused.code == code) {
            codes.push(Refused { code, about: code.about(), detail: code.detail() });
        }
    }
    for OddProblem { status, code, about, detail } in &operation.odd_problems {
        by_status.entry(*status).or_default().push(Refused { code: *code, about, detail });
    }
    by_status
}

impl Writer {
    /// The response that is a problem of one of these codes, which have one status. `elder` if clients of seed 002 read
    /// it.
    pub(super) fn problem(
        &mut self,
        status: u16,
        codes: &[Refused<'_>],
        elder: Option<&Operation>,
    ) -> Value {
        if let [Refused { code, .. }] = codes
            && code.status().as_u16() == status
            && elder.is_none()
        {
            let word = code.word();
            if !self.problems.contains_key(word) {
                let response = self.problem_of(status, codes, elder);
                self.problems.insert(word, response);
            }
            return json!({ "$ref": format!("#/components/responses/{word}") });
        }
        self.problem_of(status, codes, elder)
    }

    fn problem_of(
        &mut self,
        status: u16,
        codes: &[Refused<'_>],
        elder: Option<&Operation>,
    ) -> Value {
        let words: Vec<_> = codes.iter().map(|it| it.code.word()).collect();
        let about: Vec<_> = codes
            .iter()
            .map(|it| format!("`{}`: {}. {}", it.code.word(), it.code.title(), it.about))
            .collect();
        let examples: Map<_, _> = codes
            .iter()
            .map(|it| {
                let value = it.example(status, elder);
                (it.code.word().to_owned(), json!({ "summary": it.code.title(), "value": value }))
            })
            .collect();
        let mut headers = request_id();
        if codes.iter().any(|it| it.code == Code::Unauthenticated) {
            headers["WWW-Authenticate"] =
                json!({ "description": "`Bearer`", "schema": { "type": "string" } });
        }
        if matches!(status, 409 | 429 | 503) {
            headers["Retry-After"] = json!({
                "description": "After how many seconds to ask again, where that is known.",
                "schema": { "type": "integer", "minimum": 1 },
            });
        }
        json!({
            "description": about.join("\n\n"),
            "headers": headers,
            "content": { "application/problem+json": {
                "schema": { "allOf": [
                    self.schemas.subschema_for::<ProblemDocument<'_>>(),
                    { "properties": { "code": { "enum": words } } },
                ] },
                "examples": examples,
            } },
        })
    }
}

impl Refused<'_> {
    /// The document as it is answered, with what clients of seed 002 read of it if it is for such.
    fn example(self, status: u16, elder: Option<&Operation>) -> Value {
        let mut example = self.code.example();
        example["status"] = status.into();
        example["detail"] = self.detail.into();
        let Some(elder) = elder else { return example };
        let problem = Problem::new(self.code, self.detail.to_owned());
        let problem = match StatusCode::from_u16(status) {
            Ok(status) => problem.status(status),
            Err(_) => problem,
        };
        let message = elder.messages.iter().find(|(code, _)| *code == self.code);
        let problem = match message {
            Some((_, message)) => problem.with("message", *message),
            None => problem,
        };
        if let Value::Object(members) = &mut example {
            members.extend(told(problem, false).members);
        }
        example
    }
}

/// Every problem that the route can answer: its own, and those of its kind.
fn problems(statement: &Statement, operation: &Operation) -> Vec<Code> {
    let mut codes = operation.problems.clone();
    if let Access::Holder(key) = statement.access {
        codes.extend([
            Code::ValidationFailed,
            Code::Unauthenticated,
            Code::DatabaseUnavailable,
            Code::Unavailable,
        ]);
        codes.push(Code::Forbidden);
        if matches!(key, Key::Session(_)) {
            codes.push(Code::OrganizationNotFound);
        }
    }
    if let Access::AtLeast(role) = statement.access {
        codes.extend([
            Code::ValidationFailed,
            Code::Unauthenticated,
            Code::OrganizationNotFound,
            Code::DatabaseUnavailable,
            Code::Unavailable,
        ]);
        if statement.takes_signature {
            codes.extend([Code::SignedUrlInvalid, Code::SignedUrlExpired]);
        }
        if role > Role::Viewer {
            codes.push(Code::Forbidden);
        }
    }
    for name in variables(statement.path) {
        codes.extend(match name {
            "sessionId" => Some(Code::SessionNotFound),
            "messageId" => Some(Code::MessageNotFound),
            "tokenId" => Some(Code::TokenNotFound),
            "webhookId" => Some(Code::WebhookNotFound),
            "deliveryId" => Some(Code::DeliveryNotFound),
            "replayId" => Some(Code::ReplayNotFound),
            "campaignId" => Some(Code::CampaignNotFound),
            "conversationId" => Some(Code::ConversationNotFound),
            "accountId" => Some(Code::MetaAccountNotFound),
            "metaEventId" => Some(Code::MetaEventNotFound),
            _ => None,
        });
    }
    if operation.body.is_some() {
        codes.extend([
            Code::MalformedJson,
            Code::BadRequest,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
        ]);
    }
    if statement.is_metered {
        codes.push(Code::RateLimited);
    }
    codes.extend([Code::UriTooLong, Code::HeadersTooLarge, Code::Timeout, Code::Internal]);
    codes
}
