//! Sessions that run elsewhere: found by what they are called there, and by who may post their events.

use entity::{
    id::{OrganizationId, SessionId, SessionKey},
    session,
    state::{Origin, ReceiverAuth},
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};

use super::Sessions;
use crate::{
    store::{Error, writer::Patience},
    vault::{Column, OpenError, Part},
    webhook::SigningSecret,
};

const SECRET: Column = Column::new("session", "receiver_secret");

/// What the caller keeps with an external session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionData {
    /// A JSON object.
    pub json: String,
    /// What the session is called where it runs, if the object says so.
    pub vps_session_id: Option<String>,
}

/// How the events of an external session are let in.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub auth: ReceiverAuth,
    /// A new secret; none to leave what there is.
    pub secret: Option<SigningSecret>,
}

/// The same, ready to be written.
#[derive(Clone, Debug)]
pub(super) struct SealedReceiver {
    pub(super) auth: ReceiverAuth,
    pub(super) secret: Option<Vec<u8>>,
}

impl Sessions {
    /// Looks up the session that is called so where it runs, whosever it is.
    pub async fn find_by_vps_session_id(&self, id: &str) -> Result<Option<session::Model>, Error> {
        let found = session::Entity::find()
            .filter(session::COLUMN.vps_session_id.eq(id))
            .one(self.store.reader())
            .await?;
        self.store.open_session(found).await
    }

    /// External sessions with this id, whosever they are, whose events are let in by a secret of their own.
    pub async fn with_secret(&self, id: &SessionId) -> Result<Vec<session::Model>, Error> {
        let found = session::Entity::find()
            .filter(session::COLUMN.session_id.eq(id.clone()))
            .filter(session::COLUMN.origin.eq(Origin::External))
            .filter(session::COLUMN.receiver_secret.is_not_null())
            .order_by_asc(session::COLUMN.id)
            .all(self.store.reader())
            .await?;
        self.store.open_sessions(found).await
    }

    /// The secret by which a session's events are let in; none when it has none, or it does not open.
    pub async fn receiver_secret(
        &self,
        row: &session::Model,
    ) -> Result<Option<SigningSecret>, Error> {
        let Some(stored) = &row.receiver_secret else { return Ok(None) };
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        let opened = sealer.open(SECRET, &[Part::from(row.id.as_str())], stored);
        Ok(opened
            .inspect_err(|error: &OpenError| {
                let error: &dyn std::error::Error = error;
                tracing::error!(error, session.key = %row.id, "A session's secret does not open");
            })
            .ok()
            .map(SigningSecret::from_bytes))
    }

    pub(super) async fn sealed(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        receiver: &Receiver,
    ) -> Result<SealedReceiver, Error> {
        let secret = match &receiver.secret {
            None => None,
            Some(secret) => {
                let sealer = self.store.sealer(organization, Patience::Fail).await?;
                Some(sealer.seal(SECRET, &[Part::from(key.as_str())], secret.as_bytes()))
            }
        };
        Ok(SealedReceiver { auth: receiver.auth, secret })
    }
}

/// Whether another session than `key` is called so where it runs.
pub(super) async fn is_taken(
    db: &impl ConnectionTrait,
    key: &SessionKey,
    vps_session_id: Option<&str>,
) -> Result<bool, DbErr> {
    let Some(id) = vps_session_id else { return Ok(false) };
    let found = session::Entity::find()
        .filter(session::COLUMN.vps_session_id.eq(id))
        .filter(session::COLUMN.id.ne(key.clone()))
        .one(db)
        .await?;
    Ok(found.is_some())
}

/// The sessions of one of an organization's users, the newest first.
pub(super) async fn of_user(
    db: &impl ConnectionTrait,
    organization: &OrganizationId,
    user_id: &str,
) -> Result<Vec<session::Model>, DbErr> {
    session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(session::COLUMN.user_id.eq(user_id))
        .order_by_desc(session::COLUMN.created_at)
        .order_by_desc(session::COLUMN.id)
        .all(db)
        .await
}
