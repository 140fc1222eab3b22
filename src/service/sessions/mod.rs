//! Sessions: made, started and stopped, paired, shown, and deleted.

mod connect;
mod input;
mod migrate;
mod qr;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{SessionId, SessionKey},
    kind::AuditAction,
    session,
    state::{DesiredState, Origin, ReceiverAuth, Role},
};
use serde_json::{Map, Value, json};

use super::{
    Conflict, Error, Principal, Thing,
    created::{self, Created as Outcome},
    recipient,
};
use crate::{
    session::{PairError, PairingCode, Sessions as Manager, view::view},
    store::{
        Store,
        page::{Page, Position},
        sessions::{Act, Changed, Created},
    },
    webhook::SigningSecret,
};

use self::input::{new_session, settings};
pub use self::{
    connect::{Connect, Connecting},
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
    /// Of one that runs elsewhere.
    pub external: Option<CreateExternal>,
}

/// What a session that runs elsewhere has besides.
#[derive(Clone, Debug)]
pub struct CreateExternal {
    /// What the caller keeps with it.
    pub data: Option<Map<String, Value>>,
    pub auth: ReceiverAuth,
}

/// A session as it was made or changed, with the secret that was made for its events. That is shown once.
#[derive(Clone, Debug)]
pub struct WithSecret {
    pub session: StatusView,
    pub secret: Option<SigningSecret>,
}

/// Changes of a session's settings, as the caller wrote them.
#[derive(Clone, Debug, Default)]
pub struct ChangeSession {
    pub user_id: Change<String>,
    pub phone_number: Change<String>,
    pub is_notification: Change<bool>,
    pub ai_config: Change<Map<String, Value>>,
    /// Of an external session.
    pub data: Change<Map<String, Value>>,
    /// Of an external session.
    pub auth: Option<ReceiverAuth>,
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
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let mut parts = vec![
            "session".to_owned(),
            text(self.session_id.as_ref().map(SessionId::as_str)),
            text(self.user_id.as_deref()),
            text(self.phone_number.as_deref()),
            if self.stopped { "stopped" } else { "running" }.to_owned(),
        ];
        if let Some(CreateExternal { data, auth }) = &self.external {
            let data = data.clone().map(Value::Object).unwrap_or_default();
            parts.extend([format!("{auth:?}"), data.to_string()]);
        }
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

    /// How many daemons share the database, as far as this one knows from time to time.
    pub fn daemons(&self) -> Arc<AtomicU64> {
        self.manager.daemons()
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
        list(&self.store, caller, filter, page).await
    }

    /// Makes a session and, unless it shall stay stopped, starts it. Once for each key.
    pub async fn create(
        &self,
        caller: &Principal,
        create: CreateSession,
        key: Option<String>,
    ) -> Result<Outcome<WithSecret>, Error> {
        caller.require(Role::Manager)?;
        let parts = create.parts();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let key = key.map(|key| created::key(key, &parts));
        let new = new_session(create)?;
        let secret = new.external.as_ref().and_then(|it| it.receiver.secret.clone());
        let starts = new.desired_state == DesiredState::Running;
        let sessions = self.store.sessions();
        let row = match sessions.create(&caller.organization_id, new, key, caller.by()).await? {
            Created::New(row) => row,
            Created::Before(row) => {
                let session = self.find(caller, &row.session_id).await?;
                let made = WithSecret { session, secret: None };
                return Ok(Outcome { made, replayed: true });
            }
            Created::KeyReused => return Err(Error::KeyReused),
            Created::Gone => return Err(Error::MadeGone),
            Created::Exists => {
                return Err(Error::Conflict(Conflict::SessionExists));
            }
            Created::VpsTaken => return Err(Error::Conflict(Conflict::VpsSessionExists)),
            Created::TooMany { .. } => {
                return Err(Error::Conflict(Conflict::TooManySessions));
            }
        };
        if !starts {
            let made = WithSecret { session: self.show(&row).await?, secret };
            return Ok(Outcome { made, replayed: false });
        }
        if let Err(error) = self.manager.start(&row.id).await {
            // It exists and shall run: its status tells the rest, and the next start tries again.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session.key = %row.id,
                "A new session could not be started"
            );
        }
        let session = self.find(caller, &row.session_id).await?;
        Ok(Outcome { made: WithSecret { session, secret }, replayed: false })
    }

    /// Changes what the caller may set.
    pub async fn change(
        &self,
        caller: &Principal,
        id: &SessionId,
        change: ChangeSession,
    ) -> Result<WithSecret, Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        let mut settings = settings(change, &row)?;
        // Whoever says what is so already changes nothing, and is not refused.
        let there = row.phone_number.as_deref();
        if matches!(&settings.phone_number, Change::To(number) if there == Some(number)) {
            settings.phone_number = Change::Keep;
            if settings.is_keep() {
                return Ok(WithSecret { session: self.show(&row).await?, secret: None });
            }
        }
        let secret = settings.receiver.as_ref().and_then(|it| it.secret.clone());
        if !settings.phone_number.is_keep() && row.account_jid.is_some() {
            return Err(Error::Conflict(Conflict::PhoneNumberKnown));
        }
        let sessions = self.store.sessions();
        let by = (AuditAction::SessionChanged, caller.by());
        match sessions.change(&caller.organization_id, &row.id, settings, by).await? {
            Changed::Done(row) => Ok(WithSecret { session: self.show(&row).await?, secret }),
            Changed::Gone => Err(Error::NotFound(Thing::Session)),
            Changed::NumberKnown => Err(Error::Conflict(Conflict::PhoneNumberKnown)),
            Changed::VpsTaken => Err(Error::Conflict(Conflict::VpsSessionExists)),
        }
    }

    /// Gives an external session a new secret, once for each key, and says until when the one before is as good. The
    /// secret is told the first time.
    pub async fn rotate_secret(
        &self,
        caller: &Principal,
        id: &SessionId,
        overlap: Duration,
        key: Option<String>,
    ) -> Result<(Option<SigningSecret>, UnixMillis), Error> {
        caller.require(Role::Manager)?;
        let row = self.row(caller, id).await?;
        match row.receiver_auth {
            Some(ReceiverAuth::Secret | ReceiverAuth::Signature) => {}
            Some(ReceiverAuth::Token) => return Err(Error::Conflict(Conflict::NoSecret)),
            None => return Err(Error::Conflict(Conflict::SessionEmbedded)),
        }
        let secret = SigningSecret::generate_plain();
        let until = self.store.clock().now() + overlap;
        let detail = json!({ "overlapSeconds": overlap.as_secs() });
        let act = Act { action: AuditAction::SessionSecretRotated, detail, by: caller.by() };
        let (organization, sessions) = (&caller.organization_id, self.store.sessions());
        let seconds = overlap.as_secs().to_string();
        let parts = ["session.secret", row.id.as_str(), &seconds];
        let key = key.map(|key| created::key(key, &parts));
        let rotated = sessions
            .rotate_receiver_secret(organization, &row.id, (&secret, until), key, act)
            .await?
            .ok_or(Error::NotFound(Thing::Session))?;
        let Outcome { made: until, replayed } = Outcome::try_from(rotated)?;
        Ok((Some(secret).filter(|_| !replayed), until))
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
        let what = (AuditAction::SessionDeletionAsked, json!({ "logout": unlink }));
        let row = self.row(caller, id).await?;
        if row.origin != Origin::Embedded {
            // Nothing of it is here but what was told.
            let (organization, sessions) = (&caller.organization_id, self.store.sessions());
            let act = Act { action: what.0, detail: what.1, by: caller.by() };
            sessions.set_desired_state(organization, &row.id, DesiredState::Stopped, act).await?;
            let deleted = sessions.delete(organization, &row.id).await?;
            return if deleted {
                Ok(Unlinked(false))
            } else {
                Err(Error::NotFound(Thing::Session))
            };
        }
        // Not wanted any more, in case the daemon ends halfway.
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

/// Lists sessions, the oldest first, and counts them. Needs none of what runs them.
pub async fn list(
    store: &Store,
    caller: &Principal,
    filter: &Filter,
    page: &Page<SessionKey>,
) -> Result<Listing, Error> {
    caller.require(Role::Viewer)?;
    let sessions = store.sessions();
    let organization = &caller.organization_id;
    let mut rows = sessions.list(organization, filter, &page.one_more()).await?;
    let next = page.cut(&mut rows, |row| Position { at: row.created_at, id: row.id.clone() });
    let summary = sessions.summary(organization, filter).await?;
    let at = store.clock().now();
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
        Origin::External | Origin::Cloud => Err(Error::Conflict(Conflict::SessionExternal)),
    }
}
