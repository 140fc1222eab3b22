//! Ratchets on their way to the database.
//!
//! # Why they are not written at once
//!
//! The library keeps ratchets in a cache, and holds its lock for as long as a write of them takes
//! (`SignalStoreCache::flush`). Who has read a message meanwhile cannot put the ratchet back: it leaves it to whoever has
//! the lock next, and waits in line to go on. If that is a second write, which has stood in line before it, the ratchet
//! goes to the database, and the message is nowhere: killed there, it would be lost (see `tasks.rs`).
//!
//! So what the cache writes is only noted, and its lock is held for no longer than that. Somebody who holds nothing of
//! the library's writes it: he takes a copy of what is noted, waits until everybody who may have read something with it has
//! handed it over ([`Tasks::rest`](super::Tasks)), and puts both into one transaction.
//!
//! # Who waits for it
//!
//! The library goes on as if its ratchets were on disk. That may be known to nobody else before it is so: no frame
//! leaves (`session/client/barrier.rs`) before what was noted by then is written ([`Backend::written`]). A client that
//! closes (`session/client/link.rs`) waits for it, too, and what is not written in time is not written later
//! ([`Backend::end`]): as if the process had died before. A row that is noted is what a read finds. What could not be
//! written stays noted, and whoever needs it tries again.
//!
//! While the database is away a row is noted once, however often it changes: there are as many as the client has
//! changed, which its cache holds in any case. What keeps WhatsApp from sending more is that no message is recorded.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use entity::device::{prekey, sender_key, session};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryTrait, Statement};
use tokio::sync::Mutex as AsyncMutex;
use tracing::Instrument as _;
use wacore::{runtime::Runtime as _, store::error::StoreError};
use whatsapp_rust::TokioRuntime;

use super::{BINDS, Backend, Result, is_lease_lost, run};
use crate::fault::moment;

/// What is noted for one device.
#[derive(Default)]
pub(super) struct Noted {
    state: Mutex<State>,
    /// Held by whoever writes.
    turn: AsyncMutex<()>,
    /// Somebody is about to write, and will see what there is by now.
    due: AtomicBool,
    /// Who notes something does not wait until it is written.
    behind: AtomicBool,
    /// The client has closed: what was not written by then is not written any more.
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    rows: HashMap<Row, Note>,
    /// The number of the newest note.
    newest: u64,
    /// All up to this one are in the database.
    written: u64,
}

/// Which row it is. The order is that in which rows are written, so that two writers could not lock each other out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Row {
    /// By its address, as the database takes it.
    Session(String),
    SenderKey(String),
    /// Prekeys are only ever deleted here: those that were used.
    Prekey(u32),
}

/// What is to become of a row.
#[derive(Clone)]
pub(super) enum Change {
    /// It has this record.
    Record(Bytes),
    Gone,
}

impl Change {
    /// What a read of the row finds.
    pub(super) fn record(self) -> Option<Bytes> {
        match self {
            Self::Record(record) => Some(record),
            Self::Gone => None,
        }
    }
}

#[derive(Clone)]
struct Note {
    change: Change,
    number: u64,
}

impl Noted {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, changes: Vec<(Row, Change)>) {
        let mut state = self.state();
        state.newest += 1;
        let number = state.newest;
        let notes = changes.into_iter().map(|(row, change)| (row, Note { change, number }));
        state.rows.extend(notes);
    }

    /// What is to become of the row, if that is noted.
    pub(super) fn find(&self, row: &Row) -> Option<Change> {
        self.state().rows.get(row).map(|note| note.change.clone())
    }

    /// The sessions' addresses that begin with one of these, and whether there is to be a session.
    pub(super) fn sessions(&self, prefixes: &[String]) -> Vec<(String, bool)> {
        let is_meant = |address: &str| prefixes.iter().any(|prefix| address.starts_with(prefix));
        let state = self.state();
        let sessions = state.rows.iter().filter_map(|(row, note)| match row {
            Row::Session(address) if is_meant(address) => {
                Some((address.clone(), matches!(note.change, Change::Record(_))))
            }
            _ => None,
        });
        sessions.collect()
    }

    /// The prekeys that are to go.
    pub(super) fn used_prekeys(&self) -> Vec<u32> {
        let state = self.state();
        let prekeys = state.rows.keys().filter_map(|row| match row {
            Row::Prekey(id) => Some(*id),
            _ => None,
        });
        prekeys.collect()
    }

    fn newest(&self) -> u64 {
        self.state().newest
    }

    /// The number of the newest note, unless all are in the database.
    fn unwritten(&self) -> Option<u64> {
        let state = self.state();
        (state.written < state.newest).then_some(state.newest)
    }

    fn is_written(&self, number: u64) -> bool {
        self.state().written >= number
    }

    /// All that is noted, in order, and the number up to which that is all.
    fn copy(&self) -> (Vec<(Row, Note)>, u64) {
        let state = self.state();
        let mut rows: Vec<_> =
            state.rows.iter().map(|(row, note)| (row.clone(), note.clone())).collect();
        let newest = state.newest;
        drop(state);
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        (rows, newest)
    }

    /// Lets go of what is in the database now, unless it was noted anew since.
    fn settle(&self, rows: &[(Row, u64)], upto: u64) {
        let mut state = self.state();
        for (row, number) in rows {
            if state.rows.get(row).is_some_and(|note| note.number == *number) {
                state.rows.remove(row);
            }
        }
        state.written = state.written.max(upto);
    }
}

impl Backend {
    /// From now on the client does not wait until a ratchet is written. Whoever lets its progress be known does, by
    /// [`Backend::written`].
    pub fn write_behind(&self) {
        self.noted.behind.store(true, SeqCst);
    }

    /// Has a ratchet's progress written.
    pub(super) async fn advance(&self, changes: Vec<(Row, Change)>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        moment!("signal.copied");
        self.goes_on()?;
        self.noted.note(changes);
        if !self.noted.behind.load(SeqCst) {
            return self.written().await;
        }
        if !self.noted.due.swap(true, SeqCst) {
            let this = self.clone();
            let writing = async move { this.write_what_is_due().await };
            // Not among the client's tasks: those are what it waits for.
            TokioRuntime.spawn_detached(Box::pin(writing.in_current_span()));
        }
        Ok(())
    }

    /// Waits until all ratchets are on disk that the client has handed over by now. An error when one of them could not be
    /// written: then it may be tried again.
    pub async fn written(&self) -> Result<()> {
        let Some(newest) = self.noted.unwritten() else { return Ok(()) };
        let _turn = self.noted.turn.lock().await;
        self.write_up_to(newest).await
    }

    /// From now on no ratchet is written: the device may be opened again, and what is still to come is older than
    /// what its next client has.
    pub fn end(&self) {
        self.noted.ended.store(true, SeqCst);
    }

    /// An error when no ratchet may be written any more.
    fn goes_on(&self) -> Result<()> {
        if self.tasks.have_panicked() {
            // What it had read with the ratchet may be lost.
            return Err(StoreError::Connection("a task of the client's has panicked".into()));
        }
        if self.noted.ended.load(SeqCst) {
            return Err(StoreError::Connection("the client has closed".into()));
        }
        Ok(())
    }

    async fn write_what_is_due(&self) {
        let _turn = self.noted.turn.lock().await;
        // Before looking: what comes after this has somebody else come.
        self.noted.due.store(false, SeqCst);
        match self.write_up_to(self.noted.newest()).await {
            // Somebody else runs the session, and this client is told to end.
            Err(StoreError::Database(error)) if is_lease_lost(&*error) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Ratchets could not be written; no frame leaves before they are"
            ),
            Ok(()) => {}
        }
    }

    /// For whoever has the turn.
    async fn write_up_to(&self, number: u64) -> Result<()> {
        if self.noted.is_written(number) {
            return Ok(());
        }
        self.write_noted().await
    }

    /// Writes what is noted, and with it what that was made with: see `pending.rs`. First, whoever may have made some of it
    /// has handed over what it was made with: see `tasks.rs`.
    async fn write_noted(&self) -> Result<()> {
        let (rows, newest) = self.noted.copy();
        let sealer = self.sealer().await?.clone();
        self.tasks.rest().await;
        self.goes_on()?;
        moment!("signal.before_flush");
        let numbers: Vec<_> = rows.iter().map(|(row, note)| (row.clone(), note.number)).collect();
        let statements: Arc<[Statement]> = self.statements(rows).await?.into();
        let (pending, device_id) = (self.pending.clone(), self.device_id);
        let written = self
            .unit(move |txn| {
                let statements = statements.clone();
                let (pending, sealer) = (pending.clone(), sealer.clone());
                Box::pin(async move {
                    run(txn, &statements).await?;
                    pending.write(txn, device_id, &sealer).await
                })
            })
            .await?;
        self.pending.settle(&written);
        self.noted.settle(&numbers, newest);
        moment!("signal.flushed");
        Ok(())
    }

    /// What changes these rows, in as few statements as the databases' limits allow. No row is in two of them.
    async fn statements(&self, rows: Vec<(Row, Note)>) -> Result<Vec<Statement>> {
        let (mut sessions, mut ended) = (Vec::new(), Vec::new());
        let (mut sender_keys, mut dropped) = (Vec::new(), Vec::new());
        let mut used = Vec::new();
        for (row, Note { change, .. }) in rows {
            match (row, change) {
                (Row::Session(address), Change::Record(record)) => sessions.push(session::Model {
                    device_id: self.device_id,
                    address,
                    record: record.to_vec(),
                }),
                (Row::Session(address), Change::Gone) => ended.push(address),
                (Row::SenderKey(address), Change::Record(record)) => {
                    sender_keys.push(sender_key::Model {
                        device_id: self.device_id,
                        address,
                        record: record.to_vec(),
                    });
                }
                (Row::SenderKey(address), Change::Gone) => dropped.push(address),
                (Row::Prekey(id), _) => used.push(i64::from(id)),
            }
        }
        let database = self.database();
        let mut statements = self.put_sealed::<session::Entity>(sessions).await?;
        statements.extend(ended.chunks(BINDS).map(|some| {
            session::Entity::delete_many()
                .filter(session::Column::DeviceId.eq(self.device_id))
                .filter(session::Column::Address.is_in(some))
                .build(database)
        }));
        statements.extend(used.chunks(BINDS).map(|some| {
            prekey::Entity::delete_many()
                .filter(prekey::Column::DeviceId.eq(self.device_id))
                .filter(prekey::Column::PrekeyId.is_in(some.iter().copied()))
                .build(database)
        }));
        statements.extend(self.put_sealed::<sender_key::Entity>(sender_keys).await?);
        statements.extend(dropped.chunks(BINDS).map(|some| {
            sender_key::Entity::delete_many()
                .filter(sender_key::Column::DeviceId.eq(self.device_id))
                .filter(sender_key::Column::Address.is_in(some))
                .build(database)
        }));
        Ok(statements)
    }
}
