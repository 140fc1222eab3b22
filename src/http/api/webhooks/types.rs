//! The catalogue: every type of event that an endpoint can be told of.

use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    http::{api::ok, auth::Caller, error::ApiError, fields::Parameters},
    webhook::{EventType, catalogue},
};

/// A type of event.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EventType")]
pub(super) struct TypeView {
    r#type: &'static str,
    description: &'static str,
    /// JSON Schema of `data`.
    schema: Value,
    /// A `data`.
    example: Value,
}

#[tracing::instrument(name = "http.webhooks.types", skip_all)]
pub(super) async fn list(
    Caller(_): Caller,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let types: Vec<_> = EventType::ALL
        .iter()
        .map(|kind| TypeView {
            r#type: kind.name(),
            description: kind.description(),
            schema: catalogue::schema(*kind),
            example: catalogue::example(*kind),
        })
        .collect();
    Ok(ok(types))
}
