//! App state: its keys, how far each collection is known, and the MACs behind it.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use entity::device::{mutation_mac, sync_key, sync_version};
use sea_orm::{
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    store::{
        error::StoreError,
        traits::{AppStateSyncKey, AppSyncStore},
    },
};

use super::{BINDS, Backend, Result, replacing, run, sealed, text, upsert};
use crate::fault::moment;

impl Backend {
    fn macs(&self, name: &str) -> sea_orm::Select<mutation_mac::Entity> {
        mutation_mac::Entity::find()
            .filter(mutation_mac::Column::DeviceId.eq(self.device_id))
            .filter(mutation_mac::Column::Name.eq(text(name)))
    }
}

#[async_trait]
impl AppSyncStore for Backend {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        let key = (self.device_id, key_id.to_vec());
        let row = self.one_sealed(sync_key::Entity::find_by_id(key)).await?;
        Ok(row.map(|row| AppStateSyncKey {
            key_data: row.key_data,
            fingerprint: row.fingerprint,
            timestamp: row.key_timestamp,
        }))
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        let row = sync_key::Model {
            device_id: self.device_id,
            key_id: key_id.to_vec(),
            key_data: key.key_data,
            fingerprint: key.fingerprint,
            key_timestamp: key.timestamp,
            position: 0,
        };
        let row = sealed::seal::<sync_key::Entity>(self.sealer().await?, row);
        let database = self.database();
        self.unit(move |txn| {
            let mut row = row.clone();
            Box::pin(async move {
                let last = sync_key::Entity::find()
                    .filter(sync_key::Column::DeviceId.eq(row.device_id))
                    .order_by_desc(sync_key::Column::Position)
                    .limit(1)
                    .one(txn)
                    .await?;
                row.position = last.map_or(0, |last| last.position) + 1;
                let rows = [row.into_active_model()];
                run(txn, &upsert(database, rows, &replacing::<sync_key::Entity>())).await
            })
        })
        .await?;
        moment!("app_state.key_saved");
        Ok(())
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        let key = (self.device_id, text(name));
        match self.one(sync_version::Entity::find_by_id(key)).await? {
            Some(row) => serde_json::from_slice(&row.state)
                .map_err(|err| StoreError::Serialization(Box::new(err))),
            None => Ok(HashState::default()),
        }
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        let state =
            serde_json::to_vec(&state).map_err(|err| StoreError::Serialization(Box::new(err)))?;
        let row = sync_version::Model { device_id: self.device_id, name: text(name), state };
        moment!("app_state.before_version");
        self.execute(self.put([row.into_active_model()])).await?;
        moment!("app_state.version_saved");
        Ok(())
    }

    async fn put_mutation_macs(
        &self,
        name: &str,
        version: u64,
        mutations: &[AppStateMutationMAC],
    ) -> Result<()> {
        let rows: BTreeMap<_, _> = mutations
            .iter()
            .map(|mutation| {
                let row = mutation_mac::Model {
                    device_id: self.device_id,
                    name: text(name),
                    index_mac: mutation.index_mac.clone(),
                    version: version.cast_signed(),
                    value_mac: mutation.value_mac.clone(),
                };
                (&mutation.index_mac, row.into_active_model())
            })
            .collect();
        self.execute(self.put(rows.into_values())).await.map(drop)
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = (self.device_id, text(name), index_mac.to_vec());
        let row = self.one(mutation_mac::Entity::find_by_id(key)).await?;
        Ok(row.map(|row| row.value_mac))
    }

    async fn get_mutation_macs(
        &self,
        name: &str,
        index_macs: &[[u8; 32]],
    ) -> Result<HashMap<[u8; 32], Vec<u8>>> {
        let mut found = HashMap::with_capacity(index_macs.len());
        for some in index_macs.chunks(BINDS) {
            let wanted = some.iter().map(|index_mac| index_mac.to_vec());
            let rows = self.macs(name).filter(mutation_mac::Column::IndexMac.is_in(wanted));
            for row in self.all(rows).await? {
                // Only what was asked for can come back, and that is 32 bytes.
                if let Ok(index_mac) = row.index_mac.try_into() {
                    found.insert(index_mac, row.value_mac);
                }
            }
        }
        Ok(found)
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        let deletes = index_macs.chunks(BINDS).map(|some| {
            mutation_mac::Entity::delete_many()
                .filter(mutation_mac::Column::DeviceId.eq(self.device_id))
                .filter(mutation_mac::Column::Name.eq(text(name)))
                .filter(mutation_mac::Column::IndexMac.is_in(some.iter().cloned()))
                .build(self.database())
        });
        self.execute(deletes.collect()).await.map(drop)
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        let delete = mutation_mac::Entity::delete_many()
            .filter(mutation_mac::Column::DeviceId.eq(self.device_id))
            .filter(mutation_mac::Column::Name.eq(text(name)))
            .build(self.database());
        self.execute(vec![delete]).await.map(drop)
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        let latest = sync_key::Entity::find()
            .filter(sync_key::Column::DeviceId.eq(self.device_id))
            .order_by_desc(sync_key::Column::Position)
            .limit(1);
        Ok(self.one(latest).await?.map(|row| row.key_id))
    }
}
