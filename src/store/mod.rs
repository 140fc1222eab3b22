//! Every SQL statement, but for those of WhatsApp's own state (`crate::device`).
//!
//! - `connect.rs`, `schema.rs`: from a URL to connections and an up-to-date schema. `starting.rs`: one
//!   daemon at a time.
//! - `writer.rs`: the one write path. `lane/`: a connection that writes, and its queue.
//!   `group/`: one transaction for all that waits. `mark.rs`: whether one arrived that nobody has
//!   confirmed. `checkpoints.rs`: what SQLite would do in a writer's commit.
//! - `keys.rs`: the keys that secrets are sealed with (`crate::vault`). `sealing/`: sealing what was
//!   written in clear before there were keys. `look.rs`: what a database is like, from outside.
//! - `retention.rs`: deleting what is old. `installation.rs`, `backup.rs`: copies, and telling them
//!   from the original.
//! - `error.rs`: errors, sorted by what helps.
//! - `nodes.rs`, `leases.rs`: which daemons live, and who runs which session. `taken_back.rs`: what the dead
//!   and the silent claimed. `fence.rs` refuses what
//!   somebody writes for a session that is not his any more. `commands.rs`: what daemons ask of each
//!   other.
//! - `handover/`: one session takes over from others of the same account. `inherited.rs`: their messages.
//! - `webhooks/`: endpoints of tenants, and what is owed to them. `meta/`: numbers at Meta's Cloud API, and what
//!   Meta has sent about them.
//! - `contacts/`: people, whatever they are called by. `statuses.rs`: how far messages came that went out through
//!   Meta. `audience/`: to whom campaigns go.
//! - one file for each table's questions and commands, reached by a method of [`Store`].
//!
//! Reads go to a pool of their own (`reader.rs`) and never wait for the writer; they see what was committed
//! before they began, at once, on both databases.
//!
//! # When the database is away
//!
//! HTTP is told ([`Patience::Fail`]) and answers 503. Sessions wait ([`Patience::Wait`]), for
//! reads as for writes: the receiver of the session that waits takes nothing more from WhatsApp,
//! which keeps it for later. Nothing is acknowledged that is not stored.

pub mod audience;
pub mod audit;
pub mod backup;
pub mod campaigns;
mod checkpoints;
pub mod commands;
pub mod connect;
pub mod contacts;
mod counters;
pub mod error;
pub mod events;
mod fence;
pub mod figures;
mod group;
pub mod handover;
pub mod history;
pub mod idempotency;
mod inherited;
pub mod installation;
pub mod keys;
mod lane;
pub mod leases;
mod limits;
pub mod look;
mod mark;
pub mod messages;
pub mod meta;
pub mod nodes;
pub mod organizations;
pub mod outbox;
pub mod page;
#[cfg(test)]
mod peer;
mod progress;
mod reader;
pub mod restore;
pub mod retention;
pub mod schema;
mod sealing;
mod secrets;
pub mod sessions;
mod starting;
pub mod statuses;
mod taken_back;
pub mod tokens;
mod trust;
mod turns;
pub mod webhooks;
pub mod writer;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};
use tokio_util::task::TaskTracker;

pub(crate) use self::reader::Reader;
use self::{
    connect::{Connector, OpenError},
    error::Fault,
};
pub use self::{
    counters::WriterStats,
    error::Error,
    leases::Lease,
    starting::Starting,
    writer::{Patience, Writer},
};
pub(crate) use crate::event::identifier;
use crate::{clock::Clock, fault::late, vault::Vault};

/// The first distance between tries of a read, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A key of the writer's lanes: that of pings.
const PING_KEY: &str = "ping";

/// How long the read of a ping may take, which reads nothing. It may have to wait for another connection.
const PING: Duration = Duration::from_secs(10);

/// What became of something to be made under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made<T> {
    New(T),
    /// The same request has made it before.
    Before(T),
    /// The key was used for another request.
    KeyReused,
    /// The same request has made it before, and it is gone.
    Gone,
}

impl<T> Made<T> {
    /// The same of something else.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Made<U> {
        match self {
            Self::New(made) => Made::New(change(made)),
            Self::Before(made) => Made::Before(change(made)),
            Self::KeyReused => Made::KeyReused,
            Self::Gone => Made::Gone,
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: Reader,
    writer: Writer,
    connector: Connector,
    clock: Clock,
    retired: Arc<retention::Counters>,
}

impl Store {
    /// Opens the database, brings its schema up to date (or refuses), and proves that it can be
    /// written to. Nothing is written to a database that is sealed under another master key.
    ///
    /// The writer's lanes run on `tracker` until [`Store::close`]: it must not be one that is
    /// waited for before that.
    pub async fn open(
        options: connect::Options,
        vault: Arc<Vault>,
        clock: Clock,
        tracker: &TaskTracker,
    ) -> Result<Self, OpenError> {
        keys::refuse_other_key(&options, &vault).await?;
        let connector = Connector::new(options)?;
        connector.prepare().await?;
        keys::adopt(&connector, &vault, clock.now()).await?;
        let reader = connector.readers().await.map_err(OpenError::Connect)?;
        let writer = Writer::start(&connector, vault, clock.clone(), tracker)
            .await
            .map_err(OpenError::Connect)?;
        let store = Self { reader, writer, connector, clock, retired: Arc::default() };
        store.ping().await.map_err(OpenError::NotWritable)?;
        Ok(store)
    }

    /// Connections to read with. Each statement comes back within the deadline.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The one write path.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The same store for the owner of a session: everything it writes, by whichever call, is written
    /// for that session, in its lane, and is refused with [`Error::LeaseLost`] once somebody else owns
    /// the session.
    #[must_use]
    pub fn under(&self, lease: Lease) -> Self {
        Self { writer: self.writer.under(lease), ..self.clone() }
    }

    /// The same store for nobody's session.
    pub(crate) fn without_lease(&self) -> Self {
        Self { writer: self.writer.without_lease(), ..self.clone() }
    }

    /// Who lives.
    pub fn nodes(&self) -> nodes::Nodes {
        nodes::Nodes::new(self.clone())
    }

    /// Who runs which session.
    pub fn leases(&self) -> leases::Leases {
        leases::Leases::new(self.clone())
    }

    /// What daemons ask of each other.
    pub fn commands(&self) -> commands::Commands {
        commands::Commands::new(self.clone())
    }

    /// The sessions.
    pub fn sessions(&self) -> sessions::Sessions {
        sessions::Sessions::new(self.clone())
    }

    /// Sessions that take over from others.
    pub fn handovers(&self) -> handover::Handovers {
        handover::Handovers::new(self.clone())
    }

    /// Bulk sends.
    pub fn campaigns(&self) -> campaigns::Campaigns {
        campaigns::Campaigns::new(self.clone())
    }

    /// To whom bulk sends go.
    pub fn audience(&self) -> audience::Audience {
        audience::Audience::new(self.clone())
    }

    /// People, and the conversations with them.
    pub fn contacts(&self) -> contacts::Contacts {
        contacts::Contacts::new(self.clone())
    }

    /// The messages, both ways.
    pub fn messages(&self) -> messages::Messages {
        messages::Messages::new(self.clone())
    }

    /// The past, handed over by phones.
    pub fn history(&self) -> history::History {
        history::History::new(self.clone())
    }

    /// What happened.
    pub fn events(&self) -> events::Events {
        events::Events::new(self.clone())
    }

    /// Outbound webhooks: endpoints, and what is owed to them.
    pub fn webhooks(&self) -> webhooks::Webhooks {
        webhooks::Webhooks::new(self.clone())
    }

    /// Numbers at Meta's Cloud API, and what Meta has sent.
    pub fn meta(&self) -> meta::Meta {
        meta::Meta::new(self.clone())
    }

    /// The bearer tokens.
    pub fn tokens(&self) -> tokens::Tokens {
        tokens::Tokens::new(self.clone())
    }

    /// Who changed what.
    pub fn audit(&self) -> audit::Audit {
        audit::Audit::new(self.clone())
    }

    /// The tenants.
    pub fn organizations(&self) -> organizations::Organizations {
        organizations::Organizations::new(self.clone())
    }

    /// What is old.
    pub fn retention(&self) -> retention::Retention {
        retention::Retention::new(self.clone())
    }

    /// Which database it is.
    pub fn installation(&self) -> installation::Installation {
        installation::Installation::new(self.clone())
    }

    /// How many secrets that should have opened did not, since the start.
    pub fn unopened_secrets(&self) -> u64 {
        self.writer.vault().unopened()
    }

    /// What time it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reads with `query`, again and again while the database is away and the patience lasts.
    pub(crate) async fn read<T, Q>(&self, patience: Patience, query: Q) -> Result<T, Error>
    where
        Q: for<'c> Fn(&'c Reader) -> BoxFuture<'c, Result<T, DbErr>> + Send + Sync,
    {
        let mut distance = BACKOFF.0;
        loop {
            let err = match query(&self.reader).await {
                Ok(answer) => return Ok(answer),
                Err(err) => err,
            };
            let waits = patience == Patience::Wait && Fault::of(&err) != Fault::Statement;
            if !waits || self.writer.closing().is_cancelled() {
                return Err(err.into());
            }
            let spread = distance.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = self.writer.closing().cancelled() => {}
                () = tokio::time::sleep(spread) => {}
            }
            distance = (distance * 2).min(BACKOFF.1);
        }
    }

    /// Whether the database answers a read and takes a write.
    ///
    /// The write changes nothing that anybody reads, but goes the whole way: through a lane's queue,
    /// past the lock, to a commit that needs a place on the disk.
    pub async fn ping(&self) -> Result<(), Error> {
        self.reader.within(PING).execute_unprepared("SELECT 1").await?;
        self.turn().await
    }

    /// How the schema stands to this program now: somebody else may have changed it since the start.
    pub async fn schema(&self) -> Result<schema::State, Error> {
        Ok(schema::state_now(&self.reader.within(PING)).await?)
    }

    /// The write of a ping alone. It comes back in any case, and says so when the database is away,
    /// unless what writes hangs for good.
    pub async fn turn(&self) -> Result<(), Error> {
        self.writer
            .run(PING_KEY, Patience::Fail, |txn| Box::pin(async move { write_nothing(txn).await }))
            .await
    }

    /// Returns when what writes has come a step further: a write of next to nothing was answered, or what was before it has
    /// ended, however it did. Several units that take too long are found one by one, and whoever waits behind all of
    /// them waits long, while nothing hangs.
    pub async fn lives(&self) {
        tokio::select! {
            _ = self.turn() => {}
            () = self.writer.stepped(PING_KEY) => {}
        }
    }

    /// Writes what was handed over, and closes. For when every task that uses the store has ended:
    /// whatever comes after is answered [`Error::Stopped`].
    pub async fn close(&self) {
        late!("store.close");
        self.writer.close().await;
        self.reader.close().await;
    }
}

/// Has something written that is what it was before.
///
/// A statement that changes no row would be committed without touching the disk, and so would one that
/// changes a row into itself.
async fn write_nothing(txn: &DatabaseTransaction) -> Result<(), DbErr> {
    txn.execute_unprepared("DELETE FROM session WHERE id = ''").await?;
    match txn.get_database_backend() {
        DbBackend::Postgres => {
            // From here on the commit is written to the log, and waited for.
            txn.execute_unprepared("SELECT pg_current_xact_id()").await?;
        }
        backend => {
            let ask = Statement::from_string(backend, "PRAGMA user_version");
            let version: i32 = match txn.query_one_raw(ask).await? {
                Some(row) => row.try_get_by_index(0)?,
                None => 0,
            };
            txn.execute_unprepared(&format!("PRAGMA user_version = {version}")).await?;
        }
    }
    Ok(())
}
