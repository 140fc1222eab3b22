//! Sealing what was written in clear, before there were keys. Once, at the first start that finds it.
//!
//! In chunks, each a unit of work; killed in between, the next start begins again and finds the first
//! rows sealed: they open. When all is done the database is made to forget the pages it has freed, and
//! only then the vault's row says that there is nothing in clear any more.
//!
//! The tables of WhatsApp's own state are `crate::device`'s to seal. `webhooks.rs`: what is of webhooks.

mod webhooks;

use entity::{
    event,
    id::{MessageId, SessionKey},
    kind::EventKind,
    message, session, vault as vault_row,
};
use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement,
};

use super::{Error, Patience, Store, organizations::Filter, page::Page, secrets};
use crate::vault::Sealer;

/// Rows of one unit. A few megabytes at most, and milliseconds.
const CHUNK: u64 = 500;

impl Store {
    /// Whether there may be secrets in clear.
    pub async fn has_clear_secrets(&self) -> Result<bool, Error> {
        let row = vault_row::Entity::find_by_id(vault_row::Entity::ROW).one(self.reader()).await?;
        Ok(row.is_none_or(|row| row.sealed_at.is_none()))
    }

    /// Seals the store's own: pairing codes, what callers keep with sessions, messages as they came, addresses of endpoints and what was told of them.
    /// Returns how many.
    pub async fn seal_old_rows(&self) -> Result<u64, Error> {
        let mut count = 0;
        for organization in self.organizations().list(&Filter::default(), &Page::all()).await? {
            let sealer = self.sealer(&organization.id, Patience::Fail).await?;
            count += self.seal_sessions(&sealer).await?;
            count += self.seal_events(&sealer).await?;
            count += self.seal_messages(&sealer).await?;
            count += self.seal_endpoints(&sealer).await?;
            count += self.seal_notices(&sealer).await?;
        }
        Ok(count)
    }

    async fn seal_sessions(&self, sealer: &Sealer) -> Result<u64, Error> {
        self.in_chunks(sealer, |txn, sealer, after: Option<SessionKey>| {
            Box::pin(async move {
                let rows = session::Entity::find()
                    .filter(session::COLUMN.organization_id.eq(sealer.organization().clone()))
                    .apply_if(after, |rows, key| rows.filter(session::COLUMN.id.gt(key)))
                    .order_by_asc(session::COLUMN.id)
                    .limit(CHUNK)
                    .lock_exclusive()
                    .all(txn)
                    .await?;
                let last = rows.last().map(|row| row.id.clone());
                let mut count = 0;
                for row in rows {
                    let is_clear = |qr: &&String| secrets::open_qr(sealer, &row.id, qr).is_err();
                    let qr = row.qr.as_ref().filter(is_clear);
                    let qr = qr.map(|qr| secrets::seal_qr(sealer, &row.id, qr));
                    let is_clear = |data: &&String| !secrets::is_data_sealed(sealer, &row.id, data);
                    let data = row.session_data.as_ref().filter(is_clear);
                    let data = data.map(|data| secrets::seal_data(sealer, &row.id, data));
                    if qr.is_none() && data.is_none() {
                        continue;
                    }
                    let mut row = row.into_active_model();
                    if qr.is_some() {
                        row.qr = Set(qr);
                    }
                    if data.is_some() {
                        row.session_data = Set(data);
                    }
                    session::Entity::update(row).exec(txn).await?;
                    count += 1;
                }
                Ok((last, count))
            })
        })
        .await
    }

    async fn seal_events(&self, sealer: &Sealer) -> Result<u64, Error> {
        self.in_chunks(sealer, |txn, sealer, after: Option<i64>| {
            Box::pin(async move {
                let rows = event::Entity::find()
                    .filter(event::COLUMN.organization_id.eq(sealer.organization().clone()))
                    .filter(event::COLUMN.kind.is_in([EventKind::Qr, EventKind::Unknown]))
                    .apply_if(after, |rows, seq| rows.filter(event::COLUMN.seq.gt(seq)))
                    .order_by_asc(event::COLUMN.seq)
                    .limit(CHUNK)
                    .lock_exclusive()
                    .all(txn)
                    .await?;
                let last = rows.last().map(|row| row.seq);
                let mut count = 0;
                for row in rows {
                    let mut payload = row.payload.clone();
                    if row.kind == EventKind::Unknown {
                        secrets::seal_old_told(sealer, &row.session_key, &mut payload);
                    }
                    secrets::change_qr(&mut payload, |qr| {
                        let clear = secrets::open_qr(sealer, &row.session_key, qr).is_err();
                        Some(if clear {
                            secrets::seal_qr(sealer, &row.session_key, qr)
                        } else {
                            qr.to_owned()
                        })
                    });
                    if payload != row.payload {
                        let mut row = row.into_active_model();
                        row.payload = Set(payload);
                        event::Entity::update(row).exec(txn).await?;
                        count += 1;
                    }
                }
                Ok((last, count))
            })
        })
        .await
    }

    async fn seal_messages(&self, sealer: &Sealer) -> Result<u64, Error> {
        self.in_chunks(sealer, |txn, sealer, after: Option<MessageId>| {
            Box::pin(async move {
                let rows = message::Entity::find()
                    .filter(message::COLUMN.organization_id.eq(sealer.organization().clone()))
                    .filter(message::COLUMN.raw.is_not_null())
                    .apply_if(after, |rows, id| rows.filter(message::COLUMN.id.gt(id)))
                    .order_by_asc(message::COLUMN.id)
                    .limit(CHUNK)
                    .lock_exclusive()
                    .all(txn)
                    .await?;
                let last = rows.last().map(|row| row.id.clone());
                let mut count = 0;
                for row in rows {
                    let Some(raw) = &row.raw else { continue };
                    let (session, key) = (&row.session_key, &row.dedupe_key);
                    if secrets::open_raw(sealer, session, key, raw).is_ok() {
                        continue;
                    }
                    let raw = secrets::seal_raw(sealer, session, key, raw);
                    let mut row = row.into_active_model();
                    row.raw = Set(Some(raw));
                    message::Entity::update(row).exec(txn).await?;
                    count += 1;
                }
                Ok((last, count))
            })
        })
        .await
    }

    /// Runs `chunk` behind one row after another until it sees none. It answers the last it has seen, and
    /// how many it has sealed.
    ///
    /// By key and not by number: daemons that have started before may delete rows meanwhile.
    pub(crate) async fn in_chunks<K, F>(&self, sealer: &Sealer, chunk: F) -> Result<u64, Error>
    where
        K: Clone + Send + Sync + 'static,
        F: for<'t> Fn(
                &'t DatabaseTransaction,
                &'t Sealer,
                Option<K>,
            ) -> BoxFuture<'t, Result<(Option<K>, u64), DbErr>>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        let (mut after, mut total) = (None, 0);
        loop {
            let (own, behind) = (sealer.clone(), after.take());
            let (last, count) = self
                .writer()
                .run("sealing", Patience::Fail, move |txn| {
                    let (own, behind) = (own.clone(), behind.clone());
                    Box::pin(async move { chunk(txn, &own, behind).await })
                })
                .await?;
            total += count;
            if last.is_none() {
                return Ok(total);
            }
            after = last;
        }
    }

    /// Makes the database forget what it has overwritten, and notes that nothing is in clear.
    ///
    /// SQLite leaves the old bytes in free pages and in its log; `VACUUM` writes the file anew, and
    /// emptying the log takes the rest. PostgreSQL leaves dead rows in its files. What a file system, a
    /// disk or a backup has kept of former files is beyond us.
    pub async fn finish_sealing(&self) -> Result<(), Error> {
        let db = self.connector.writer().await?;
        let forgotten = match db.get_database_backend() {
            DbBackend::Sqlite => forget_on_sqlite(&db).await,
            _ => db.execute_unprepared("VACUUM (FULL)").await.map(drop),
        };
        db.close().await.ok();
        forgotten?;
        let now = self.clock().now();
        self.writer()
            .run("sealing", Patience::Fail, move |txn| {
                Box::pin(async move {
                    vault_row::Entity::update_many()
                        .set(vault_row::ActiveModel {
                            sealed_at: Set(Some(now)),
                            ..Default::default()
                        })
                        .exec(txn)
                        .await
                        .map(drop)
                })
            })
            .await
    }
}

async fn forget_on_sqlite(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    // A file of before that was the rule begins to give back what retention frees.
    db.execute_unprepared("PRAGMA auto_vacuum = INCREMENTAL").await?;
    db.execute_unprepared("VACUUM").await?;
    // The log is overwritten from its beginning; cut off, nothing of before is left behind its end.
    let cut = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(TRUNCATE)");
    let busy: i32 = match db.query_one_raw(cut).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => 1,
    };
    if busy == 0 {
        Ok(())
    } else {
        Err(DbErr::Custom("another process is reading the database".to_owned()))
    }
}
