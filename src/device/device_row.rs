//! The device itself: made with its session, saved whole by the client, erased at logout.

use std::sync::Arc;

use async_trait::async_trait;
use entity::{UnixMillis, device, id::SessionKey, session};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use wacore::{
    client_profile::ClientProfile,
    store::{Device, device::DEVICE_PROPS, error::StoreError, traits::DeviceStore},
};
use zeroize::Zeroizing;

use super::{Backend, Result, is_lease_lost, sealed};
use crate::{
    fault::{late, moment},
    store::{self, Patience, Store},
    vault::Sealer,
};

/// The device of a session: makes it, or finds the one made before. The session's row says which.
pub async fn create(store: &Store, key: &SessionKey) -> Result<i32, store::Error> {
    let now = store.clock().now();
    let lane = key.as_str().to_owned();
    let key = key.clone();
    store
        .writer()
        .run(&lane, Patience::Wait, move |txn| {
            let key = key.clone();
            Box::pin(async move { create_in(txn, key, now).await })
        })
        .await
}

async fn create_in(
    txn: &DatabaseTransaction,
    key: SessionKey,
    now: UnixMillis,
) -> Result<i32, DbErr> {
    let fresh = device::ActiveModel {
        id: NotSet,
        session_key: Set(key.clone()),
        state: Set(None),
        pn: Set(None),
        lid: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    };
    device::Entity::insert(fresh)
        .on_conflict(OnConflict::column(device::Column::SessionKey).do_nothing().to_owned())
        .try_insert()
        .exec(txn)
        .await?;
    let device = device::Entity::find()
        .filter(device::Column::SessionKey.eq(key.clone()))
        .one(txn)
        .await?
        .ok_or(DbErr::RecordNotInserted)?;
    session::Entity::update_many()
        .col_expr(session::Column::DeviceId, Expr::value(device.id))
        .filter(session::Column::Id.eq(key))
        .exec(txn)
        .await?;
    Ok(device.id)
}

/// Forgets a device and everything kept for it. The next run of its session pairs anew.
pub async fn erase(store: &Store, device_id: i32) -> Result<(), store::Error> {
    let row = store
        .read(Patience::Wait, move |db| {
            Box::pin(async move { device::Entity::find_by_id(device_id).one(db).await })
        })
        .await?;
    let Some(row) = row else { return Ok(()) };
    // In the session's own lane: after whatever its client has still written.
    store
        .writer()
        .run(row.session_key.as_str(), Patience::Wait, move |txn| {
            Box::pin(async move {
                device::Entity::delete_by_id(device_id).exec(txn).await?;
                session::Entity::update_many()
                    .col_expr(session::Column::DeviceId, Expr::value(None::<i32>))
                    .filter(session::Column::DeviceId.eq(device_id))
                    .exec(txn)
                    .await?;
                Ok(())
            })
        })
        .await
}

/// Forgets every Signal session and every group's sender keys, of all devices.
///
/// Identities and prekeys stay. For a database that was restored: a ratchet that goes on from an old state uses its counters
/// a second time, a new one does not. Contacts are asked for again what cannot be read.
pub async fn forget_signal_sessions(store: &Store) -> Result<(), store::Error> {
    store
        .writer()
        .run("restored", Patience::Fail, |txn| {
            Box::pin(async move {
                for table in ["wa_session", "wa_sender_key", "wa_sender_key_device", "wa_base_key"]
                {
                    txn.execute_unprepared(&format!("DELETE FROM {table}")).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Whether the device is linked to an account, as far as the database knows: after a crash, that is
/// what counts.
pub async fn is_paired(store: &Store, device_id: i32) -> Result<bool, store::Error> {
    let row = store
        .read(Patience::Wait, move |db| {
            Box::pin(async move { device::Entity::find_by_id(device_id).one(db).await })
        })
        .await?;
    Ok(row.is_some_and(|row| row.pn.is_some()))
}

/// What is written of a device.
fn columns(
    sealer: &Sealer,
    id: i32,
    device: &Device,
    now: UnixMillis,
) -> Result<device::ActiveModel> {
    let state = Zeroizing::new(serde_json::to_vec(device).map_err(unreadable)?);
    Ok(device::ActiveModel {
        state: Set(Some(sealed::seal_state(sealer, id, &state))),
        pn: Set(device.pn.as_ref().map(ToString::to_string)),
        lid: Set(device.lid.as_ref().map(ToString::to_string)),
        updated_at: Set(now),
        ..Default::default()
    })
}

/// The device an opened row holds; none before the client saved one.
fn device_of(row: &device::Model) -> Result<Option<Device>> {
    let Some(state) = &row.state else { return Ok(None) };
    let mut device: Device = serde_json::from_slice(state).map_err(unreadable)?;
    // Not part of the saved form. The client sets its own over these before it connects; a device
    // not yet paired would else introduce itself without any properties.
    device.device_props = Arc::new(DEVICE_PROPS.clone());
    device.client_profile = ClientProfile::web();
    Ok(Some(device))
}

fn unreadable(err: serde_json::Error) -> StoreError {
    StoreError::Serialization(Box::new(err))
}

impl Backend {
    async fn row(&self) -> Result<device::Model> {
        self.one(device::Entity::find_by_id(self.device_id))
            .await?
            .ok_or(StoreError::DeviceNotFound(self.device_id))
    }

    /// Writes the device. Once it returns, this is on disk.
    pub(crate) async fn keep(&self, device: &Device) -> Result<()> {
        moment!("device.before_save");
        self.write_row(device, false).await?;
        moment!("device.saved");
        Ok(())
    }

    /// Writes the device; with `only_if_new`, if none was saved before.
    async fn write_row(&self, device: &Device, only_if_new: bool) -> Result<()> {
        let device_id = self.device_id;
        let now = self.store.clock().now();
        let columns = columns(self.sealer().await?, device_id, device, now)?;
        let found = self
            .unit(move |txn| {
                let columns = columns.clone();
                Box::pin(async move {
                    let mut update = device::Entity::update_many()
                        .set(columns)
                        .filter(device::Column::Id.eq(device_id));
                    if only_if_new {
                        update = update.filter(device::Column::State.is_null());
                    }
                    Ok(update.exec(txn).await?.rows_affected > 0)
                })
            })
            .await?;
        // Erased under our feet: the session was logged out or deleted.
        if found || only_if_new { Ok(()) } else { Err(StoreError::DeviceNotFound(device_id)) }
    }
}

#[async_trait]
impl DeviceStore for Backend {
    async fn save(&self, device: &Device) -> Result<()> {
        // The library's own saves come when their task gets its turn.
        late!("device.saves");
        match self.keep(device).await {
            // Somebody else runs the session: nothing of this client leaves any more, and what comes after it
            // begins with what is on disk. A library that is told so says that its saving fails.
            Err(StoreError::Database(error)) if is_lease_lost(&*error) => Ok(()),
            kept => kept,
        }
    }

    async fn load(&self) -> Result<Option<Device>> {
        let row = sealed::open::<device::Entity>(self.sealer().await?, self.row().await?)?;
        device_of(&row)
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.row().await?.state.is_some())
    }

    async fn create(&self) -> Result<i32> {
        // The row was made with the session; what the client asks for is a device in it.
        self.write_row(&Device::new(), true).await?;
        Ok(self.device_id)
    }
}
