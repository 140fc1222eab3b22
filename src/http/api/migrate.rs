//! `POST /api/whatsapp/session/{sessionId}/migrate`: a session takes over from others of its account.

use axum::{extract::State, response::IntoResponse};
use entity::id::{EndpointId, SessionId};
use schemars::JsonSchema;
use serde::Serialize;

use super::ok;
use crate::{
    http::{
        auth::Caller, body::JsonObject, error::ApiError, fields::Parameters, path::SessionPath,
    },
    service::{
        Sessions,
        sessions::{HandedOver, Migration},
    },
};

/// What a handover came to, or would come to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Migration")]
pub(super) struct MigrationView {
    session_id: SessionId,
    /// Nothing was done: this is what would be.
    dry_run: bool,
    migrated: Vec<HandedOverView>,
    /// Sessions of the same number that do not hand over.
    skipped: Vec<SkippedView>,
}

/// A session that has handed over, and what.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MigratedSession")]
pub(super) struct HandedOverView {
    session_id: SessionId,
    /// Messages that the history of the new session has with it.
    messages: u64,
    /// Settings that the new session had none of its own of.
    settings: Vec<&'static str>,
    /// Endpoints that chose the old session and choose the new one as well.
    webhooks: Vec<EndpointId>,
    /// Campaigns that are sent from the new session.
    campaigns: u64,
}

impl From<HandedOver> for HandedOverView {
    fn from(given: HandedOver) -> Self {
        let HandedOver { session_id, messages, settings, webhooks, campaigns } = given;
        Self { session_id, messages, settings, webhooks, campaigns }
    }
}

/// A session that does not hand over, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SkippedSession")]
pub(super) struct SkippedView {
    session_id: SessionId,
    /// `running`, `other_account`, `busy`.
    reason: &'static str,
}

impl From<Migration> for MigrationView {
    fn from(migration: Migration) -> Self {
        let skipped = migration.skipped.into_iter();
        Self {
            session_id: migration.session_id,
            dry_run: migration.dry_run,
            migrated: migration.migrated.into_iter().map(Into::into).collect(),
            skipped: skipped
                .map(|(session_id, why)| SkippedView { session_id, reason: why.word() })
                .collect(),
        }
    }
}

#[tracing::instrument(name = "http.sessions.migrate", skip_all)]
pub(super) async fn migrate(
    State(sessions): State<Sessions>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    parameters: Parameters,
    JsonObject(mut body): JsonObject,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    let from = body.texts("from").map(|ids| {
        let mut named = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            match id.parse::<SessionId>() {
                Ok(id) => named.push(id),
                Err(error) => {
                    body.fault::<()>(&format!("from/{place}"), error.to_string());
                }
            }
        }
        named
    });
    let dry_run = body.flag("dryRun").unwrap_or(false);
    body.finish()?;
    let migration = sessions.migrate(&caller, &id, from, dry_run).await?;
    Ok(ok(MigrationView::from(migration)))
}
