//! `POST /api/whatsapp/connect`: a user asks to be connected. Members are written as seed 002 has them.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use entity::id::SessionId;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    http::{
        auth::Caller,
        body::JsonObject,
        code::Code,
        error::ApiError,
        fields::Parameters,
        idempotency::{idempotency_key, once},
        problem::Problem,
    },
    service::{self, Sessions, sessions::Connect},
};

/// How a session is, in the two words that the seed has for it here.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Connection {
    Connected,
    Reconnecting,
}

/// A session on its way to be connected.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Connecting")]
pub(super) struct ConnectingView {
    status: Connection,
    /// The code to scan. Left out when none was there in time, or none is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    qr_code: Option<String>,
    session_id: SessionId,
}

/// What is wrong with the members has the seed's message (`http/elder.rs`).
fn invalid_params(error: ApiError) -> ApiError {
    let problem = match error {
        ApiError::Service(service::Error::Invalid(errors)) => Problem::invalid(errors),
        ApiError::Request(problem) if problem.code == Code::ValidationFailed => problem,
        other => return other,
    };
    problem.with("message", "Invalid params").into()
}

/// 201 in any case, as the seed's server has it: with a session that is new, one that the user had, or one that the same
/// request came to before.
#[tracing::instrument(name = "http.connect", skip_all)]
pub(super) async fn connect(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    parameters: Parameters,
    headers: HeaderMap,
    JsonObject(mut body): JsonObject,
) -> Result<Response, ApiError> {
    parameters.finish()?;
    let connect = Connect {
        user_id: body.required_text("user_id"),
        phone_number: body.required_text("phone_number"),
        idempotency_key: idempotency_key(&headers)?,
    };
    body.finish().map_err(invalid_params)?;
    let connecting = sessions.connect(&caller, connect).await;
    let connecting = connecting.map_err(|error| invalid_params(error.into()))?;
    let view = ConnectingView {
        status: if connecting.is_connected {
            Connection::Connected
        } else {
            Connection::Reconnecting
        },
        qr_code: connecting.qr,
        session_id: connecting.session_id,
    };
    Ok(once((StatusCode::CREATED, Json(view)), connecting.replayed))
}
