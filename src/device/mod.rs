//! WhatsApp's own state of one linked device, kept in our database: the client library's storage
//! traits over [`Store`].
//!
//! One [`Backend`] is one device; the client is given one and asks it for everything. It writes
//! through the store's writer, in the lane of its session, so it takes part in the group commits and
//! its writes keep their order. It waits out a lost database instead of failing
//! ([`Patience::Wait`]): the client goes on as if a failed write had succeeded in too many places,
//! and stops saving the device row for good after ten failures.
//!
//! - `device_row.rs`: the device itself. `signal.rs`: identities, sessions, prekeys, sender keys.
//! - `app_sync.rs`: app state. `protocol.rs`: mappings, device lists, tokens, sent messages.
//! - `msg_secret.rs`: secrets of messages. `pending.rs`: messages between decryption and commit; it
//!   explains why they hardly ever touch the database. `noted.rs`: ratchets on their way to the database.
//!   `tasks.rs`: what the client is at meanwhile.
//!
//! The reference is `wacore::store::InMemoryBackend`; a property test drives both with the same
//! calls (`tests/it/device_differential.rs`, which also lists where we differ, and why).
//!
//! # Secrets
//!
//! `sealed.rs` lists the columns that hold secrets. A row of theirs is sealed where it is made and
//! opened where it is read, under its organization's key (`crate::vault`).

mod app_sync;
mod device_row;
mod msg_secret;
mod noted;
mod pending;
mod protocol;
mod sealed;
mod signal;
mod tasks;

use std::{fmt, sync::Arc};

use entity::id::SessionKey;
use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    IdenStatic, IntoActiveModel, Iterable, PrimaryKeyToColumn, QueryResult, QueryTrait, Select,
    Statement, sea_query::OnConflict,
};
use tokio::sync::OnceCell;
use wacore::store::error::StoreError;

use self::sealed::Sealed;
pub use self::{
    device_row::{create, erase, forget_signal_sessions, is_paired},
    sealed::seal_old_rows,
    tasks::{Tasks, Watched},
};
use crate::{
    store::{self, Patience, Store},
    vault::Sealer,
};

/// The client's storage error, unless said otherwise.
type Result<T, E = StoreError> = std::result::Result<T, E>;

/// How many values one statement may carry: SQLite's limit is 32,766, PostgreSQL's 65,535.
const BINDS: usize = 32_000;

/// The storage of one device, as the client wants it.
///
/// There must be one at a time: what it holds in memory (`pending.rs`, `noted.rs`) is the device's, too.
#[derive(Clone)]
pub struct Backend {
    store: Store,
    device_id: i32,
    session: SessionKey,
    /// The key of its session: all it writes goes to that key's lane.
    lane: Arc<str>,
    pending: Arc<pending::Buffer>,
    noted: Arc<noted::Noted>,
    tasks: Tasks,
    /// Set once it was needed.
    sealer: Arc<OnceCell<Sealer>>,
}

impl Backend {
    /// The storage of device `device_id`, which belongs to session `key`.
    pub fn new(store: Store, device_id: i32, key: &SessionKey) -> Self {
        Self {
            store,
            device_id,
            session: key.clone(),
            lane: key.as_str().into(),
            pending: Arc::default(),
            noted: Arc::default(),
            tasks: Tasks::default(),
            sealer: Arc::default(),
        }
    }

    /// Which device it is.
    pub fn device_id(&self) -> i32 {
        self.device_id
    }

    /// What the client does must be one of these tasks, as far as it reads messages.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn database(&self) -> DbBackend {
        self.store.reader().get_database_backend()
    }

    /// What seals and opens this device's secrets.
    async fn sealer(&self) -> Result<&Sealer> {
        let ask = async || {
            let _asking = Tasks::asking();
            let sealer = self.store.sealer_of(&self.session, Patience::Wait).await;
            // Deleted under our feet, with its session.
            sealer.map_err(failure)?.ok_or(StoreError::DeviceNotFound(self.device_id))
        };
        self.sealer.get_or_try_init(ask).await
    }

    /// Statements that insert rows with their secrets sealed, each replacing the one with the same
    /// key. No key twice, as with [`Backend::put`].
    async fn put_sealed<E>(
        &self,
        rows: impl IntoIterator<Item = E::Model>,
    ) -> Result<Vec<Statement>>
    where
        E: Sealed,
        E::Model: IntoActiveModel<E::ActiveModel>,
    {
        let sealer = self.sealer().await?;
        let rows = rows.into_iter();
        Ok(self.put(rows.map(|row| sealed::seal::<E>(sealer, row).into_active_model())))
    }

    /// Reads a row and opens its secret.
    async fn one_sealed<E>(&self, select: Select<E>) -> Result<Option<E::Model>>
    where
        E: Sealed,
        E::Model: Send + Sync,
    {
        let Some(row) = self.one(select).await? else { return Ok(None) };
        sealed::open::<E>(self.sealer().await?, row).map(Some)
    }

    /// Reads rows and opens their secrets.
    async fn all_sealed<E>(&self, select: Select<E>) -> Result<Vec<E::Model>>
    where
        E: Sealed,
        E::Model: Send + Sync,
    {
        let rows = self.all(select).await?;
        let sealer = self.sealer().await?;
        rows.into_iter().map(|row| sealed::open::<E>(sealer, row)).collect()
    }

    /// Runs a unit of work in the session's lane.
    async fn unit<T, F>(&self, unit: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        let _asking = Tasks::asking();
        self.store.writer().run(&self.lane, Patience::Wait, unit).await.map_err(failure)
    }

    /// Runs statements in one unit of work; returns how many rows they changed.
    async fn execute(&self, statements: Vec<Statement>) -> Result<u64> {
        if statements.is_empty() {
            return Ok(0);
        }
        let statements: Arc<[Statement]> = statements.into();
        self.unit(move |txn| {
            let statements = statements.clone();
            Box::pin(async move { run(txn, &statements).await })
        })
        .await
    }

    async fn one<E>(&self, select: Select<E>) -> Result<Option<E::Model>>
    where
        E: EntityTrait,
        E::Model: Send + Sync,
    {
        let _asking = Tasks::asking();
        self.store
            .read(Patience::Wait, |db| {
                let select = select.clone();
                Box::pin(async move { select.one(db).await })
            })
            .await
            .map_err(failure)
    }

    async fn all<E>(&self, select: Select<E>) -> Result<Vec<E::Model>>
    where
        E: EntityTrait,
        E::Model: Send + Sync,
    {
        let _asking = Tasks::asking();
        self.store
            .read(Patience::Wait, |db| {
                let select = select.clone();
                Box::pin(async move { select.all(db).await })
            })
            .await
            .map_err(failure)
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>> {
        let _asking = Tasks::asking();
        self.store
            .read(Patience::Wait, |db| {
                let statement = statement.clone();
                Box::pin(async move { db.query_all_raw(statement).await })
            })
            .await
            .map_err(failure)
    }

    /// Statements that insert rows, each replacing the one with the same key.
    ///
    /// No key twice: PostgreSQL does not update a row twice in one statement.
    fn put<A>(&self, rows: impl IntoIterator<Item = A>) -> Vec<Statement>
    where
        A: ActiveModelTrait,
    {
        upsert(self.database(), rows, &replacing::<A::Entity>())
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

async fn run(txn: &DatabaseTransaction, statements: &[Statement]) -> Result<u64, DbErr> {
    let mut changed = 0;
    for statement in statements {
        changed += txn.execute_raw(statement.clone()).await?.rows_affected();
    }
    Ok(changed)
}

/// On a row with the same key: take the new values, all of them.
fn replacing<E: EntityTrait>() -> OnConflict {
    let key: Vec<E::Column> = E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect();
    let is_key = |column: &E::Column| key.iter().any(|part| part.as_str() == column.as_str());
    let values: Vec<E::Column> = E::Column::iter().filter(|column| !is_key(column)).collect();
    OnConflict::columns(key).update_columns(values).to_owned()
}

/// Statements that insert rows, in as few as the databases' limits allow.
fn upsert<A>(
    database: DbBackend,
    rows: impl IntoIterator<Item = A>,
    conflict: &OnConflict,
) -> Vec<Statement>
where
    A: ActiveModelTrait,
{
    let columns = <A::Entity as EntityTrait>::Column::iter().count();
    let mut rows = rows.into_iter().peekable();
    let mut statements = Vec::new();
    while rows.peek().is_some() {
        let some: Vec<A> = rows.by_ref().take(BINDS / columns).collect();
        statements.push(A::Entity::insert_many(some).on_conflict(conflict.clone()).build(database));
    }
    statements
}

/// Text as both databases take it: identifiers come from strangers.
///
/// The same text always becomes the same text, so a key written so is found so.
fn text(text: &str) -> String {
    store::identifier(text)
}

/// What the client is told of a store's error.
fn failure(err: store::Error) -> StoreError {
    match err {
        store::Error::Unavailable(_) | store::Error::Stopped | store::Error::TooLong => {
            StoreError::Connection(Box::new(err))
        }
        // The client ends with its session's run: nobody asks it to try again.
        store::Error::Database(_) | store::Error::LeaseLost => StoreError::Database(Box::new(err)),
    }
}

/// Whether somebody else runs the session by now.
fn is_lease_lost(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(store::Error::LeaseLost))
}

/// A row holds what we never wrote.
fn damaged(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Validation(format!("{table}.{column} holds a value that was never written there"))
}
