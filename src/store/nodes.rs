//! Which daemons live.
//!
//! A node's row is its life: it says "until when", and the node moves that on while it lives, in one
//! statement whatever it owns. Once that time has passed, whoever has seen the row unchanged for as long may delete it,
//! and from then on what the node owned is free. It cannot be moved on after that time: a row that is past it is
//! dead even if nobody has deleted it yet, so "it lives" and "it was buried" exclude each other on
//! the lock of one row.
//!
//! # Whose clock
//!
//! On PostgreSQL every time in these rows is the database's own, written and compared by it: what
//! the nodes' clocks say is of no importance. A node measures for itself how long ago it began its
//! last renewal, on a clock that only goes forward; the database wrote its time later than that, so
//! a node that stops by its own measure stops before its row runs out. What is left between the two
//! is a third of the time, for clocks that run at different speeds, for a database that fails
//! over to a machine whose clock is ahead, and for the stopping itself. SQLite is used by one
//! process, whose clock it is; so are databases in tests, where time is moved by hand.
//!
//! The database's clock may be set forward. A node that renews then finds itself dead, stops and joins again. Until it
//! does, nobody buries it for what its row says: only for what its row has said for the time of a lease, by the clock of
//! whoever looks (`crate::session::ownership`).

use std::time::Duration;

use entity::{UnixMillis, id::NodeId, node};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    ExprTrait, QueryFilter, QueryResult, QuerySelect,
    sea_query::{Expr, Query},
};

use super::{Error, Store, writer::Patience};

/// A life to begin.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// Names the state directory, whose lock is held.
    pub home: String,
    /// For people.
    pub name: String,
    /// How long it is taken to live without saying so again; none when nobody else can be there, and
    /// whoever is written down as living is dead.
    pub lease: Option<Duration>,
}

/// A daemon that lives, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub node: NodeId,
    /// By the time by which leases count.
    pub expires_at: UnixMillis,
    /// How long that was away when it was looked at.
    pub left: Duration,
}

/// Queries over nodes.
#[derive(Clone, Debug)]
pub struct Nodes {
    store: Store,
}

impl Nodes {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Begins a life, and ends those that are known to be over: who lived in the same state directory.
    pub async fn join(&self, new: NewNode) -> Result<NodeId, Error> {
        let id = NodeId::new(self.store.clock().now(), rand::random());
        let node = id.clone();
        let time = time(&self.store);
        self.store
            .writer()
            .run_apart("node", Patience::Fail, move |txn| {
                let (new, id, time) = (new.clone(), node.clone(), time.clone());
                Box::pin(async move { join(txn, id, new, time).await })
            })
            .await?;
        Ok(id)
    }

    /// Goes on living for `lease` from now. False when the node is dead: its sessions are, or may
    /// be at any moment, somebody else's.
    pub async fn renew(&self, id: &NodeId, lease: Duration) -> Result<bool, Error> {
        let (id, time) = (id.clone(), time(&self.store));
        self.store
            .writer()
            .run_apart("node", Patience::Fail, move |txn| {
                let (id, time) = (id.clone(), time.clone());
                Box::pin(async move {
                    let renewed = node::Entity::update_many()
                        .col_expr(node::Column::ExpiresAt, time.clone().add(millis(lease)))
                        .filter(node::COLUMN.id.eq(id))
                        .filter(Expr::col(node::Column::ExpiresAt).gt(time))
                        .exec(txn)
                        .await?;
                    Ok(renewed.rows_affected > 0)
                })
            })
            .await
    }

    /// All nodes, as their rows say.
    pub async fn lives(&self) -> Result<Vec<Life>, Error> {
        let left = Expr::col(node::Column::ExpiresAt).sub(time(&self.store));
        let rows: Vec<(NodeId, UnixMillis, i64)> = node::Entity::find()
            .select_only()
            .column(node::Column::Id)
            .column(node::Column::ExpiresAt)
            .column_as(left, "time_left")
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let life = |(node, expires_at, left): (_, _, i64)| Life {
            node,
            expires_at,
            left: Duration::from_millis(u64::try_from(left).unwrap_or(0)),
        };
        Ok(rows.into_iter().map(life).collect())
    }

    /// Ends those of these lives that were not moved on in time, and says whose they were, by their names. They are what was
    /// seen for the time of a lease: the time in a row alone proves nothing.
    pub async fn bury(&self, seen: Vec<Life>) -> Result<Vec<(NodeId, String)>, Error> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let time = time(&self.store);
        self.store
            .writer()
            .run_apart("node", Patience::Fail, move |txn| {
                let (time, seen) = (time.clone(), seen.clone());
                Box::pin(async move {
                    let as_seen = seen.into_iter().fold(Condition::any(), |any, life| {
                        let same = node::COLUMN.id.eq(life.node);
                        any.add(same.and(node::COLUMN.expires_at.eq(life.expires_at)))
                    });
                    let dead = Query::delete()
                        .from_table(node::Entity)
                        .cond_where(
                            Condition::all()
                                .add(as_seen)
                                .add(Expr::col(node::Column::ExpiresAt).lte(time)),
                        )
                        .returning(
                            Query::returning().columns([node::Column::Id, node::Column::Name]),
                        )
                        .to_owned();
                    let rows = txn.query_all(&dead).await?;
                    let both =
                        |row: QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
                    rows.into_iter().map(both).collect()
                })
            })
            .await
    }

    /// Ends all lives but this one.
    pub async fn outlive(&self, id: &NodeId) -> Result<(), Error> {
        let id = id.clone();
        self.store
            .writer()
            .run_apart("node", Patience::Fail, move |txn| {
                let id = id.clone();
                Box::pin(async move {
                    let others = node::Entity::delete_many().filter(node::COLUMN.id.ne(id));
                    others.exec(txn).await.map(drop)
                })
            })
            .await
    }

    /// Ends a life in good order: all it owned is free at once.
    pub async fn leave(&self, id: &NodeId) -> Result<(), Error> {
        let id = id.clone();
        self.store
            .writer()
            .run_apart("node", Patience::Fail, move |txn| {
                let id = id.clone();
                Box::pin(async move { node::Entity::delete_by_id(id).exec(txn).await.map(drop) })
            })
            .await
    }
}

async fn join(
    txn: &DatabaseTransaction,
    id: NodeId,
    new: NewNode,
    time: Expr,
) -> Result<(), DbErr> {
    let mut over = node::Entity::delete_many();
    if new.lease.is_some() {
        over = over.filter(node::COLUMN.home.eq(new.home.as_str()));
    }
    over.exec(txn).await?;
    let expires_at = match new.lease {
        Some(lease) => time.clone().add(millis(lease)),
        None => Expr::val(UnixMillis(i64::MAX)),
    };
    let mut insert = Query::insert();
    insert.into_table(node::Entity).columns([
        node::Column::Id,
        node::Column::Home,
        node::Column::Name,
        node::Column::JoinedAt,
        node::Column::ExpiresAt,
    ]);
    insert
        .values([Expr::val(id), Expr::val(new.home), Expr::val(new.name), time, expires_at])
        .map_err(|error| DbErr::Custom(error.to_string()))?;
    txn.execute(&insert).await.map(drop)
}

/// The time by which leases count.
pub(super) fn time(store: &Store) -> Expr {
    if is_databases(store) { Expr::cust(DATABASES) } else { Expr::val(store.clock().now().0) }
}

/// The same, for a statement that is a text.
pub(super) fn time_in_sql(store: &Store) -> String {
    if is_databases(store) { DATABASES.to_owned() } else { store.clock().now().0.to_string() }
}

/// Not the transaction's beginning, which may be long past when a lock was waited for.
const DATABASES: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

fn is_databases(store: &Store) -> bool {
    let database = store.reader().get_database_backend();
    database == DbBackend::Postgres && !store.clock().is_manual()
}

/// As a statement has it.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
