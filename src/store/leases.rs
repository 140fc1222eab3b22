//! Who runs which session.
//!
//! A session's lease is a row: the owner, and an *epoch* that grows with each change of owner. What
//! the owner writes for the session carries the epoch ([`Store::under`](super::Store::under)), and
//! `fence.rs` refuses what carries an old one. The owner is a node (`nodes.rs`); a lease whose owner
//! has no row among the nodes is free, and so is one that was given back.
//!
//! # Taking over
//!
//! [`Leases::claim`] locks the rows, *then* looks in a new statement whether the owners live, then
//! writes. An owner that came in between is seen: its own row was there before it could own
//! anything. Rows that somebody else has locked are left alone: by a claim of another node, which
//! wins, or by a late write of a dead owner, whose transaction the database ends soon.

use std::collections::{BTreeSet, HashSet};

use entity::{
    UnixMillis,
    id::{EndpointId, NodeId, SessionKey},
    lease, node, session,
    state::{DesiredState, Origin},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    JoinType, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType, OnConflict, Query},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Error, Store,
    nodes::time,
    sessions::LIVE,
    webhooks::{About, Known, announce},
    writer::Patience,
};
use crate::webhook::EventType;

/// The right to write for a session, held by its owner's code.
#[derive(Clone, Debug)]
pub struct Lease {
    pub session: SessionKey,
    pub epoch: i64,
    /// Cancelled when a write was refused: somebody else owns the session.
    pub lost: CancellationToken,
}

impl Lease {
    /// The lease of `session` under `epoch`, with nobody told yet of its loss.
    pub fn new(session: SessionKey, epoch: i64) -> Self {
        Self { session, epoch, lost: CancellationToken::new() }
    }
}

/// How sessions are spread, as one node sees it.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Nodes that live.
    pub nodes: u64,
    /// Sessions owned by nodes that live.
    pub held: u64,
    /// Sessions owned by the node that asks.
    pub own: u64,
}

/// Sessions claimed in one transaction at most.
pub(super) const CHUNK: usize = 500;

/// Queries over leases.
#[derive(Clone, Debug)]
pub struct Leases {
    pub(super) store: Store,
}

impl Leases {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes `node` the owner of those of `sessions` that are free or its own already, and answers
    /// their leases. A session that is not among them has another owner, or is being claimed.
    pub async fn claim(
        &self,
        node: &NodeId,
        sessions: Vec<SessionKey>,
    ) -> Result<Vec<Lease>, Error> {
        let mut leases = Vec::new();
        for some in sessions.chunks(CHUNK) {
            // One session: in its own lane, after all that an earlier owner here still writes.
            let lane = if let [only] = some { only.to_string() } else { "claim".to_owned() };
            let (node, some, time) = (node.clone(), some.to_vec(), time(&self.store));
            let (known, now) = (self.store.writer().known().clone(), self.store.clock().now());
            let (claimed, touched) = self
                .store
                .writer()
                .run(&lane, Patience::Fail, move |txn| {
                    let (node, some, time) = (node.clone(), some.clone(), time.clone());
                    let known = known.clone();
                    Box::pin(async move {
                        let own = owned(txn, &node, &some).await?;
                        let free = lock_free(txn, &some).await?;
                        let home = home(txn, &node).await?;
                        let moved = moved(txn, &free, home.as_deref()).await?;
                        let taken = lease::Entity::update_many()
                            .col_expr(lease::Column::NodeId, Expr::value(node))
                            .col_expr(
                                lease::Column::Epoch,
                                Expr::col(lease::Column::Epoch).add(1_i64),
                            )
                            .col_expr(lease::Column::TakenAt, time)
                            .col_expr(lease::Column::Home, Expr::value(home))
                            .filter(lease::COLUMN.session_key.is_in(free))
                            .exec_with_returning(txn)
                            .await?;
                        let touched = announce_migrated(txn, &known, now, moved).await?;
                        Ok((own.into_iter().chain(taken).collect::<Vec<_>>(), touched))
                    })
                })
                .await?;
            self.store.webhooks().touch(touched);
            leases.extend(claimed.into_iter().map(|row| Lease::new(row.session_key, row.epoch)));
        }
        Ok(leases)
    }

    /// Gives a session back, if it is still held under this lease.
    ///
    /// Waits for a database that is away: nobody else could run the session.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let (session, epoch) = (lease.session.clone(), lease.epoch);
        self.store
            .writer()
            .run(lease.session.as_str(), Patience::Wait, move |txn| {
                let session = session.clone();
                Box::pin(async move {
                    lease::Entity::update_many()
                        .col_expr(lease::Column::NodeId, Expr::value(None::<NodeId>))
                        .filter(lease::COLUMN.session_key.eq(session))
                        .filter(lease::COLUMN.epoch.eq(epoch))
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }

    /// Which living node owns a session.
    pub async fn owner(&self, session: &SessionKey) -> Result<Option<node::Model>, Error> {
        let owner = node::Entity::find()
            .join(JoinType::InnerJoin, owned_by())
            .filter(lease::COLUMN.session_key.eq(session.clone()))
            .one(self.store.reader())
            .await?;
        Ok(owner)
    }

    /// Counts nodes, and what they own.
    pub async fn survey(&self, node: &NodeId) -> Result<Survey, Error> {
        let held: Vec<(NodeId, Option<SessionKey>)> = node::Entity::find()
            .select_only()
            .column(node::Column::Id)
            .column(lease::Column::SessionKey)
            .join(JoinType::LeftJoin, owned_by())
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let nodes: HashSet<&NodeId> = held.iter().map(|(node, _)| node).collect();
        let owned = || held.iter().filter(|(_, session)| session.is_some());
        Ok(Survey {
            nodes: nodes.len() as u64,
            held: owned().count() as u64,
            own: owned().filter(|(owner, _)| owner == node).count() as u64,
        })
    }

    /// Embedded sessions that nobody owns and somebody ought to look at: they shall run, or their
    /// status claims a socket that went with its owner. The most recently active first.
    pub async fn neglected(&self) -> Result<Vec<session::Model>, Error> {
        let to_be_seen_to = Condition::any()
            .add(session::COLUMN.desired_state.eq(DesiredState::Running))
            .add(session::COLUMN.status.is_in(LIVE));
        let mut rows = session::Entity::find()
            .filter(session::COLUMN.origin.eq(Origin::Embedded))
            .filter(to_be_seen_to)
            .filter(session::COLUMN.id.not_in_subquery(all_owned()))
            .order_by_asc(session::COLUMN.created_at)
            .order_by_asc(session::COLUMN.id)
            .all(self.store.reader())
            .await?;
        // Sorted here: the databases disagree on where a missing time comes.
        rows.sort_by_key(|row| std::cmp::Reverse(row.last_active_at));
        Ok(rows)
    }

    /// Sessions of a node that shall not run any more.
    pub async fn unwanted(&self, node: &NodeId) -> Result<Vec<SessionKey>, Error> {
        let keys = lease::Entity::find()
            .select_only()
            .column(lease::Column::SessionKey)
            .join(JoinType::InnerJoin, of_session())
            .filter(lease::COLUMN.node_id.eq(node.clone()))
            .filter(session::COLUMN.desired_state.eq(DesiredState::Stopped))
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(keys)
    }
}

/// From a node to the leases that it owns.
fn owned_by() -> sea_orm::RelationDef {
    node::Entity::belongs_to(lease::Entity).from(node::Column::Id).to(lease::Column::NodeId).into()
}

/// From a lease to its session.
pub(super) fn of_session() -> sea_orm::RelationDef {
    lease::Entity::belongs_to(session::Entity)
        .from(lease::Column::SessionKey)
        .to(session::Column::Id)
        .into()
}

/// The sessions that living nodes own.
fn all_owned() -> sea_orm::sea_query::SelectStatement {
    Query::select()
        .column((lease::Entity, lease::Column::SessionKey))
        .from(lease::Entity)
        .inner_join(
            node::Entity,
            Expr::col((node::Entity, node::Column::Id))
                .eq(Expr::col((lease::Entity, lease::Column::NodeId))),
        )
        .to_owned()
}

/// Those of `sessions` that living nodes own, at this moment.
pub(super) async fn owned_among<C: ConnectionTrait>(
    db: &C,
    sessions: Vec<SessionKey>,
) -> Result<HashSet<SessionKey>, DbErr> {
    let owned: Vec<SessionKey> = node::Entity::find()
        .select_only()
        .column(lease::Column::SessionKey)
        .join(JoinType::InnerJoin, owned_by())
        .filter(lease::COLUMN.session_key.is_in(sessions))
        .into_tuple()
        .all(db)
        .await?;
    Ok(owned.into_iter().collect())
}

/// Those of `sessions` that `node` owns already.
async fn owned(
    txn: &DatabaseTransaction,
    node: &NodeId,
    sessions: &[SessionKey],
) -> Result<Vec<lease::Model>, DbErr> {
    lease::Entity::find()
        .filter(lease::COLUMN.session_key.is_in(sessions.iter().cloned()))
        .filter(lease::COLUMN.node_id.eq(node.clone()))
        .all(txn)
        .await
}

/// The state directory of a node; none when it is dead, and will find out.
async fn home(txn: &DatabaseTransaction, node: &NodeId) -> Result<Option<String>, DbErr> {
    Ok(node::Entity::find_by_id(node.clone()).one(txn).await?.map(|row| row.home))
}

/// Those of `sessions` that a daemon with another state directory owned last.
async fn moved(
    txn: &DatabaseTransaction,
    sessions: &[SessionKey],
    home: Option<&str>,
) -> Result<Vec<session::Model>, DbErr> {
    let Some(home) = home else { return Ok(Vec::new()) };
    let mut rows = session::Entity::find()
        .join(JoinType::InnerJoin, of_session().rev())
        .filter(session::COLUMN.id.is_in(sessions.iter().cloned()))
        .filter(lease::COLUMN.home.ne(home))
        .all(txn)
        .await?;
    // In one order always: their organizations' rows stay locked until the commit.
    rows.sort_by(|a, b| a.organization_id.cmp(&b.organization_id));
    Ok(rows)
}

async fn announce_migrated(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    sessions: Vec<session::Model>,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let mut touched = BTreeSet::new();
    for row in sessions {
        let data = json!({
            "sessionId": row.session_id,
            "reason": "owner_changed",
            "message": "Another daemon runs the session from now on",
            "migratedTo": null,
            "phoneNumber": row.phone_number,
        });
        let kind = EventType::SessionMigrated;
        touched.extend(announce(txn, known, now, About::Session(&row), kind, &data).await?);
    }
    Ok(touched)
}

/// Locks those of `sessions` that nobody owns. They stay so until the transaction ends.
pub(super) async fn lock_free(
    txn: &DatabaseTransaction,
    sessions: &[SessionKey],
) -> Result<Vec<SessionKey>, DbErr> {
    // A session that was never run has no row yet.
    let missing = Query::select()
        .column(session::Column::Id)
        .expr(Expr::val(0_i64))
        .expr(Expr::val(0_i64))
        .from(session::Entity)
        .and_where(Expr::col(session::Column::Id).is_in(sessions.iter().cloned()))
        // What is deleted begins no new life.
        .and_where(Expr::col(session::Column::DeletedAt).is_null())
        .to_owned();
    let mut insert = Query::insert();
    insert
        .into_table(lease::Entity)
        .columns([lease::Column::SessionKey, lease::Column::Epoch, lease::Column::TakenAt])
        .on_conflict(OnConflict::column(lease::Column::SessionKey).do_nothing().to_owned());
    insert.select_from(missing).map_err(|error| DbErr::Custom(error.to_string()))?;
    txn.execute(&insert).await?;

    let locked = lease::Entity::find()
        .filter(lease::COLUMN.session_key.is_in(sessions.iter().cloned()))
        .order_by_asc(lease::COLUMN.session_key)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(txn)
        .await?;
    let owners: HashSet<NodeId> = locked.iter().filter_map(|row| row.node_id.clone()).collect();
    // A statement of its own: it sees whoever came to live before the rows were locked.
    let living: HashSet<NodeId> = node::Entity::find()
        .select_only()
        .column(node::Column::Id)
        .filter(node::COLUMN.id.is_in(owners))
        .into_tuple::<NodeId>()
        .all(txn)
        .await?
        .into_iter()
        .collect();
    let is_free = |row: &lease::Model| row.node_id.as_ref().is_none_or(|id| !living.contains(id));
    Ok(locked.into_iter().filter(is_free).map(|row| row.session_key).collect())
}
