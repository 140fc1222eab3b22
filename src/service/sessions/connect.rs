//! A user asks to be connected: the one call that makes a session, starts it and waits for its code.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::SessionId,
    kind::AuditAction,
    session,
    state::{DesiredState, Role, SessionStatus},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Error, Principal, Sessions,
    input::{digits, named_session},
};
use crate::{
    event::{Event, Report, Reported},
    service::{Conflict, FieldError, Thing, created, events::Bell, text},
    session::view::StatusView,
    store::{
        Patience,
        events::NewEvent,
        idempotency::Key,
        sessions::{Act, NewSession, OfUser},
    },
};

/// How long a code is waited for. WhatsApp sends the first within a second or two of a dial.
const PATIENCE: Duration = Duration::from_secs(15);

/// The session is looked at no sooner than this after the last time, whatever happens on others meanwhile.
const SPACING: Duration = Duration::from_millis(100);

/// Who asks to be connected.
#[derive(Clone, Debug)]
pub struct Connect {
    pub user_id: String,
    pub phone_number: String,
    /// What the caller calls the request.
    pub idempotency_key: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Connecting {
    pub session_id: SessionId,
    pub is_connected: bool,
    /// The code to scan, if there is one by now.
    pub qr: Option<String>,
    /// An earlier request with the same key has come to it: nothing was done.
    pub replayed: bool,
}

impl Connecting {
    fn of(view: StatusView, replayed: bool) -> Self {
        let StatusView { session_id, is_connected, qr, .. } = view;
        Self { session_id, is_connected, qr, replayed }
    }
}

impl Sessions {
    /// Connects a user: with a session that he has and that is not connected, or with a new one. Waits for a
    /// code to scan, or for the connection.
    ///
    /// The session is there before its client is started. When the start fails it stays, stopped, and says why.
    pub async fn connect(&self, caller: &Principal, connect: Connect) -> Result<Connecting, Error> {
        caller.require(Role::Manager)?;
        let user_id = text::user_id("user_id", &connect.user_id);
        let phone_number = digits("phone_number", &connect.phone_number);
        let (user_id, phone_number) = match (user_id, phone_number) {
            (Ok(user_id), Ok(phone_number)) => (user_id, phone_number),
            (user_id, phone_number) => {
                let faults: Vec<FieldError> =
                    user_id.err().into_iter().chain(phone_number.err()).collect();
                return Err(Error::Invalid(faults));
            }
        };
        let new = NewSession {
            session_id: named_session(None)?,
            user_id: Some(user_id.clone()),
            phone_number: Some(phone_number.clone()),
            desired_state: DesiredState::Running,
            is_notification: None,
            ai_config: None,
            external: None,
        };
        let (sessions, organization) = (self.store.sessions(), &caller.organization_id);
        let whose = (user_id.as_str(), phone_number.as_str());
        let parts = ["connect", whose.0, whose.1];
        let key = connect.idempotency_key.map(|key| created::key(key, &parts));
        let found = sessions.for_user(organization, whose, (new, key.clone()), caller.by()).await?;
        let row = match found {
            OfUser::Replayed(row, begun_at) => {
                let view = self.begun(caller, &row.session_id, begun_at).await?;
                return Ok(Connecting::of(view, true));
            }
            OfUser::KeyReused => return Err(Error::KeyReused),
            OfUser::Gone => return Err(Error::MadeGone),
            OfUser::New(row) => *row,
            OfUser::Before(row) => self.take_up(caller, *row, &phone_number).await?,
            OfUser::Connected => return Err(Error::Conflict(Conflict::UserConnected)),
            OfUser::TooMany => return Err(Error::Conflict(Conflict::TooManySessions)),
            OfUser::Exists => return Err(Error::Conflict(Conflict::SessionExists)),
        };
        let begun_at = self.now();
        if let Err(error) = self.manager.start(&row.id).await {
            self.give_up(caller, &row, &error, key.as_ref()).await;
            return Err(error.into());
        }
        let view = self.begun(caller, &row.session_id, begun_at).await?;
        Ok(Connecting::of(view, false))
    }

    /// The session as soon as there is a code or a connection, or it is clear that there is none for now. A dial that is
    /// lost is tried again: what comes of that is waited for as well.
    async fn begun(
        &self,
        caller: &Principal,
        id: &SessionId,
        begun_at: UnixMillis,
    ) -> Result<StatusView, Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut bell = Bell::of(&self.store).apart(SPACING);
        loop {
            let view = self.find(caller, id).await?;
            if is_over(&view, begun_at) {
                return Ok(view);
            }
            if tokio::time::timeout_at(deadline, bell.rung()).await.is_err() {
                // What has come since the last look counts, too.
                return self.find(caller, id).await;
            }
        }
    }

    /// Has a session that the user had before run, for this number.
    async fn take_up(
        &self,
        caller: &Principal,
        row: session::Model,
        phone_number: &str,
    ) -> Result<session::Model, Error> {
        let (sessions, organization) = (self.store.sessions(), &caller.organization_id);
        let detail = json!({ "by": "connect" });
        let act = Act { action: AuditAction::SessionStarted, detail, by: caller.by() };
        let number = Some(phone_number.to_owned()).filter(|_| row.account_jid.is_none());
        sessions
            .take_up(organization, &row.id, number, act)
            .await?
            .ok_or(Error::NotFound(Thing::Session))
    }

    /// Leaves a session that could not be started stopped, and writes down why. What cannot be written any
    /// more is logged: the caller is told of the start.
    async fn give_up(
        &self,
        caller: &Principal,
        row: &session::Model,
        why: &crate::session::Error,
        key: Option<&Key>,
    ) {
        let detail = json!({ "by": "connect" });
        let act = Act { action: AuditAction::SessionStopped, detail, by: caller.by() };
        let sessions = self.store.sessions();
        let organization = &caller.organization_id;
        let stopped =
            sessions.set_desired_state(organization, &row.id, DesiredState::Stopped, act).await;
        let reason = format!("The session could not be started: {why}");
        let event =
            Event::Reported(Report { what: Reported::Disconnected { reason }, phone_number: None });
        let said = NewEvent {
            organization_id: organization.clone(),
            session_key: row.id.clone(),
            // That of the run before, or of none: once another has begun, by whomever, this is not true of it any more.
            generation: Some(row.generation),
            event,
            at: self.now(),
            care: None,
            posted: None,
        };
        let said = self.store.writer().record(said, Patience::Fail).await;
        // Whoever asks again with it is not told that it was done.
        let freed = match key {
            Some(key) => sessions.free_key(organization, key).await,
            None => Ok(()),
        };
        for error in stopped.err().into_iter().chain(said.err()).chain(freed.err()) {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, session.key = %row.id, "A failed start could not be written down");
        }
    }
}

/// Whether nothing more comes of a start at `begun_at` while somebody waits for it: there is what was asked for, or it
/// has failed since and is not tried again, or not in time.
fn is_over(view: &StatusView, begun_at: UnixMillis) -> bool {
    let is_of_now = |at: UnixMillis| at >= begun_at;
    let has_ended = view.last_disconnect.as_ref().is_some_and(|last| is_of_now(last.at));
    let is_idle = view.status == SessionStatus::SessionNotConnected;
    let is_too_late = view.next_attempt_at.is_some_and(|at| at > begun_at + PATIENCE);
    let has_erred = view.has_error && (has_ended || is_of_now(view.since));
    let has_failed = has_erred || (has_ended && (is_idle || is_too_late));
    view.is_connected || view.qr.is_some() || has_failed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use entity::session;

    use super::*;
    use crate::{event::status::tests::row, session::view::view};

    const BEGUN: UnixMillis = UnixMillis(1_000_000);

    fn is_over_at(row: &session::Model) -> bool {
        is_over(&view(row, BEGUN + Duration::from_secs(1)), BEGUN)
    }

    #[test]
    fn a_dial_that_is_lost_is_not_the_end_while_the_next_one_comes_in_time() {
        let lost = session::Model {
            status: SessionStatus::Connecting,
            reconnecting: true,
            last_disconnect_reason: Some("connection_lost".to_owned()),
            last_disconnect_at: Some(BEGUN),
            next_attempt_at: Some(BEGUN + PATIENCE),
            ..row()
        };
        assert!(!is_over_at(&lost));
        let dialled = session::Model { reconnecting: false, next_attempt_at: None, ..lost.clone() };
        assert!(!is_over_at(&dialled), "it is being dialled again");
        let next_attempt_at = Some(BEGUN + PATIENCE + Duration::from_millis(1));
        assert!(is_over_at(&session::Model { next_attempt_at, ..lost.clone() }));
        for status in [SessionStatus::SessionNotConnected, SessionStatus::SessionConnected] {
            assert!(is_over_at(&session::Model { status, ..dialled.clone() }), "{status:?}");
        }
        for status in [SessionStatus::AuthFailure, SessionStatus::Error] {
            assert!(is_over_at(&session::Model { status, ..lost.clone() }), "{status:?}");
        }
        // That it was disconnected or refused before says nothing of this time.
        let before = UnixMillis(BEGUN.0 - 1);
        for status in [SessionStatus::SessionNotConnected, SessionStatus::AuthFailure] {
            let last_disconnect_at = Some(before);
            let old = session::Model { status, last_disconnect_at, ..dialled.clone() };
            assert!(
                !is_over_at(&session::Model { status_since: before, ..old.clone() }),
                "{status:?}"
            );
        }
        let status = SessionStatus::Error;
        let (last_disconnect_at, status_since) = (None, BEGUN);
        assert!(is_over_at(&session::Model {
            status,
            last_disconnect_at,
            status_since,
            ..dialled
        }));
    }
}
