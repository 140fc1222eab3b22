//! Sessions that run elsewhere: found by what they are called there, and by who may post their events.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionId, SessionKey},
    session,
    state::{Origin, ReceiverAuth},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::LockType,
};

use super::{Act, Sessions};
use crate::{
    store::{
        Error, Made, audit,
        idempotency::{Key, moment, said_before},
        writer::Patience,
    },
    vault::{Column, OpenError, Part},
    webhook::SigningSecret,
};

const SECRET: Column = Column::new("session", "receiver_secret");
const PREVIOUS: Column = Column::new("session", "previous_receiver_secret");

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
    /// Looks up the session that is called so where it runs: the organization's, of which it has one at most; or
    /// whosever it is, of several the one that was first. Whoever comes later is not told of it, and gets nothing that is
    /// meant for it.
    pub async fn find_by_vps_session_id(
        &self,
        id: &str,
        organization: Option<&OrganizationId>,
    ) -> Result<Option<session::Model>, Error> {
        let mut query = session::Entity::find().filter(session::COLUMN.vps_session_id.eq(id));
        if let Some(organization) = organization {
            query = query.filter(session::COLUMN.organization_id.eq(organization.clone()));
        }
        let found = query
            .order_by_asc(session::COLUMN.vps_claimed_at)
            .order_by_asc(session::COLUMN.id)
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

    /// The secrets by which a session's events are let in at `now`, the present one first; none when it has none, or
    /// they do not open.
    pub async fn receiver_secrets(
        &self,
        row: &session::Model,
        now: UnixMillis,
    ) -> Result<Vec<SigningSecret>, Error> {
        let previous = row
            .previous_receiver_secret
            .as_ref()
            .filter(|_| row.previous_receiver_until.is_some_and(|until| now < until));
        let stored = [(SECRET, row.receiver_secret.as_ref()), (PREVIOUS, previous)];
        let stored: Vec<_> =
            stored.into_iter().filter_map(|(column, stored)| Some((column, stored?))).collect();
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        let open = |(column, stored): (Column, &Vec<u8>)| {
            let opened = sealer.open(column, &[Part::from(row.id.as_str())], stored);
            opened
                .inspect_err(|error: &OpenError| {
                    let error: &dyn std::error::Error = error;
                    tracing::error!(error, session.key = %row.id, "A session's secret does not open");
                })
                .ok()
                .map(SigningSecret::from_bytes)
        };
        Ok(stored.into_iter().filter_map(open).collect())
    }

    /// Gives an external session this secret, once for each key. The one that it has is as good until `until`, the one
    /// before that no longer. None where there is no such session, with a secret.
    pub async fn rotate_receiver_secret(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        (secret, until): (&SigningSecret, UnixMillis),
        once: Option<Key>,
        act: Act,
    ) -> Result<Option<Made<UnixMillis>>, Error> {
        let now = self.store.clock().now();
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let new = sealer.seal(SECRET, &[Part::from(key.as_str())], secret.as_bytes());
        let (lane, organization, key) = (key.to_string(), organization.clone(), key.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, key, once) = (organization.clone(), key.clone(), once.clone());
                let (sealer, new, act) = (sealer.clone(), new.clone(), act.clone());
                Box::pin(async move {
                    // Locked: of two that come at once the second keeps the secret that the first has given.
                    let found = session::Entity::find_by_id(key)
                        .filter(session::COLUMN.organization_id.eq(organization.clone()))
                        .lock(LockType::NoKeyUpdate)
                        .one(txn)
                        .await?;
                    let Some(row) = found else { return Ok(None) };
                    let Some(stored) = &row.receiver_secret else { return Ok(None) };
                    let says = until.0.to_string();
                    match said_before(txn, &organization, once.as_ref(), &says, now).await? {
                        None => {}
                        Some(before) => {
                            return Ok(Some(before.map(|says| moment(&says).unwrap_or(until))));
                        }
                    }
                    let part = [Part::from(row.id.as_str())];
                    // What does not open opens nothing, now as later.
                    let previous = sealer
                        .open(SECRET, &part, stored)
                        .ok()
                        .filter(|_| now < until)
                        .map(|secret| sealer.seal(PREVIOUS, &part, &secret));
                    let change = session::ActiveModel {
                        id: Unchanged(row.id.clone()),
                        previous_receiver_until: Set(previous.as_ref().map(|_| until)),
                        previous_receiver_secret: Set(previous),
                        receiver_secret: Set(Some(new)),
                        updated_at: Set(now),
                        ..Default::default()
                    };
                    change.update(txn).await?;
                    let what = (act.action, row.session_id.as_str());
                    audit::write(txn, &organization, &act.by, now, what, &act.detail).await?;
                    Ok(Some(Made::New(until)))
                })
            })
            .await
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

/// Whether another session of the organization than `key` is called so where it runs.
pub(super) async fn is_taken(
    db: &impl ConnectionTrait,
    organization: &OrganizationId,
    key: &SessionKey,
    vps_session_id: Option<&str>,
) -> Result<bool, DbErr> {
    let Some(id) = vps_session_id else { return Ok(false) };
    let found = session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(session::COLUMN.vps_session_id.eq(id))
        .filter(session::COLUMN.id.ne(key.clone()))
        .one(db)
        .await?;
    Ok(found.is_some())
}

/// Since when a session is called so where it runs: as before, if it is called so already.
pub(super) async fn claimed_at(
    db: &impl ConnectionTrait,
    organization: &OrganizationId,
    key: &SessionKey,
    vps_session_id: Option<&str>,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, DbErr> {
    let Some(id) = vps_session_id else { return Ok(None) };
    let found = session::Entity::find_by_id(key.clone())
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(session::COLUMN.vps_session_id.eq(id))
        .one(db)
        .await?;
    Ok(found.and_then(|row| row.vps_claimed_at).or(Some(now)))
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
