//! Messages between decryption and commit, and why they hardly ever touch the database.
//!
//! # What the client wants
//!
//! For each message it decrypts, a client with a durability hook (`message/commit_batch.rs`):
//!
//! 1. stores the plaintext here, as pending;
//! 2. during the offline drain only: flushes the Signal cache;
//! 3. runs the hook, which commits the message (our one door);
//! 4. deletes the pending row; 5. acknowledges the message to WhatsApp.
//!
//! Live, the Signal cache is flushed some 25 ms later by a task of its own, at whatever point of
//! these steps other messages happen to be. When WhatsApp delivers a message again, the client tries
//! to decrypt it. If the ratchet says *duplicate*, it asks here for the plaintext: with one, it goes
//! on at 1; without one, it takes the message for committed and acknowledges it.
//!
//! Taken literally that is an insert and a delete for each message, two more commits than the
//! message itself needs.
//!
//! # What is enough
//!
//! A pending row is only ever asked for after the ratchet said *duplicate*. After a crash it can say
//! so only if its progress over that message had become durable. So the row must be durable no
//! later than the ratchet's progress, and need not be at all if the hook has committed before that.
//!
//! Rows are therefore kept in memory, and every write of ratchet state (sessions, sender keys,
//! consumed prekeys: `noted.rs`) takes those that are still pending into its own unit of
//! work. Both become durable in one commit, or neither does. A row whose hook commits first, which is
//! nearly every live message, costs no statement.
//!
//! A unit looks at the rows when it *runs*, not when it is handed over: what was committed meanwhile
//! is not written any more, and what was added meanwhile is. From that moment the row counts as
//! stored, whether the transaction succeeds or not, so a later delete goes to the database too; and
//! it goes there after the write, since both are in the session's lane.
//!
//! # Crash by crash
//!
//! | killed | ratchet | row | delivered again, WhatsApp's copy is |
//! |---|---|---|---|
//! | before the ratchet's write, stored here or not yet | old | none | decrypted as new |
//! | after it, before the hook's commit | new | stored | a duplicate, replayed from the row |
//! | after the hook's commit, before the delete | either | either | recognised by the hook |
//! | after the delete, before the acknowledgement | either | none | recognised by the hook, or a duplicate without a row: acknowledged, rightly |
//!
//! # Between decryption and step 1
//!
//! In live mode up to 64 stanzas are processed at once, and the flush does not wait for them. It can take a
//! copy of a ratchet that has moved over a message which is decrypted but not yet stored here (step 1). So
//! before the copy is written, whoever may have read such a message gets the time to store it here
//! (`tasks.rs`), and the row goes into the same transaction.
//!
//! Rows that stay in memory for long would be a risk without a use. Therefore:
//!
//! - a hook that fails calls [`Backend::write_pending`] before it says so (ours does not fail while
//!   there is any hope: it waits);
//! - rows older than [`LINGER`] are written together with the next that is stored.
//!
//! The offline drain has no such hole: its flush is step 2 of the same task, which holds the only
//! processing permit. There the rows are always written first, some hundreds in one statement.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use entity::device::pending_inbound::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait, Query},
};
use tokio::sync::OnceCell;
use wacore::store::traits::{PendingInboundKey, PendingInboundRow};

use super::{BINDS, Backend, Result, replacing, run, sealed, text, upsert};
use crate::{
    fault::{moment, slow},
    vault::Sealer,
};

/// A hook takes milliseconds. What is pending for longer waits for something, and is written.
const LINGER: Duration = Duration::from_secs(1);

/// Chat, sender, id: only together they name a message.
type Key = (String, String, String);

fn key(chat: &str, sender: &str, id: &str) -> Key {
    (text(chat), text(sender), text(id))
}

/// The pending messages of one device.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Set once `stored` is what the database holds.
    looked: OnceCell<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Not known to be in the database, or newer than what is there.
    held: HashMap<Key, Held>,
    /// May be in the database: all that are, and some that are not.
    stored: HashSet<Key>,
    /// Tells a row from another of the same key.
    versions: u64,
}

#[derive(Clone, Debug)]
struct Held {
    message: Vec<u8>,
    /// Seconds, by the client's clock: it is the client that says what has expired.
    stored_at: i64,
    since: Instant,
    version: u64,
}

/// Rows a unit has written, to be let go of once it is committed.
pub(super) type Written = Vec<(Key, u64)>;

impl Buffer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is pending now.
    pub(super) async fn write(
        &self,
        txn: &DatabaseTransaction,
        device_id: i32,
        sealer: &Sealer,
    ) -> Result<Written, DbErr> {
        let (rows, written) = {
            let mut state = self.state();
            let State { held, stored, .. } = &mut *state;
            let mut held: Vec<(&Key, &Held)> = held.iter().collect();
            held.sort_unstable_by_key(|(key, _)| *key);
            // From here on a delete must look into the database.
            stored.extend(held.iter().map(|(key, _)| (*key).clone()));
            let rows: Vec<ActiveModel> =
                held.iter().map(|(key, row)| active(device_id, key, row, sealer)).collect();
            let written: Written =
                held.iter().map(|(key, row)| ((*key).clone(), row.version)).collect();
            (rows, written)
        };
        let database = txn.get_database_backend();
        run(txn, &upsert(database, rows, &replacing::<Entity>())).await?;
        Ok(written)
    }

    /// Lets go of rows that are in the database now.
    pub(super) fn settle(&self, written: &Written) {
        let mut state = self.state();
        for (key, version) in written {
            if state.held.get(key).is_some_and(|held| held.version == *version) {
                state.held.remove(key);
            }
        }
    }
}

fn active(device_id: i32, key: &Key, held: &Held, sealer: &Sealer) -> ActiveModel {
    let (chat, sender, message_id) = key.clone();
    let row = Model {
        device_id,
        chat,
        sender,
        message_id,
        message: held.message.clone(),
        stored_at: held.stored_at,
    };
    sealed::seal::<Entity>(sealer, row).into_active_model()
}

impl Backend {
    /// Writes the messages that are pending, without waiting for a ratchet to do so. For a hook that
    /// has to give up on one.
    pub async fn write_pending(&self) -> Result<()> {
        let pending = self.pending.clone();
        let device_id = self.device_id;
        let sealer = self.sealer().await?.clone();
        let written = self
            .unit(move |txn| {
                let (pending, sealer) = (pending.clone(), sealer.clone());
                Box::pin(async move { pending.write(txn, device_id, &sealer).await })
            })
            .await?;
        self.pending.settle(&written);
        Ok(())
    }

    /// Waits until everything is written that an earlier backend of this device has handed over.
    pub async fn settle(&self) -> Result<()> {
        self.look().await
    }

    /// Learns, once, which rows an earlier life has left in the database. Nearly always none, and
    /// then deletes and lookups need not go there.
    async fn look(&self) -> Result<()> {
        let look = async || {
            let device_id = self.device_id;
            // In the lane: after whatever an earlier backend of this device has still in there.
            let found: Vec<Key> = self
                .unit(move |txn| {
                    Box::pin(async move {
                        Entity::find()
                            .select_only()
                            .columns([Column::Chat, Column::Sender, Column::MessageId])
                            .filter(Column::DeviceId.eq(device_id))
                            .into_tuple()
                            .all(txn)
                            .await
                    })
                })
                .await?;
            self.pending.state().stored.extend(found);
            Ok(())
        };
        self.pending.looked.get_or_try_init(look).await.map(drop)
    }

    pub(super) async fn hold_pending(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        // Decrypted, and nowhere but in memory.
        moment!("inbound.opened");
        slow!("inbound.opened");
        self.look().await?;
        let lingering = {
            let mut state = self.pending.state();
            let lingering = state.held.values().any(|held| held.since.elapsed() > LINGER);
            for row in rows {
                state.versions += 1;
                let held = Held {
                    message: row.message.to_vec(),
                    stored_at: wacore::time::now_secs(),
                    since: Instant::now(),
                    version: state.versions,
                };
                state.held.insert(key(row.chat, row.sender, row.id), held);
            }
            lingering
        };
        moment!("inbound.held");
        // Several at once come from a drain, in which a send may make the ratchets durable between
        // this call and the hook's commit.
        if lingering || rows.len() > 1 { self.write_pending().await } else { Ok(()) }
    }

    pub(super) async fn find_pending(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>> {
        self.look().await?;
        let key = key(chat, sender, id);
        {
            let state = self.pending.state();
            if let Some(held) = state.held.get(&key) {
                return Ok(Some(held.message.clone()));
            }
            if !state.stored.contains(&key) {
                return Ok(None);
            }
        }
        let (chat, sender, id) = key;
        let row = self.one_sealed(Entity::find_by_id((self.device_id, chat, sender, id))).await?;
        Ok(row.map(|row| row.message))
    }

    pub(super) async fn drop_pending(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        self.look().await?;
        let stored: Vec<Key> = {
            let mut state = self.pending.state();
            let keys = keys.iter().map(|of| key(of.chat, of.sender, of.id));
            keys.filter(|key| {
                state.held.remove(key);
                state.stored.contains(key)
            })
            .collect()
        };
        if stored.is_empty() {
            moment!("inbound.before_ack");
            return Ok(());
        }
        let deletes = stored.chunks(BINDS / 3 - 1).map(|some| {
            let key = Expr::tuple([Column::Chat, Column::Sender, Column::MessageId].map(Expr::col));
            Entity::delete_many()
                .filter(Column::DeviceId.eq(self.device_id))
                .filter(key.in_tuples(some.iter().cloned()))
                .build(self.database())
        });
        self.execute(deletes.collect()).await?;
        moment!("inbound.pending_dropped");
        let mut state = self.pending.state();
        for key in stored {
            // Not if it was stored again meanwhile: a unit may have written it since.
            if !state.held.contains_key(&key) {
                state.stored.remove(&key);
            }
        }
        Ok(())
    }

    pub(super) async fn expire_pending(&self, cutoff: i64) -> Result<u32> {
        self.look().await?;
        let (mut expired, look) = {
            let mut state = self.pending.state();
            let State { held, stored, .. } = &mut *state;
            let before = held.len();
            // A row that is in the database as well is counted there.
            let mut both = 0;
            held.retain(|key, row| {
                let lives = row.stored_at >= cutoff;
                both += usize::from(!lives && stored.contains(key));
                lives
            });
            (before - held.len() - both, !stored.is_empty())
        };
        if look {
            let device_id = self.device_id;
            let gone: Vec<Key> = self
                .unit(move |txn| {
                    Box::pin(async move {
                        let delete = Query::delete()
                            .from_table(Entity)
                            .and_where(Expr::col(Column::DeviceId).eq(device_id))
                            .and_where(Expr::col(Column::StoredAt).lt(cutoff))
                            .returning(Query::returning().columns([
                                Column::Chat,
                                Column::Sender,
                                Column::MessageId,
                            ]))
                            .to_owned();
                        let rows = txn.query_all(&delete).await?;
                        rows.into_iter()
                            .map(|row| {
                                Ok((
                                    row.try_get_by_index(0)?,
                                    row.try_get_by_index(1)?,
                                    row.try_get_by_index(2)?,
                                ))
                            })
                            .collect()
                    })
                })
                .await?;
            let mut state = self.pending.state();
            for key in gone {
                if !state.held.contains_key(&key) {
                    state.stored.remove(&key);
                    expired += 1;
                }
            }
        }
        Ok(u32::try_from(expired).unwrap_or(u32::MAX))
    }
}
