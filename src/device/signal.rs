//! Signal: identities, sessions, prekeys and sender keys.
//!
//! The client keeps all of this in a cache of its own and flushes it some 25 ms after a change, or
//! before it sends when a counter lease has grown. A flush is sessions, then deleted sessions, then
//! used-up prekeys, then identities, then sender keys, each call awaited: a prekey must not be gone
//! before the session made with it is durable. All of these but identities are only noted (`noted.rs`), and go
//! to the database together or in the order in which they were noted. An identity may be there before them: the
//! library trusts any (`is_trusted_identity` of its adapter), so one without a session keeps nobody from being read.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use entity::device::{identity, prekey, sender_key, session, signed_prekey};
use sea_orm::{
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, QueryTrait, Select,
    sea_query::{Expr, ExprTrait, Func},
};
use wacore::store::{error::StoreError, traits::SignalStore};

use super::{
    BINDS, Backend, Result, damaged,
    noted::{Change, Row},
    text,
};
use crate::fault::moment;

impl Backend {
    fn identity(&self, address: &str, key: [u8; 32]) -> identity::ActiveModel {
        identity::Model { device_id: self.device_id, address: text(address), key: key.into() }
            .into_active_model()
    }

    fn prekey(&self, id: u32, record: &[u8], uploaded: bool) -> prekey::Model {
        prekey::Model {
            device_id: self.device_id,
            prekey_id: id.into(),
            record: record.to_vec(),
            uploaded,
        }
    }

    /// Waits until these are free to be stored: a used one of the same number may still be on its way out.
    async fn let_go(&self, ids: &[u32]) -> Result<()> {
        if self.noted.used_prekeys().iter().any(|used| ids.contains(used)) {
            self.written().await?;
        }
        Ok(())
    }

    fn prekeys(&self, ids: &[u32]) -> Select<prekey::Entity> {
        prekey::Entity::find()
            .filter(prekey::Column::DeviceId.eq(self.device_id))
            .filter(prekey::Column::PrekeyId.is_in(ids.iter().map(|&id| i64::from(id))))
    }
}

fn prekey_id(id: i64) -> Result<u32> {
    u32::try_from(id).map_err(|_| damaged("wa_prekey", "prekey_id"))
}

#[async_trait]
impl SignalStore for Backend {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.execute(self.put([self.identity(address, key)])).await.map(drop)
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        // The last of a key counts; in order, so that two writers could not lock each other out.
        let rows: BTreeMap<_, _> = identities
            .iter()
            .map(|(address, key)| (address, self.identity(address, *key)))
            .collect();
        self.execute(self.put(rows.into_values())).await.map(drop)
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        let key = (self.device_id, text(address));
        let row = self.one(identity::Entity::find_by_id(key)).await?;
        row.map(|row| row.key.try_into().map_err(|_| damaged("wa_identity", "key"))).transpose()
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        let key = (self.device_id, text(address));
        let delete = identity::Entity::delete_by_id(key).build(self.database());
        self.execute(vec![delete]).await.map(drop)
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        let address = text(address);
        let noted = self.noted.find(&Row::Session(address.clone()));
        if let Some(change) = noted {
            return Ok(change.record());
        }
        let row = self.one_sealed(session::Entity::find_by_id((self.device_id, address))).await?;
        Ok(row.map(|row| row.record.into()))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        let record = Change::Record(Bytes::copy_from_slice(session));
        self.advance(vec![(Row::Session(text(address)), record)]).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        let noted = |(address, record): &(Arc<str>, Bytes)| {
            (Row::Session(text(address)), Change::Record(record.clone()))
        };
        self.advance(sessions.iter().map(noted).collect()).await
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.advance(vec![(Row::Session(text(address)), Change::Gone)]).await
    }

    async fn has_session(&self, address: &str) -> Result<bool> {
        let address = text(address);
        let noted = self.noted.find(&Row::Session(address.clone()));
        if let Some(change) = noted {
            return Ok(change.record().is_some());
        }
        Ok(self.one(session::Entity::find_by_id((self.device_id, address))).await?.is_some())
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        // Not LIKE: SQLite's takes `a` for `A`, and a user part may hold its wildcards.
        let prefixes = ["@", ":"].map(|mark| format!("{}{mark}", text(user)));
        let noted = self.noted.sessions(&prefixes);
        if noted.iter().any(|(_, is_there)| *is_there) {
            return Ok(true);
        }
        let starts_with = |column: Expr| {
            prefixes.iter().fold(Expr::value(false), |any, prefix| {
                let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
                let head = Func::cust("substr").args([
                    column.clone(),
                    Expr::value(1),
                    Expr::value(length),
                ]);
                any.or(Expr::expr(head).eq(prefix.as_str()))
            })
        };
        let sessions = session::Entity::find()
            .filter(session::Column::DeviceId.eq(self.device_id))
            .filter(starts_with(Expr::col(session::Column::Address)))
            .filter(session::Column::Address.is_not_in(noted.into_iter().map(|(gone, _)| gone)))
            .limit(1);
        if self.one(sessions).await?.is_some() {
            return Ok(true);
        }
        let identities = identity::Entity::find()
            .filter(identity::Column::DeviceId.eq(self.device_id))
            .filter(starts_with(Expr::col(identity::Column::Address)))
            .limit(1);
        Ok(self.one(identities).await?.is_some())
    }

    async fn store_prekey(&self, id: u32, record: &[u8], uploaded: bool) -> Result<()> {
        self.let_go(&[id]).await?;
        let rows = [self.prekey(id, record, uploaded)];
        self.execute(self.put_sealed::<prekey::Entity>(rows).await?).await.map(drop)
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], uploaded: bool) -> Result<()> {
        self.let_go(&keys.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
        let rows: BTreeMap<_, _> =
            keys.iter().map(|(id, record)| (id, self.prekey(*id, record, uploaded))).collect();
        let rows = self.put_sealed::<prekey::Entity>(rows.into_values()).await?;
        self.execute(rows).await?;
        moment!("prekeys.stored");
        Ok(())
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        if self.noted.find(&Row::Prekey(id)).is_some() {
            return Ok(None);
        }
        let row = self.one_sealed(self.prekeys(&[id])).await?;
        Ok(row.map(|row| row.record.into()))
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> Result<Vec<(u32, Bytes)>> {
        let used = self.noted.used_prekeys();
        let mut found: BTreeMap<u32, Bytes> = BTreeMap::new();
        for some in ids.chunks(BINDS) {
            for row in self.all_sealed(self.prekeys(some)).await? {
                found.insert(prekey_id(row.prekey_id)?, row.record.into());
            }
        }
        found.retain(|id, _| !used.contains(id));
        Ok(ids.iter().filter_map(|id| Some((*id, found.get(id)?.clone()))).collect())
    }

    async fn mark_prekeys_uploaded(&self, ids: &[u32]) -> Result<()> {
        moment!("prekeys.uploaded");
        let updates = ids.chunks(BINDS).map(|some| {
            prekey::Entity::update_many()
                .col_expr(prekey::Column::Uploaded, Expr::value(true))
                .filter(prekey::Column::DeviceId.eq(self.device_id))
                .filter(prekey::Column::PrekeyId.is_in(some.iter().map(|&id| i64::from(id))))
                .build(self.database())
        });
        self.execute(updates.collect()).await.map(drop)
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.advance(vec![(Row::Prekey(id), Change::Gone)]).await
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        let used = self.noted.used_prekeys().into_iter().map(i64::from);
        let select = prekey::Entity::find()
            .filter(prekey::Column::PrekeyId.is_not_in(used))
            .select_only()
            .column_as(prekey::Column::PrekeyId.max(), "max")
            .filter(prekey::Column::DeviceId.eq(self.device_id));
        let rows = self.rows(select.build(self.database())).await?;
        let max = rows.first().map_or(Ok(None), |row| row.try_get("", "max"));
        let max: Option<i64> = max.map_err(|err| StoreError::Database(Box::new(err)))?;
        max.map_or(Ok(0), prekey_id)
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        let row = signed_prekey::Model {
            device_id: self.device_id,
            prekey_id: id.into(),
            record: record.to_vec(),
        };
        self.execute(self.put_sealed::<signed_prekey::Entity>([row]).await?).await.map(drop)
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        let key = (self.device_id, i64::from(id));
        let row = self.one_sealed(signed_prekey::Entity::find_by_id(key)).await?;
        Ok(row.map(|row| row.record))
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let all = signed_prekey::Entity::find()
            .filter(signed_prekey::Column::DeviceId.eq(self.device_id));
        let rows = self.all_sealed(all).await?;
        rows.into_iter().map(|row| Ok((prekey_id(row.prekey_id)?, row.record))).collect()
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        let key = (self.device_id, i64::from(id));
        let delete = signed_prekey::Entity::delete_by_id(key).build(self.database());
        self.execute(vec![delete]).await.map(drop)
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        let record = Change::Record(Bytes::copy_from_slice(record));
        self.advance(vec![(Row::SenderKey(text(address)), record)]).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        let noted = |(address, record): &(Arc<str>, Bytes)| {
            (Row::SenderKey(text(address)), Change::Record(record.clone()))
        };
        self.advance(sender_keys.iter().map(noted).collect()).await
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        let address = text(address);
        let noted = self.noted.find(&Row::SenderKey(address.clone()));
        if let Some(change) = noted {
            return Ok(change.record().map(Into::into));
        }
        let row =
            self.one_sealed(sender_key::Entity::find_by_id((self.device_id, address))).await?;
        Ok(row.map(|row| row.record))
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.advance(vec![(Row::SenderKey(text(address)), Change::Gone)]).await
    }
}
