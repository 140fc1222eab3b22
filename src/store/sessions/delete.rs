//! Deleting sessions: at once for everybody who looks, and a few rows at a time on the disk.
//!
//! Hundreds of thousands of rows may be a session's. One statement that deletes them keeps all others on SQLite from writing
//! for as long as it takes, and is broken off for that. So a session that is deleted is marked: from then on nobody finds it,
//! nobody owns it, and what it was called is free. What is its own goes after that in bites, as what is old does, and its
//! row last. Whoever deletes waits for that a moment, which is enough for most sessions; the rest is seen to in the
//! background (`maintenance/`), also after a restart.

use std::time::Duration;

use entity::{
    UnixMillis, campaign,
    id::{OrganizationId, ParseIdError, SessionKey},
    kind::AuditAction,
    lease,
    meta::account,
    session,
    state::{DesiredState, SessionStatus},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait as _,
    QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use tokio::time::Instant;

use super::{Sessions, is_there};
use crate::{
    store::{
        Error, audit, organizations,
        retention::{Bite, Table},
        webhooks::announce_session,
        writer::Patience,
    },
    webhook::EventType,
};

/// How long whoever deletes a session waits until all of it is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a session may have very much of, in the order in which it goes. With its row goes what it has little of.
const MUCH: [Table; 5] = [
    Table::Conversations,
    Table::Messages,
    Table::MessageStatuses,
    Table::EarlyAcks,
    Table::Events,
];

/// The most rows of a bite, however quick those before it were.
const MOST: u64 = 100;

impl Sessions {
    /// Deletes a session with all its events and messages, and writes down that it is gone, and who has asked for
    /// it. Whether there was one. What is much of it may go later.
    pub async fn delete(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
    ) -> Result<bool, Error> {
        let (lane, organization, session) = (key.to_string(), organization.clone(), key.clone());
        let now = self.store.clock().now();
        let known = self.store.writer().known().clone();
        let touched = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, key) = (organization.clone(), session.clone());
                let known = known.clone();
                Box::pin(async move {
                    // Before the session's row, as whoever records an event does.
                    organizations::lock(txn, &organization).await?;
                    let found = session::Entity::find_by_id(key)
                        .filter(session::COLUMN.organization_id.eq(organization))
                        .filter(is_there())
                        .one(txn)
                        .await?;
                    let Some(row) = found else { return Ok(None) };
                    let kind = EventType::SessionDeleted;
                    let touched = announce_session(txn, &known, now, &row, kind).await?;
                    let asked = (AuditAction::SessionDeletionAsked, row.created_at);
                    let done = (AuditAction::SessionDeleted, row.session_id.as_str());
                    audit::write_done(txn, &row.organization_id, asked, now, done).await?;
                    hide(txn, &row.id, now).await?;
                    Ok(Some(touched))
                })
            })
            .await?;
        let Some(touched) = touched else { return Ok(false) };
        self.store.webhooks().touch(touched);
        let until = Instant::now() + PATIENCE;
        if let Err(error) = self.clear(key, || Instant::now() < until).await {
            // It is gone for all who look.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session.key = %key,
                "What a deleted session has left could not be deleted; trying again later"
            );
        }
        Ok(true)
    }

    /// Sessions that were deleted and have left something, the oldest first.
    pub async fn deleted(&self) -> Result<Vec<SessionKey>, Error> {
        let keys = session::Entity::find()
            .select_only()
            .column(session::Column::Id)
            .filter(session::COLUMN.deleted_at.is_not_null())
            .order_by_asc(session::COLUMN.deleted_at)
            .order_by_asc(session::COLUMN.id)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(keys)
    }

    /// Deletes what a deleted session has left, for as long as it is to go on. Whether nothing is left.
    pub async fn clear(
        &self,
        key: &SessionKey,
        goes_on: impl Fn() -> bool + Send + Sync,
    ) -> Result<bool, Error> {
        // It is nobody's session any more.
        let store = self.store.without_lease();
        let retention = store.retention();
        for table in MUCH {
            let mut bite = Bite::of(table).at_most(MOST);
            loop {
                retention.give_way(&goes_on).await;
                if !goes_on() {
                    return Ok(false);
                }
                let Some(chunk) = retention.clear(table, key, bite.rows()).await? else { break };
                bite.learn(chunk);
                // At least half of the time is for others.
                tokio::time::sleep(chunk.held.min(Duration::from_secs(1))).await;
            }
        }
        let (lane, key) = (key.to_string(), key.clone());
        let row = store.writer().run(&lane, Patience::Fail, move |txn| {
            let row = session::Entity::delete_many()
                .filter(session::COLUMN.id.eq(key.clone()))
                .filter(session::COLUMN.deleted_at.is_not_null());
            Box::pin(async move { row.exec(txn).await.map(drop) })
        });
        row.await?;
        Ok(true)
    }
}

/// From now on nobody finds this session, and others may be called as it was.
async fn hide(txn: &DatabaseTransaction, key: &SessionKey, now: UnixMillis) -> Result<(), DbErr> {
    // As when its row goes: those that have handed over to it are what they were before.
    session::Entity::update_many()
        .col_expr(session::Column::MigratedTo, Expr::value(None::<SessionKey>))
        .filter(session::COLUMN.migrated_to.eq(key.clone()))
        .exec(txn)
        .await?;
    // Whoever owned it writes nothing for it any more.
    lease::Entity::delete_many()
        .filter(lease::COLUMN.session_key.eq(key.clone()))
        .exec(txn)
        .await?;
    // Nor is it an account's of Meta's, or a campaign's, any more.
    account::Entity::update_many()
        .col_expr(account::Column::SessionKey, Expr::value(None::<SessionKey>))
        .col_expr(account::Column::Version, Expr::col(account::Column::Version).add(1))
        .filter(account::COLUMN.session_key.eq(key.clone()))
        .exec(txn)
        .await?;
    campaign::Entity::update_many()
        .col_expr(campaign::Column::SessionKey, Expr::value(None::<SessionKey>))
        .filter(campaign::COLUMN.session_key.eq(key.clone()))
        .exec(txn)
        .await?;
    // Nobody looks for it, and no two are the same.
    let name =
        key.as_str().parse().map_err(|error: ParseIdError| DbErr::Custom(error.to_string()))?;
    session::Entity::update_many()
        .set(session::ActiveModel {
            session_id: Set(name),
            user_id: Set(None),
            phone_number: Set(None),
            push_name: Set(None),
            account_jid: Set(None),
            account_lid: Set(None),
            desired_state: Set(DesiredState::Stopped),
            status: Set(SessionStatus::SessionNotConnected),
            message: Set(None),
            reconnecting: Set(false),
            next_attempt_at: Set(None),
            qr: Set(None),
            qr_expires_at: Set(None),
            ai_config: Set(None),
            migrated_to: Set(None),
            session_data: Set(None),
            vps_session_id: Set(None),
            vps_claimed_at: Set(None),
            receiver_secret: Set(None),
            previous_receiver_secret: Set(None),
            deleted_at: Set(Some(now)),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(session::COLUMN.id.eq(key.clone()))
        .exec(txn)
        .await
        .map(drop)
}
