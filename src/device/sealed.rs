//! Which values of a device's tables are secrets, and how they are sealed and opened.
//!
//! An empty value stays empty: nothing is secret about it, and some queries ask for its length.

use entity::device::{
    self, msg_secret, pending_inbound, prekey, sender_key, sent_message, session, signed_prekey,
    sync_key, tc_token,
};
use entity::id::SessionKey;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, Iterable, ModelTrait,
    PrimaryKeyToColumn, QueryFilter, QueryOrder, QuerySelect, Value, sea_query::Expr,
};
use wacore::store::error::StoreError;

use super::{replacing, run, upsert};
use crate::{
    store::{self, Patience, Store},
    vault::{Column, Part, Sealer},
};

/// Rows that are sealed in one unit of work.
const CHUNK: u64 = 500;

/// A table of one device's state with one column of secrets.
pub(super) trait Sealed: EntityTrait {
    const SECRET: Column;

    /// The column that says whose device it is.
    fn device() -> Self::Column;

    /// The row's key, as the sealed value is bound to it.
    fn key(row: &Self::Model) -> Vec<Part<'_>>;

    fn value(row: &mut Self::Model) -> Option<&mut Vec<u8>>;
}

macro_rules! sealed {
    ($table:literal, $module:ident . $value:ident, keyed by $($key:ident),+) => {
        impl Sealed for $module::Entity {
            const SECRET: Column = Column::new($table, stringify!($value));

            fn device() -> $module::Column {
                $module::Column::DeviceId
            }

            fn key(row: &$module::Model) -> Vec<Part<'_>> {
                vec![Part::from(row.device_id), $(Part::from(&row.$key)),+]
            }

            fn value(row: &mut $module::Model) -> Option<&mut Vec<u8>> {
                Some(&mut row.$value)
            }
        }
    };
}

sealed!("wa_session", session.record, keyed by address);
sealed!("wa_prekey", prekey.record, keyed by prekey_id);
sealed!("wa_signed_prekey", signed_prekey.record, keyed by prekey_id);
sealed!("wa_sender_key", sender_key.record, keyed by address);
sealed!("wa_sync_key", sync_key.key_data, keyed by key_id);
sealed!("wa_tc_token", tc_token.token, keyed by jid);
sealed!("wa_sent_message", sent_message.payload, keyed by chat_jid, message_id);
sealed!("wa_pending_inbound", pending_inbound.message, keyed by chat, sender, message_id);
sealed!("wa_msg_secret", msg_secret.secret, keyed by chat, sender, message_id);

impl Sealed for device::Entity {
    const SECRET: Column = Column::new("device", "state");

    fn device() -> device::Column {
        device::Column::Id
    }

    fn key(row: &device::Model) -> Vec<Part<'_>> {
        vec![Part::from(row.id)]
    }

    fn value(row: &mut device::Model) -> Option<&mut Vec<u8>> {
        row.state.as_mut()
    }
}

/// Seals a device's saved form, which is written without the rest of its row.
pub(super) fn seal_state(sealer: &Sealer, id: i32, state: &[u8]) -> Vec<u8> {
    sealer.seal(device::Entity::SECRET, &[Part::from(id)], state)
}

/// Seals the secret of a row that is to be written.
pub(super) fn seal<E: Sealed>(sealer: &Sealer, mut row: E::Model) -> E::Model {
    if let Some(value) = E::value(&mut row).map(std::mem::take).filter(|value| !value.is_empty()) {
        let stored = sealer.seal(E::SECRET, &E::key(&row), &value);
        if let Some(place) = E::value(&mut row) {
            *place = stored;
        }
    }
    row
}

/// Opens the secret of a row that was read.
pub(super) fn open<E: Sealed>(sealer: &Sealer, mut row: E::Model) -> Result<E::Model, StoreError> {
    if let Some(stored) = E::value(&mut row).map(std::mem::take).filter(|value| !value.is_empty()) {
        let opened = sealer.open(E::SECRET, &E::key(&row), &stored).map_err(|err| {
            sealer.count_unsealed(err);
            let (table, column) = (E::SECRET.table(), E::SECRET.name());
            StoreError::Validation(format!("{table}.{column}: {err}"))
        })?;
        if let Some(place) = E::value(&mut row) {
            *place = opened;
        }
    }
    Ok(row)
}

/// Whether the secret of a row opens, or there is none.
fn is_sealed<E: Sealed>(sealer: &Sealer, mut row: E::Model) -> bool {
    let stored = E::value(&mut row).map(std::mem::take).filter(|value| !value.is_empty());
    stored.is_none_or(|stored| sealer.open(E::SECRET, &E::key(&row), &stored).is_ok())
}

/// Seals what was written before there were keys. Returns how many rows.
pub async fn seal_old_rows(store: &Store) -> Result<u64, store::Error> {
    let mut rows = 0;
    for (id, key) in devices(store).await? {
        let Some(sealer) = store.sealer_of(&key, Patience::Fail).await? else { continue };
        rows += table::<device::Entity>(store, &sealer, id).await?;
        rows += table::<session::Entity>(store, &sealer, id).await?;
        rows += table::<prekey::Entity>(store, &sealer, id).await?;
        rows += table::<signed_prekey::Entity>(store, &sealer, id).await?;
        rows += table::<sender_key::Entity>(store, &sealer, id).await?;
        rows += table::<sync_key::Entity>(store, &sealer, id).await?;
        rows += table::<tc_token::Entity>(store, &sealer, id).await?;
        rows += table::<sent_message::Entity>(store, &sealer, id).await?;
        rows += table::<pending_inbound::Entity>(store, &sealer, id).await?;
        rows += table::<msg_secret::Entity>(store, &sealer, id).await?;
    }
    Ok(rows)
}

async fn devices(store: &Store) -> Result<Vec<(i32, SessionKey)>, store::Error> {
    store
        .read(Patience::Fail, |db| {
            Box::pin(async move {
                device::Entity::find()
                    .select_only()
                    .columns([device::Column::Id, device::Column::SessionKey])
                    .order_by_asc(device::Column::Id)
                    .into_tuple()
                    .all(db)
                    .await
            })
        })
        .await
}

/// Seals what is in clear of one device in one table.
async fn table<E>(store: &Store, sealer: &Sealer, device_id: i32) -> Result<u64, store::Error>
where
    E: Sealed,
    E::Model: IntoActiveModel<E::ActiveModel> + Send + Sync,
    E::ActiveModel: Send,
{
    store
        .in_chunks(sealer, move |txn, sealer, after: Option<Vec<Value>>| {
            Box::pin(async move {
                let key = || E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column);
                let mut rows = E::find().filter(E::device().eq(device_id)).limit(CHUNK);
                if let Some(after) = after {
                    let own = Expr::tuple(key().map(ColumnTrait::into_expr));
                    rows = rows.filter(own.gt(Expr::tuple(after.into_iter().map(Expr::val))));
                }
                for column in key() {
                    rows = rows.order_by_asc(column);
                }
                let rows = rows.lock_exclusive().all(txn).await?;
                let last = rows.last().map(|row| key().map(|column| row.get(column)).collect());
                let clear: Vec<E::ActiveModel> = rows
                    .into_iter()
                    .filter(|row| !is_sealed::<E>(sealer, row.clone()))
                    .map(|row| seal::<E>(sealer, row).into_active_model())
                    .collect();
                let found = clear.len() as u64;
                let put = upsert(txn.get_database_backend(), clear, &replacing::<E>());
                run(txn, &put).await?;
                Ok((last, found))
            })
        })
        .await
}
