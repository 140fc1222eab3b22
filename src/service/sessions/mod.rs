//! Sessions: made, started and stopped, paired, shown, and deleted.

mod migrate;
mod qr;

use std::{collections::HashMap, str::FromStr};

use entity::{
    UnixMillis,
    id::{SessionId, SessionKey},
    kind::AuditAction,
    session,
    state::{DesiredState, Origin, Role},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Conflict, Error, FieldError, Principal, Thing,
    created::{self, Created as Outcome},
    recipient, text,
};
use crate::{
    session::{PairError, PairingCode, Sessions as Manager, view::view},
    store::{
        Store,
        page::{Page, Position},
        sessions::{Act, Created, NewSession, Settings},
    },
};

pub use self::{
    migrate::{HandedOver, MOST_SOURCES, Migration},
    qr::{Code, NoCode, Qr},
};
// What these calls take and give, for those who may not know where it comes from.
pub use crate::{
    event::Group,
    session::view::{AccountChanged, Handover, LastDisconnect, Pairing, StatusView},
    store::sessions::{Change, Filter, Migrated, StatusFilter, Summary},
};

/// A session to be made.
#[derive(Clone, Debug, Default)]
pub struct CreateSession {
    /// Made up when there is none.
    pub session_id: Option<SessionId>,
    pub user_id: Option<String>,
    pub phone_number: Option<String>,
    /// Whether it stays stopped until somebody starts it.
    pub stopped: bool,
    pub is_notification: Option<bool>,
    pub ai_config: Option<Map<String, Value>>,
}

/// Changes of a session's settings, as the caller wrote them.
#[derive(Clone, Debug, Default)]
pub struct ChangeSession {
    pub user_id: Change<String>,
    pub phone_number: Change<String>,
    pub is_notification: Change<bool>,
    pub ai_config: Change<Map<String, Value>>,
}

/// A list of sessions, or a page of it.
#[derive(Clone, Debug)]
pub struct Listing {
    pub sessions: Vec<StatusView>,
    /// Counts all sessions of the caller (and of the user asked for), whatever the page or status.
    pub summary: Summary,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<SessionKey>>,
    /// When this was true.
    pub at: UnixMillis,
}

/// What logging out or deleting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked(
    /// Whether WhatsApp confirmed that the linked device is gone. If not, it is still listed on the
    /// phone, and can be removed there.
    pub bool,
);

/// Sessions, as far as a caller may see and change them.
#[derive(Clone, Debug)]
pub struct Sessions {
    store: Store,
    manager: Manager,
}

impl CreateSession {
    /// The request in short: what it says, and what it leaves open.
    fn parts(&self) -> Vec<String> {
        let mut parts = vec![
            "session".to_owned(),
            self.session_id.as_ref().map_or("", SessionId::as_str).to_owned(),
            self.user_id.clone().unwrap_or_default(),
            self.phone_number.clone().unwrap_or_default(),
            if self.stopped { "stopped" } else { "running" }.to_owned(),
        ];
        // Only where they are, so that keys of earlier versions stay what they were.
        parts.extend(self.is_notification.map(|it| format!("isNotification {it}")));
        parts.extend(self.ai_config.as_ref().map(|it| json!({ "aiConfig": it }).to_string()));
        parts
    }
}

impl Sessions {
    pub const fn new(store: Store, manager: Manager) -> Self {
        Self { store, manager }
    }

    /// What time it is.
    pub fn now(&self) -> UnixMillis {
        self.store.clock().now()
    }

    /// The state of one session.
    pub async fn find(&self, caller: &Principal, id: &SessionId) -> Result<StatusView, Error> {
        caller.require(Role::Viewer)?;
        self.show(&self.row(caller, id).await?).await
    }

    /// Lists sessions, the oldest first, and counts them.
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &Filter,
        page: &Page<SessionKey>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Viewer)?;
        let sessions = self.store.sessions();
        let organization = &caller.organization_id;
        // One row more than asked for says whether there is a next page.
        let one_more = Page { after: page.after.clone(), limit: page.limit.map(|n| n + 1) };
        let mut rows = sessions.list(organization, filter, &one_more).await?;
        let summary = sessions.summary(organization, filter).await?;

        let mut next = None;
        if let Some(limit) = page.limit.and_then(|limit| usize::try_from(limit).ok())
            && rows.len() > limit
        {
            rows.truncate(limit);
            next = rows.last().map(|row| Position { at: row.created_at, id: row.id.clone() });
        }
        let at = self.store.clock().now();
        let heirs: Vec<_> = rows.iter().filter_map(|row| row.migrated_to.clone()).collect();
        let names = match heirs.as_slice() {
            [] => HashMap::new(),
            _ => sessions.names(organization, heirs).await?,
        };
        let show = |row: &session::Model| {
            let mut view = view(row, at);
            view.handover.to = row.migrated_to.as_ref().and_then(|heir| names.get(heir)).cloned();
            view
        };
        Ok(Listing { sessions: rows.iter().map(show).collect(), summary, next, at })
    }

    /// Makes a session and, unless it shall stay stopped, starts it. Once for each key.
    pub async fn create(
        &self,
        caller: &Principal,
        create: CreateSession,
        key: Option<String>,
    ) -> Result<Outcome<StatusView>, Error> {
        caller.require(Role::Manager)?;
        let key = key.map(|key| {
            let parts = create.parts();
            created::key(key, &parts.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let new = new_session(create)?;
        let starts = new.desired_state == DesiredState::Running;
        let sessions = self.store.sessions();
        let row = match sessions.create(&caller.organization_id, new, key, caller.by()).await? {
            Created::New(row) => row,
            Created::Before(row) => {
                let made = self.find(caller, &row.session_id).await?;
                return Ok(Outcome { made, replayed: true });
            }
            Created::KeyReused => return Err(Error::KeyReused),
            Created::Exists => {
                return Err(Error::Conflict(Conflict::SessionExists));
            }
            Created::TooMany { .. } => {
                return Err(Error::Conflict(Conflict::TooManySessions));
            }
        };
        if !starts {
            return Ok(Outcome { made: self.show(&row).await?, replayed: false });
        }
        if let Err(error) = self.manager.start(&row.id).await {
            // It exists and shall run: its status tells the rest, and the next start tries again.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session.key = %row.id,
                "A new session could not be started"
            );
        }
        let made = self.find(caller, &row.session_id).await?;
        Ok(Outcome { made, replayed: false })
    }

    /// Changes what the caller may set.
    pub async fn change(
        &self,
        caller: &Principal,
        id: &SessionId,
        change: ChangeSession,
    ) -> Result<StatusView, Error> {
        caller.require(Role::Manager)?;
        let settings = settings(change)?;
        let row = self.row(caller, id).await?;
        if !settings.phone_number.is_keep() && row.account_jid.is_some() {
            return Err(Error::Conflict(Conflict::PhoneNumberKnown));
        }
        let sessions = self.store.sessions();
        let changed =
            sessions.change(&caller.organization_id, &row.id, settings, caller.by()).await?;
        self.show(&changed.ok_or(Error::NotFound(Thing::Session))?).await
    }

    /// Has a session run, from now on and after every restart of the daemon.
    pub async fn start(&self, caller: &Principal, id: &SessionId) -> Result<StatusView, Error> {
        let row = self
            .want(caller, id, DesiredState::Running, (AuditAction::SessionStarted, json!({})))
            .await?;
        let outcome = self.manager.start(&row.id).await;
        // A handover may have come in between.
        let row = self.row(caller, id).await?;
        refuse_migrated(&self.store, &row).await?;
        outcome?;
        self.show(&row).await
    }

    /// Has a session not run, from now on, until somebody starts it.
    pub async fn stop(&self, caller: &Principal, id: &SessionId) -> Result<StatusView, Error> {
        let row = self
            .want(caller, id, DesiredState::Stopped, (AuditAction::SessionStopped, json!({})))
            .await?;
        self.manager.stop(&row.id).await?;
        self.find(caller, id).await
    }

    /// Stops a session's client and dials with a new one at once.
    pub async fn restart(&self, caller: &Principal, id: &SessionId) -> Result<StatusView, Error> {
        let row = self
            .want(caller, id, DesiredState::Running, (AuditAction::SessionRestarted, json!({})))
            .await?;
        let outcome = self.manager.restart(&row.id).await;
        // A handover may have come in between.
        let row = self.row(caller, id).await?;
        refuse_migrated(&self.store, &row).await?;
        outcome?;
        self.show(&row).await
    }

    /// Unlinks a session's device at WhatsApp and forgets its keys. The session stays, stopped.
    ///
    /// With `forget`, it also forgets whose account it was, so that another one may be linked.
    pub async fn log_out(
        &self,
        caller: &Principal,
        id: &SessionId,
        forget: bool,
    ) -> Result<(StatusView, Unlinked), Error> {
        let what = (AuditAction::SessionLoggedOut, json!({ "forgetAccount": forget }));
        let row = self.want(caller, id, DesiredState::Stopped, what).await?;
        let logged_out = self.manager.logout(&row.id).await?;
        if forget {
            self.store.sessions().forget_account(&caller.organization_id, &row.id).await?;
        }
        Ok((self.find(caller, id).await?, Unlinked(logged_out.unlinked)))
    }

    /// Asks WhatsApp for a code to type on the phone, starting the session if need be.
    pub async fn pair(
        &self,
        caller: &Principal,
        id: &SessionId,
        phone_number: &str,
    ) -> Result<PairingCode, Error> {
        let phone_number = recipient::phone_number(phone_number)
            .map_err(|malformed| Error::invalid("phoneNumber", malformed.to_string()))?;
        let what = (AuditAction::SessionPairing, json!({}));
        let row = self.want(caller, id, DesiredState::Running, what).await?;
        match self.manager.pair(&row.id, &phone_number).await {
            Err(crate::session::Error::NotRunning) => {
                self.manager.start(&row.id).await?;
                match self.manager.pair(&row.id, &phone_number).await {
                    // It runs, and lost its connection again before there was a code.
                    Err(crate::session::Error::NotRunning) => Err(PairError::Unreachable.into()),
                    outcome => Ok(outcome?),
                }
            }
            outcome => Ok(outcome?),
        }
    }

    /// Deletes a session with everything that belongs to it.
    ///
    /// With `unlink`, WhatsApp is told first that the device is gone. Whether that succeeds or not,
    /// the session is deleted.
    pub async fn delete(
        &self,
        caller: &Principal,
        id: &SessionId,
        unlink: bool,
    ) -> Result<Unlinked, Error> {
        // Not wanted any more, in case the daemon ends halfway.
        let what = (AuditAction::SessionDeleted, json!({ "logout": unlink }));
        let row = self.want(caller, id, DesiredState::Stopped, what).await?;
        let logged_out = self.manager.erase(&row.id, unlink).await?;
        Ok(Unlinked(logged_out.unlinked))
    }

    /// Writes what is wanted of a session, and who asked for what, before anything is done about it.
    async fn want(
        &self,
        caller: &Principal,
        id: &SessionId,
        desired: DesiredState,
        (action, detail): (AuditAction, Value),
    ) -> Result<session::Model, Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        embedded(&row)?;
        if desired == DesiredState::Running {
            refuse_migrated(&self.store, &row).await?;
        }
        let act = Act { action, detail, by: caller.by() };
        let sessions = self.store.sessions();
        let changed =
            sessions.set_desired_state(&caller.organization_id, &row.id, desired, act).await?;
        if let Some(changed) = changed {
            return Ok(changed);
        }
        refuse_migrated(&self.store, &self.row(caller, id).await?).await?;
        Err(Error::NotFound(Thing::Session))
    }

    async fn row(&self, caller: &Principal, id: &SessionId) -> Result<session::Model, Error> {
        find(&self.store, caller, id).await
    }

    async fn show(&self, row: &session::Model) -> Result<StatusView, Error> {
        show(&self.store, row).await
    }
}

/// What a session looks like, with whom it has handed over to, and who to it.
pub(super) async fn show(store: &Store, row: &session::Model) -> Result<StatusView, Error> {
    let mut view = view(row, store.clock().now());
    let sessions = store.sessions();
    view.handover.to = sessions.heir(row).await?;
    view.handover.from = sessions.migrated_from(&row.id).await?;
    Ok(view)
}

/// Refuses what a session that has handed over to another one does no more.
pub(super) async fn refuse_migrated(store: &Store, row: &session::Model) -> Result<(), Error> {
    if row.migrated_to.is_none() {
        return Ok(());
    }
    Err(Error::Migrated { to: store.sessions().heir(row).await? })
}

/// Looks a session of the caller's organization up.
pub(super) async fn find(
    store: &Store,
    caller: &Principal,
    id: &SessionId,
) -> Result<session::Model, Error> {
    let row = store.sessions().find(&caller.organization_id, id).await?;
    row.ok_or(Error::NotFound(Thing::Session))
}

/// Refuses what only a session with a socket here can do.
pub(super) fn embedded(row: &session::Model) -> Result<(), Error> {
    match row.origin {
        Origin::Embedded => Ok(()),
        Origin::External => Err(Error::Conflict(Conflict::SessionExternal)),
    }
}

fn new_session(create: CreateSession) -> Result<NewSession, Error> {
    let mut errors = Vec::new();
    let user_id = create.user_id.map(|user| text::user_id("userId", &user)).transpose();
    let phone_number = create.phone_number.map(|number| digits(&number)).transpose();
    let ai_config = create.ai_config.map(|it| text::config("aiConfig", &it)).transpose();
    let session_id = match create.session_id {
        Some(id) => Ok(id),
        None => SessionId::from_str(&format!("wa_{}", Uuid::new_v4()))
            .map_err(|error| FieldError::new("sessionId", error.to_string())),
    };
    match (session_id, user_id, phone_number, ai_config) {
        (Ok(session_id), Ok(user_id), Ok(phone_number), Ok(ai_config)) => Ok(NewSession {
            session_id,
            origin: Origin::Embedded,
            user_id,
            phone_number,
            desired_state: if create.stopped {
                DesiredState::Stopped
            } else {
                DesiredState::Running
            },
            is_notification: create.is_notification,
            ai_config,
        }),
        (session_id, user_id, phone_number, ai_config) => {
            errors.extend(session_id.err());
            errors.extend(user_id.err());
            errors.extend(phone_number.err());
            errors.extend(ai_config.err());
            Err(Error::Invalid(errors))
        }
    }
}

fn settings(change: ChangeSession) -> Result<Settings, Error> {
    let user_id = checked(change.user_id, |user| text::user_id("userId", &user));
    let phone_number = checked(change.phone_number, |number| digits(&number));
    let ai_config = checked(change.ai_config, |object| text::config("aiConfig", &object));
    match (user_id, phone_number, ai_config) {
        (Ok(user_id), Ok(phone_number), Ok(ai_config)) => Ok(Settings {
            user_id,
            phone_number,
            is_notification: change.is_notification,
            ai_config,
        }),
        (user_id, phone_number, ai_config) => {
            let errors = [user_id.err(), phone_number.err(), ai_config.err()];
            Err(Error::Invalid(errors.into_iter().flatten().collect()))
        }
    }
}

fn checked<T>(
    change: Change<T>,
    check: impl FnOnce(T) -> Result<String, FieldError>,
) -> Result<Change<String>, FieldError> {
    Ok(match change {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::To(value) => Change::To(check(value)?),
    })
}

fn digits(number: &str) -> Result<String, FieldError> {
    recipient::phone_number(number)
        .map_err(|malformed| FieldError::new("phoneNumber", malformed.to_string()))
}
