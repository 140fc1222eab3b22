//! Making sessions: as many as an organization may have, and once for each idempotency key.

use std::collections::BTreeSet;

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId, SessionId, SessionKey},
    kind::AuditAction,
    organization, session,
    state::{DesiredState, Origin, SessionStatus},
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait, QueryFilter,
    TryInsertResult,
};
use serde_json::json;

use super::{
    Migrated, Sessions,
    external::{Receiver, SealedReceiver, SessionData, is_taken},
    is_there,
};
use crate::{
    store::{
        Error, Made,
        audit::{self, By},
        idempotency::{Key, made_before, release},
        organizations,
        secrets::seal_data,
        webhooks::{Known, announce_session},
        writer::Patience,
    },
    webhook::EventType,
};

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub session_id: SessionId,
    pub user_id: Option<String>,
    /// Digits only.
    pub phone_number: Option<String>,
    pub desired_state: DesiredState,
    pub is_notification: Option<bool>,
    /// JSON text.
    pub ai_config: Option<String>,
    /// Of a session that runs elsewhere.
    pub external: Option<NewExternal>,
}

/// What a session that runs elsewhere has besides.
#[derive(Clone, Debug)]
pub struct NewExternal {
    pub data: Option<SessionData>,
    pub receiver: Receiver,
}

/// What became of a session to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    New(Box<session::Model>),
    /// The organization has a session of this id already.
    Exists,
    /// Another session of the organization is called the same where it runs.
    VpsTaken,
    /// The organization has as many as it may have.
    TooMany {
        limit: i64,
    },
    /// The same request has made it before.
    Before(Box<session::Model>),
    /// The key was used for another request.
    KeyReused,
    /// The same request has made it before, and it is gone.
    Gone,
}

/// How many sessions an organization may have, if it has as many. Its row is locked, so that two
/// daemons do not both make the last one.
pub(super) async fn is_full(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
) -> Result<Option<i64>, DbErr> {
    let left = places_left(txn, organization).await?;
    Ok(left.filter(|(left, _)| *left <= 0).map(|(_, limit)| limit))
}

/// How many more sessions an organization may have, and how many in all; none where there is no limit. Its row is locked
/// then. Counted are those that lists show: sessions that have handed over are none that it can use, unless they are at
/// work again.
pub(in crate::store) async fn places_left(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
) -> Result<Option<(i64, i64)>, DbErr> {
    let row = organization::Entity::find_by_id(organization.clone()).one(txn).await?;
    if row.is_none_or(|row| row.max_sessions.is_none()) {
        return Ok(None);
    }
    let limit = organizations::lock(txn, organization).await?.and_then(|row| row.max_sessions);
    let Some(limit) = limit else { return Ok(None) };
    let sessions = session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(Migrated::Without.condition())
        .count(txn)
        .await?;
    let sessions = i64::try_from(sessions).unwrap_or(i64::MAX);
    Ok(Some((limit.saturating_sub(sessions), limit)))
}

/// Writes a session's row, unless its id is taken or it is called as another of the organization's where it runs.
pub(in crate::store) async fn insert(
    txn: &DatabaseTransaction,
    known: &Known,
    row: &session::Model,
    by: &By,
) -> Result<(Created, BTreeSet<EndpointId>), DbErr> {
    let (now, owner) = (row.created_at, &row.organization_id);
    if is_taken(txn, owner, &row.id, row.vps_session_id.as_deref()).await? {
        return Ok((Created::VpsTaken, BTreeSet::new()));
    }
    let inserted = session::Entity::insert(session::ActiveModel::from(row.clone()))
        .on_conflict_do_nothing_on([session::Column::OrganizationId, session::Column::SessionId])
        .exec(txn)
        .await?;
    match inserted {
        TryInsertResult::Inserted(_) => {
            let kind = EventType::SessionCreated;
            let touched = announce_session(txn, known, now, row, kind).await?;
            let what = (AuditAction::SessionCreated, row.session_id.as_str());
            let detail = json!({
                "userId": row.user_id, "desiredState": row.desired_state, "origin": row.origin,
            });
            audit::write(txn, owner, by, now, what, &detail).await?;
            Ok((Created::New(Box::new(row.clone())), touched))
        }
        TryInsertResult::Conflicted | TryInsertResult::Empty => {
            Ok((Created::Exists, BTreeSet::new()))
        }
    }
}

impl Sessions {
    /// Makes a session, unless its id is taken; once for each key.
    pub async fn create(
        &self,
        organization: &OrganizationId,
        new: NewSession,
        key: Option<Key>,
        by: By,
    ) -> Result<Created, Error> {
        let row = self.new_row(organization, new).await?;
        let now = row.created_at;
        let known = self.store.writer().known().clone();
        let created = self
            .store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (row, known) = (row.clone(), known.clone());
                let (key, by) = (key.clone(), by.clone());
                Box::pin(async move {
                    let nobody = BTreeSet::new();
                    let owner = &row.organization_id;
                    let of = |id| {
                        session::Entity::find()
                            .filter(session::COLUMN.organization_id.eq(owner.clone()))
                            .filter(session::COLUMN.id.eq(id))
                            .filter(is_there())
                    };
                    let (key, id) = (key.as_ref(), row.id.as_str());
                    match made_before(txn, owner, key, id, now, of).await? {
                        None => {}
                        Some(Made::New(row) | Made::Before(row)) => {
                            return Ok((Created::Before(Box::new(row)), nobody));
                        }
                        Some(Made::KeyReused) => return Ok((Created::KeyReused, nobody)),
                        Some(Made::Gone) => return Ok((Created::Gone, nobody)),
                    }
                    if let Some(limit) = is_full(txn, owner).await? {
                        release(txn, owner, id).await?;
                        return Ok((Created::TooMany { limit }, nobody));
                    }
                    let (created, touched) = insert(txn, &known, &row, &by).await?;
                    if !matches!(created, Created::New(_)) {
                        release(txn, owner, id).await?;
                    }
                    Ok((created, touched))
                })
            })
            .await;
        let (created, touched) = match created {
            // Another daemon has just given another session that name.
            Err(error) if error.is_unique_violation() => return Ok(Created::VpsTaken),
            created => created?,
        };
        self.store.webhooks().touch(touched);
        Ok(match created {
            Created::New(row) => Created::New(Box::new(self.store.opened(*row).await?)),
            Created::Before(row) => Created::Before(Box::new(self.store.opened(*row).await?)),
            created => created,
        })
    }

    pub(super) async fn new_row(
        &self,
        organization: &OrganizationId,
        new: NewSession,
    ) -> Result<session::Model, Error> {
        let now = self.store.clock().now();
        let key = SessionKey::new(now, rand::random());
        let origin = if new.external.is_some() { Origin::External } else { Origin::Embedded };
        let (data, receiver) = match new.external {
            None => (None, None),
            Some(NewExternal { data, receiver }) => {
                (data, Some(self.sealed(organization, &key, &receiver).await?))
            }
        };
        let (receiver_auth, receiver_secret) = match receiver {
            None => (None, None),
            Some(SealedReceiver { auth, secret }) => (Some(auth), secret),
        };
        let (session_data, vps_session_id) = match data {
            None => (None, None),
            Some(data) => {
                let sealer = self.store.sealer(organization, Patience::Fail).await?;
                (Some(seal_data(&sealer, &key, &data.json)), data.vps_session_id)
            }
        };
        Ok(session::Model {
            user_id: new.user_id,
            // Of one that runs here its account is known as soon as it is connected.
            given_phone_number: new.phone_number.clone().filter(|_| origin == Origin::External),
            phone_number: new.phone_number,
            desired_state: new.desired_state,
            is_notification: new.is_notification,
            ai_config: new.ai_config,
            session_data,
            vps_claimed_at: vps_session_id.as_ref().map(|_| now),
            vps_session_id,
            receiver_auth,
            receiver_secret,
            ..blank(organization, key, new.session_id, origin, now)
        })
    }
}

/// The session of a phone number at Meta's: it has no socket, ever.
pub(in crate::store) fn cloud_row(
    organization: &OrganizationId,
    session_id: SessionId,
    message: &str,
    now: UnixMillis,
) -> session::Model {
    let key = SessionKey::new(now, rand::random());
    let row = blank(organization, key, session_id, Origin::Cloud, now);
    session::Model { message: Some(message.to_owned()), ..row }
}

/// A session of which nothing is known but what it is called.
fn blank(
    organization: &OrganizationId,
    key: SessionKey,
    session_id: SessionId,
    origin: Origin,
    now: UnixMillis,
) -> session::Model {
    session::Model {
        id: key,
        organization_id: organization.clone(),
        session_id,
        origin,
        user_id: None,
        phone_number: None,
        given_phone_number: None,
        push_name: None,
        account_jid: None,
        account_lid: None,
        device_id: None,
        deleted_at: None,
        desired_state: DesiredState::Stopped,
        status: SessionStatus::SessionNotConnected,
        status_since: now,
        message: None,
        reconnecting: false,
        next_attempt_at: None,
        loading_percent: None,
        qr: None,
        qr_issued_at: None,
        qr_expires_at: None,
        qr_sequence: 0,
        last_qr_at: None,
        pairing_attempts: 0,
        pairing_error: None,
        pairing_error_at: None,
        account_changed_at: None,
        previous_phone_number: None,
        connected_at: None,
        last_active_at: None,
        undecryptable: 0,
        last_disconnect_reason: None,
        last_disconnect_code: None,
        last_disconnect_at: None,
        banned_until: None,
        last_dial_at: None,
        dial_failures: 0,
        trouble: None,
        trouble_count: 0,
        throttled_until: None,
        qr_rounds: 0,
        pairing_code_until: None,
        is_notification: None,
        ai_config: None,
        migrated_to: None,
        migrated_at: None,
        session_data: None,
        vps_session_id: None,
        vps_claimed_at: None,
        receiver_auth: None,
        receiver_secret: None,
        previous_receiver_secret: None,
        previous_receiver_until: None,
        observed_at: None,
        observed_mark: None,
        generation: 0,
        created_at: now,
        updated_at: now,
    }
}
