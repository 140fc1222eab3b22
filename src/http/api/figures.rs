//! `GET /api/whatsapp/session/{sessionId}/figures`: what one session does, which `/metrics` tells of all together.

use axum::{extract::State, response::IntoResponse};
use entity::{
    id::SessionId,
    state::{Direction, MessageStatus},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::ok;
use crate::{
    event::payload::{Timestamp, rfc3339},
    http::{auth::Caller, error::ApiError, fields::Parameters, path::SessionPath},
    service::{
        Messages,
        messages::{Alike, Figures},
    },
};

/// Figures of a session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SessionFigures")]
pub(super) struct FiguresView {
    session_id: SessionId,
    /// What was counted: the last day.
    since: Timestamp,
    until: Timestamp,
    /// Messages that came.
    received: i64,
    /// Messages that WhatsApp, or Meta, has.
    sent: i64,
    /// Those that wait to be sent, or are being sent.
    waiting: i64,
    /// Those that were given up, or refused.
    failed: i64,
    acks: AcksView,
    /// Messages that came and could not be decrypted, since the session is there.
    undecryptable: i64,
    /// False where there were so many that only the newest are counted.
    is_whole: bool,
}

/// Of the messages that were sent, how far each has come: each is in one of these.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "SessionAcks")]
struct AcksView {
    server: i64,
    delivered: i64,
    read: i64,
    played: i64,
}

impl FiguresView {
    fn of(figures: Figures) -> Self {
        let Figures { session_id, since, until, counted, undecryptable } = figures;
        let count = |wanted: &dyn Fn(&Alike) -> bool| -> i64 {
            counted.alike.iter().filter(|it| wanted(it)).map(|it| it.number).sum()
        };
        let out = |it: &Alike| it.direction == Direction::Outbound;
        let waits =
            |it: &Alike| matches!(it.status, MessageStatus::Queued | MessageStatus::Sending);
        let is_sent = |it: &Alike| out(it) && !waits(it) && it.status != MessageStatus::Failed;
        let acked = |holds: fn(i16) -> bool| count(&|it| is_sent(it) && holds(it.ack));
        Self {
            session_id,
            since: rfc3339(since),
            until: rfc3339(until),
            received: count(&|it| it.direction == Direction::Inbound),
            sent: count(&is_sent),
            waiting: count(&|it| out(it) && waits(it)),
            failed: count(&|it| out(it) && it.status == MessageStatus::Failed),
            acks: AcksView {
                // What was written on the phone nobody has acknowledged to us: the server has it, or it would not be here.
                server: acked(|level| level <= 1),
                delivered: acked(|level| level == 2),
                read: acked(|level| level == 3),
                played: acked(|level| level >= 4),
            },
            undecryptable,
            is_whole: counted.is_whole,
        }
    }
}

#[tracing::instrument(name = "http.sessions.figures", skip_all)]
pub(super) async fn show(
    State(messages): State<Messages>,
    Caller(caller): Caller,
    SessionPath(session): SessionPath,
    parameters: Parameters,
) -> Result<impl IntoResponse, ApiError> {
    parameters.finish()?;
    Ok(ok(FiguresView::of(messages.figures(&caller, &session).await?)))
}
