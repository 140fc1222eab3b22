//! What the protocol has to remember besides cryptography.

use std::collections::BTreeMap;

use async_trait::async_trait;
use entity::device::{
    base_key, device_list, group_metadata, lid_mapping, sender_key_device, sent_message, tc_token,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, OnConflict, Query},
};
use wacore::store::{
    error::StoreError,
    traits::{
        DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore,
        TcTokenEntry,
    },
};

use super::{BINDS, Backend, Result, damaged, replacing, run, sealed, text, upsert};

fn mapping(row: lid_mapping::Model) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: row.lid,
        phone_number: row.phone_number,
        created_at: row.created_at,
        updated_at: row.updated_at,
        learning_source: row.learning_source,
    }
}

impl Backend {
    fn mappings(&self) -> sea_orm::Select<lid_mapping::Entity> {
        lid_mapping::Entity::find().filter(lid_mapping::Column::DeviceId.eq(self.device_id))
    }

    fn sender_key_devices(&self) -> sea_orm::DeleteMany<sender_key_device::Entity> {
        sender_key_device::Entity::delete_many()
            .filter(sender_key_device::Column::DeviceId.eq(self.device_id))
    }

    fn device_list(&self, record: &DeviceListRecord) -> Result<device_list::ActiveModel> {
        let devices = serde_json::to_string(&record.devices)
            .map_err(|err| StoreError::Serialization(Box::new(err)))?;
        Ok(device_list::Model {
            device_id: self.device_id,
            user_part: text(&record.user),
            devices,
            listed_at: record.timestamp,
            phash: record.phash.as_deref().map(text),
            raw_id: record.raw_id.map(i64::from),
        }
        .into_active_model())
    }

    async fn tc_token(&self, jid: &str, entry: TcTokenEntry) -> Result<tc_token::ActiveModel> {
        let row = tc_token::Model {
            device_id: self.device_id,
            jid: text(jid),
            token: entry.token,
            token_timestamp: entry.token_timestamp,
            sender_timestamp: entry.sender_timestamp,
        };
        Ok(sealed::seal::<tc_token::Entity>(self.sealer().await?, row).into_active_model())
    }

    /// Runs a delete; says how many rows it took.
    async fn delete(&self, delete: sea_orm::Statement) -> Result<u32> {
        let deleted = self.execute(vec![delete]).await?;
        Ok(u32::try_from(deleted).unwrap_or(u32::MAX))
    }
}

#[async_trait]
impl ProtocolStore for Backend {
    async fn get_sender_key_devices(&self, group_jid: &str) -> Result<Vec<(String, bool)>> {
        let rows = sender_key_device::Entity::find()
            .filter(sender_key_device::Column::DeviceId.eq(self.device_id))
            .filter(sender_key_device::Column::GroupJid.eq(text(group_jid)));
        Ok(self.all(rows).await?.into_iter().map(|row| (row.device_jid, row.has_key)).collect())
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> Result<()> {
        let rows: BTreeMap<_, _> = entries
            .iter()
            .map(|&(device_jid, has_key)| {
                let row = sender_key_device::Model {
                    device_id: self.device_id,
                    group_jid: text(group_jid),
                    device_jid: text(device_jid),
                    has_key,
                };
                (device_jid, row.into_active_model())
            })
            .collect();
        self.execute(self.put(rows.into_values())).await.map(drop)
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> Result<()> {
        let of_group = self
            .sender_key_devices()
            .filter(sender_key_device::Column::GroupJid.eq(text(group_jid)));
        self.delete(of_group.build(self.database())).await.map(drop)
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> Result<()> {
        let deletes = device_jids.chunks(BINDS).map(|some| {
            let jids = some.iter().map(|jid| text(jid));
            self.sender_key_devices()
                .filter(sender_key_device::Column::DeviceJid.is_in(jids))
                .build(self.database())
        });
        self.execute(deletes.collect()).await.map(drop)
    }

    async fn clear_all_sender_key_devices(&self) -> Result<()> {
        self.delete(self.sender_key_devices().build(self.database())).await.map(drop)
    }

    async fn get_lid_mapping(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        let key = (self.device_id, text(lid));
        Ok(self.one(lid_mapping::Entity::find_by_id(key)).await?.map(mapping))
    }

    async fn get_pn_mapping(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        let latest = self
            .mappings()
            .filter(lid_mapping::Column::PhoneNumber.eq(text(phone)))
            .order_by_desc(lid_mapping::Column::Position)
            .limit(1);
        Ok(self.one(latest).await?.map(mapping))
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> Result<()> {
        self.put_lid_mappings(std::slice::from_ref(entry)).await
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        // One row a key, at the place of its last entry.
        let mut rows: BTreeMap<String, lid_mapping::Model> = BTreeMap::new();
        for (place, entry) in (1..).zip(entries) {
            let row = lid_mapping::Model {
                device_id: self.device_id,
                lid: text(&entry.lid),
                phone_number: text(&entry.phone_number),
                created_at: entry.created_at,
                updated_at: entry.updated_at,
                learning_source: text(&entry.learning_source),
                position: place,
            };
            rows.insert(row.lid.clone(), row);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<lid_mapping::Model> = rows.into_values().collect();
        let (database, device_id) = (self.database(), self.device_id);
        self.unit(move |txn| {
            let rows = rows.clone();
            Box::pin(async move {
                let last = lid_mapping::Entity::find()
                    .filter(lid_mapping::Column::DeviceId.eq(device_id))
                    .select_only()
                    .column_as(lid_mapping::Column::Position.max(), "last")
                    .into_tuple::<Option<i64>>()
                    .one(txn)
                    .await?
                    .flatten()
                    .unwrap_or(0);
                let rows = rows.into_iter().map(|mut row| {
                    row.position += last;
                    row.into_active_model()
                });
                run(txn, &upsert(database, rows, &replacing::<lid_mapping::Entity>())).await
            })
        })
        .await
        .map(drop)
    }

    async fn get_all_lid_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        Ok(self.all(self.mappings()).await?.into_iter().map(mapping).collect())
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> Result<()> {
        let row = base_key::Model {
            device_id: self.device_id,
            address: text(address),
            message_id: text(message_id),
            base_key: base_key.to_vec(),
        };
        self.execute(self.put([row.into_active_model()])).await.map(drop)
    }

    async fn has_same_base_key(
        &self,
        address: &str,
        message_id: &str,
        current_base_key: &[u8],
    ) -> Result<bool> {
        let key = (self.device_id, text(address), text(message_id));
        let row = self.one(base_key::Entity::find_by_id(key)).await?;
        Ok(row.is_some_and(|row| row.base_key == current_base_key))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> Result<()> {
        let key = (self.device_id, text(address), text(message_id));
        self.delete(base_key::Entity::delete_by_id(key).build(self.database())).await.map(drop)
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> Result<()> {
        self.update_device_lists(vec![record]).await
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> Result<()> {
        let mut rows = BTreeMap::new();
        for record in records {
            rows.insert(text(&record.user), self.device_list(&record)?);
        }
        self.execute(self.put(rows.into_values())).await.map(drop)
    }

    async fn get_devices(&self, user: &str) -> Result<Option<DeviceListRecord>> {
        let key = (self.device_id, text(user));
        let Some(row) = self.one(device_list::Entity::find_by_id(key)).await? else {
            return Ok(None);
        };
        let devices = serde_json::from_str(&row.devices)
            .map_err(|err| StoreError::Serialization(Box::new(err)))?;
        let raw_id = row.raw_id.map(u32::try_from).transpose();
        Ok(Some(DeviceListRecord {
            user: row.user_part,
            devices,
            timestamp: row.listed_at,
            phash: row.phash,
            raw_id: raw_id.map_err(|_| damaged("wa_device_list", "raw_id"))?,
        }))
    }

    async fn delete_devices(&self, user: &str) -> Result<()> {
        let key = (self.device_id, text(user));
        self.delete(device_list::Entity::delete_by_id(key).build(self.database())).await.map(drop)
    }

    async fn get_group_metadata(&self, group_jid: &str) -> Result<Option<Vec<u8>>> {
        let key = (self.device_id, text(group_jid));
        let row = self.one(group_metadata::Entity::find_by_id(key)).await?;
        Ok(row.map(|row| row.metadata))
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> Result<()> {
        let row = group_metadata::Model {
            device_id: self.device_id,
            group_jid: text(group_jid),
            metadata: blob.to_vec(),
        };
        self.execute(self.put([row.into_active_model()])).await.map(drop)
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> Result<()> {
        let key = (self.device_id, text(group_jid));
        let delete = group_metadata::Entity::delete_by_id(key).build(self.database());
        self.delete(delete).await.map(drop)
    }

    async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        let key = (self.device_id, text(jid));
        let row = self.one_sealed(tc_token::Entity::find_by_id(key)).await?;
        Ok(row.map(|row| TcTokenEntry {
            token: row.token,
            token_timestamp: row.token_timestamp,
            sender_timestamp: row.sender_timestamp,
        }))
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
        let row = self.tc_token(jid, entry.clone()).await?;
        self.execute(self.put([row])).await.map(drop)
    }

    async fn delete_tc_token(&self, jid: &str) -> Result<()> {
        let key = (self.device_id, text(jid));
        self.delete(tc_token::Entity::delete_by_id(key).build(self.database())).await.map(drop)
    }

    async fn get_all_tc_token_jids(&self) -> Result<Vec<String>> {
        let rows = tc_token::Entity::find().filter(tc_token::Column::DeviceId.eq(self.device_id));
        Ok(self.all(rows).await?.into_iter().map(|row| row.jid).collect())
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        let token_lives = Condition::all()
            .add(Expr::cust("length(token) > 0"))
            .add(tc_token::Column::TokenTimestamp.gte(token_cutoff));
        let sender_lives = Condition::all()
            .add(tc_token::Column::SenderTimestamp.is_not_null())
            .add(tc_token::Column::SenderTimestamp.gte(sender_cutoff));
        let delete = tc_token::Entity::delete_many()
            .filter(tc_token::Column::DeviceId.eq(self.device_id))
            .filter(Condition::any().add(token_lives).add(sender_lives).not())
            .build(self.database());
        self.delete(delete).await
    }

    async fn touch_tc_token_sender_timestamp(
        &self,
        jid: &str,
        sender_timestamp: i64,
    ) -> Result<()> {
        let placeholder = TcTokenEntry {
            token: Vec::new(),
            token_timestamp: sender_timestamp,
            sender_timestamp: Some(sender_timestamp),
        };
        let forward = OnConflict::columns([tc_token::Column::DeviceId, tc_token::Column::Jid])
            .value(
                tc_token::Column::SenderTimestamp,
                Expr::cust(
                    "CASE WHEN wa_tc_token.sender_timestamp > excluded.sender_timestamp \
                     THEN wa_tc_token.sender_timestamp ELSE excluded.sender_timestamp END",
                ),
            )
            .to_owned();
        let row = self.tc_token(jid, placeholder).await?;
        self.execute(upsert(self.database(), [row], &forward)).await.map(drop)
    }

    async fn store_received_tc_token(
        &self,
        jid: &str,
        token: &[u8],
        token_timestamp: i64,
    ) -> Result<()> {
        let received =
            TcTokenEntry { token: token.to_vec(), token_timestamp, sender_timestamp: None };
        let newer = OnConflict::columns([tc_token::Column::DeviceId, tc_token::Column::Jid])
            .update_columns([tc_token::Column::Token, tc_token::Column::TokenTimestamp])
            .action_and_where(Expr::cust(
                "length(wa_tc_token.token) = 0 \
                 OR excluded.token_timestamp >= wa_tc_token.token_timestamp",
            ))
            .to_owned();
        let row = self.tc_token(jid, received).await?;
        self.execute(upsert(self.database(), [row], &newer)).await.map(drop)
    }

    async fn store_sent_message(
        &self,
        chat_jid: &str,
        message_id: &str,
        payload: &[u8],
    ) -> Result<()> {
        let row = sent_message::Model {
            device_id: self.device_id,
            chat_jid: text(chat_jid),
            message_id: text(message_id),
            payload: payload.to_vec(),
            // The client's clock: it is the client that says what has expired.
            stored_at: wacore::time::now_secs(),
        };
        self.execute(self.put_sealed::<sent_message::Entity>([row]).await?).await.map(drop)
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        let device_id = self.device_id;
        let (chat_jid, message_id) = (text(chat_jid), text(message_id));
        let (chat, id) = (chat_jid.clone(), message_id.clone());
        let taken: Option<(Vec<u8>, i64)> = self
            .unit(move |txn| {
                let take =
                    Query::delete()
                        .from_table(sent_message::Entity)
                        .and_where(Expr::col(sent_message::Column::DeviceId).eq(device_id))
                        .and_where(Expr::col(sent_message::Column::ChatJid).eq(chat.as_str()))
                        .and_where(Expr::col(sent_message::Column::MessageId).eq(id.as_str()))
                        .returning(Query::returning().columns([
                            sent_message::Column::Payload,
                            sent_message::Column::StoredAt,
                        ]))
                        .to_owned();
                Box::pin(async move {
                    let row = txn.query_one(&take).await?;
                    row.map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
                        .transpose()
                })
            })
            .await?;
        let Some((payload, stored_at)) = taken else { return Ok(None) };
        let row = sent_message::Model { device_id, chat_jid, message_id, payload, stored_at };
        let row = sealed::open::<sent_message::Entity>(self.sealer().await?, row)?;
        Ok(Some(row.payload))
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> Result<u32> {
        let delete = sent_message::Entity::delete_many()
            .filter(sent_message::Column::DeviceId.eq(self.device_id))
            .filter(sent_message::Column::StoredAt.lt(cutoff_timestamp))
            .build(self.database());
        self.delete(delete).await
    }

    async fn store_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
        message: &[u8],
    ) -> Result<()> {
        self.hold_pending(&[PendingInboundRow { chat, sender, id, message }]).await
    }

    async fn get_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>> {
        self.find_pending(chat, sender, id).await
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
        self.drop_pending(&[PendingInboundKey { chat, sender, id }]).await
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
        self.expire_pending(cutoff_timestamp).await
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        self.hold_pending(rows).await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        self.drop_pending(keys).await
    }
}
