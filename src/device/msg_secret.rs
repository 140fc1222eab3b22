//! The secrets of messages, which open what refers to them later.

use std::collections::{BTreeMap, btree_map};

use async_trait::async_trait;
use entity::device::msg_secret::{Column, Entity, Model};
use sea_orm::{
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryTrait,
    sea_query::{Expr, OnConflict},
};
use wacore::store::traits::{
    MsgSecretEntry, MsgSecretStore, merge_msg_secret_expiry, merge_msg_secret_message_ts,
};

use super::{Backend, Result, sealed, text, upsert};

/// The client's rules for a secret that is stored again: the later deadline wins, and never is
/// later than any; the later time of the message wins.
fn merging() -> OnConflict {
    OnConflict::columns([Column::DeviceId, Column::Chat, Column::Sender, Column::MessageId])
        .update_column(Column::Secret)
        .value(
            Column::ExpiresAt,
            Expr::cust(
                "CASE WHEN wa_msg_secret.expires_at = 0 OR excluded.expires_at = 0 THEN 0 \
                 WHEN wa_msg_secret.expires_at > excluded.expires_at THEN wa_msg_secret.expires_at \
                 ELSE excluded.expires_at END",
            ),
        )
        .value(
            Column::MessageTs,
            Expr::cust(
                "CASE WHEN wa_msg_secret.message_ts > excluded.message_ts \
                 THEN wa_msg_secret.message_ts ELSE excluded.message_ts END",
            ),
        )
        .to_owned()
}

#[async_trait]
impl MsgSecretStore for Backend {
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        let stored = entries.len();
        // One row a key: PostgreSQL does not update a row twice in one statement.
        let mut rows: BTreeMap<(String, String, String), Model> = BTreeMap::new();
        for entry in entries {
            let key = (text(&entry.chat), text(&entry.sender), text(&entry.msg_id));
            let mut row = Model {
                device_id: self.device_id,
                chat: key.0.clone(),
                sender: key.1.clone(),
                message_id: key.2.clone(),
                secret: entry.secret.to_vec(),
                expires_at: entry.expires_at,
                message_ts: entry.message_ts,
            };
            match rows.entry(key) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(row);
                }
                btree_map::Entry::Occupied(mut occupied) => {
                    let before = occupied.get();
                    row.expires_at = merge_msg_secret_expiry(before.expires_at, row.expires_at);
                    row.message_ts = merge_msg_secret_message_ts(before.message_ts, row.message_ts);
                    occupied.insert(row);
                }
            }
        }
        let sealer = self.sealer().await?;
        let rows =
            rows.into_values().map(|row| sealed::seal::<Entity>(sealer, row).into_active_model());
        self.execute(upsert(self.database(), rows, &merging())).await?;
        Ok(stored)
    }

    async fn get_msg_secret(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<Vec<u8>>> {
        let found = self.get_msg_secret_with_ts(chat, sender, msg_id).await?;
        Ok(found.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> Result<Option<(Vec<u8>, i64)>> {
        let key = (self.device_id, text(chat), text(sender), text(msg_id));
        let row = self.one_sealed(Entity::find_by_id(key)).await?;
        Ok(row.map(|row| (row.secret, row.message_ts)))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        let delete = Entity::delete_many()
            .filter(Column::DeviceId.eq(self.device_id))
            .filter(Column::ExpiresAt.ne(0))
            .filter(Column::ExpiresAt.lte(cutoff_timestamp))
            .build(self.database());
        let deleted = self.execute(vec![delete]).await?;
        Ok(u32::try_from(deleted).unwrap_or(u32::MAX))
    }
}
