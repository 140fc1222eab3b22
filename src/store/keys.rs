//! Data keys and the master key they are under: the rows of `crate::vault`.
//!
//! All who change them hold the one row of `vault` locked: no data key is made under a master key that
//! is being replaced.

use std::collections::BTreeMap;

use entity::{
    UnixMillis, data_key,
    id::{OrganizationId, SessionKey},
    kind::AuditAction,
    session, vault as vault_row,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait,
    sea_query::{Expr, OnConflict},
};
use sea_orm_migration::{IntoSchemaManagerConnection, SchemaManager};
use serde_json::json;

use super::{
    Error, Patience, Store,
    audit::{self, By},
    connect::{Connector, OpenError, Options},
    error::Fault,
    group::WRITE,
    schema,
};
use crate::vault::{MasterKey, Sealer, Vault, Wrapped, WrongKey};

/// How often a rotation waits its turn (SQLite's five seconds each) among a busy daemon's commits.
const TURNS: u32 = 12;

/// The data keys of a database that is ours alone. Nothing is written, nothing migrated, no file made; there may be no
/// database yet.
pub async fn inspect(options: &Options) -> Result<Vec<Wrapped>, OpenError> {
    let connector = Connector::new(options.clone())?;
    let Some(db) = connector.inspector(true).await.map_err(OpenError::Connect)? else {
        return Ok(Vec::new());
    };
    let keys = all_if_there(&db).await;
    // It goes away in any case.
    db.close().await.ok();
    keys.map_err(OpenError::Connect)
}

/// Refuses a database whose data keys do not open, before anything is written to it.
pub(super) async fn refuse_other_key(options: &Options, vault: &Vault) -> Result<(), OpenError> {
    for key in inspect(options).await? {
        let organization = key.organization.clone();
        vault.open(&organization, &[key]).map_err(OpenError::MasterKey)?;
    }
    Ok(())
}

/// The data keys of a database that a daemon may be running on.
pub async fn list(options: &Options) -> Result<Vec<Wrapped>, RekeyError> {
    let connector = Connector::new(options.clone())?;
    let db = connector.writer().await.map_err(OpenError::Connect)?;
    let keys = match refuse_newer(&db).await {
        Ok(()) => all_if_there(&db).await.map_err(RekeyError::Database),
        Err(newer) => Err(newer),
    };
    db.close().await.ok();
    let keys = keys?;
    if keys.is_empty() { Err(RekeyError::NothingSealed) } else { Ok(keys) }
}

/// What a newer program has written, it alone can change: its keys may be wrapped otherwise.
async fn refuse_newer<'c, C>(db: &'c C) -> Result<(), RekeyError>
where
    C: ConnectionTrait,
    &'c C: IntoSchemaManagerConnection<'c>,
{
    match schema::state(db).await.map_err(RekeyError::Database)? {
        schema::State::Newer(newer) => Err(OpenError::Newer(newer).into()),
        schema::State::Current | schema::State::Older(_) => Ok(()),
    }
}

pub(super) async fn all_if_there(db: &DatabaseConnection) -> Result<Vec<Wrapped>, DbErr> {
    if SchemaManager::new(db).has_table("data_key").await? {
        all(db, None).await
    } else {
        Ok(Vec::new())
    }
}

/// The data keys of an organization, or of all.
async fn all(
    db: &impl ConnectionTrait,
    organization: Option<&OrganizationId>,
) -> Result<Vec<Wrapped>, DbErr> {
    let mut query = data_key::Entity::find()
        .order_by_asc(data_key::COLUMN.organization_id)
        .order_by_asc(data_key::COLUMN.number);
    if let Some(organization) = organization {
        query = query.filter(data_key::COLUMN.organization_id.eq(organization.clone()));
    }
    query.all(db).await?.into_iter().map(wrapped).collect()
}

fn wrapped(row: data_key::Model) -> Result<Wrapped, DbErr> {
    let number = u32::try_from(row.number)
        .map_err(|_| DbErr::Custom("data_key.number is below zero".to_owned()))?;
    Ok(Wrapped { organization: row.organization_id, number, key: row.wrapped })
}

/// Opens what data keys there are, and takes the vault's row for our master key. Refuses a database
/// that is under another.
pub(super) async fn adopt(
    connector: &Connector,
    vault: &Vault,
    now: UnixMillis,
) -> Result<(), OpenError> {
    let db = connector.writer().await.map_err(OpenError::Connect)?;
    let adopted = adopt_in(&db, vault, now).await;
    db.close().await.ok();
    adopted.map_err(OpenError::Connect)?.map_err(OpenError::MasterKey)
}

async fn adopt_in(
    db: &DatabaseConnection,
    vault: &Vault,
    now: UnixMillis,
) -> Result<Result<(), WrongKey>, DbErr> {
    let txn = db.begin_with_options(WRITE).await?;
    let row =
        vault_row::Entity::find_by_id(vault_row::Entity::ROW).lock_exclusive().one(&txn).await?;
    let keys = all(&txn, None).await?;
    let mut by_organization: BTreeMap<OrganizationId, Vec<Wrapped>> = BTreeMap::new();
    for key in keys {
        by_organization.entry(key.organization.clone()).or_default().push(key);
    }
    for (organization, keys) in &by_organization {
        match vault.open(organization, keys) {
            Ok(sealer) => sealer.into_iter().for_each(|sealer| vault.remember(sealer)),
            Err(wrong) => return Ok(Err(wrong)),
        }
    }

    let master_key_id = vault.master_id().as_str().to_owned();
    match row {
        Some(row) if row.master_key_id == master_key_id => return Ok(Ok(())),
        Some(row) => {
            let mut row = row.into_active_model();
            row.master_key_id = Set(master_key_id);
            vault_row::Entity::update(row).exec(&txn).await?;
        }
        None => {
            // Without sessions there is nothing in clear from before.
            let sessions = session::Entity::find().count(&txn).await?;
            let row = vault_row::Model {
                id: vault_row::Entity::ROW,
                master_key_id: master_key_id.clone(),
                sealed_at: (sessions == 0).then_some(now),
            };
            vault_row::Entity::insert(row.into_active_model())
                .on_conflict(OnConflict::column(vault_row::Column::Id).do_nothing().to_owned())
                .try_insert()
                .exec(&txn)
                .await?;
            // Another daemon may have been faster, with its own key.
            let there = vault_row::Entity::find_by_id(vault_row::Entity::ROW).one(&txn).await?;
            if there.is_some_and(|there| there.master_key_id != master_key_id) {
                return Ok(Err(WrongKey));
            }
        }
    }
    txn.commit().await?;
    Ok(Ok(()))
}

/// An organization's sealer, with the keys that the database has, or a first one made here.
///
/// What is returned is not to be remembered before the transaction is committed.
async fn open_or_make(
    txn: &impl ConnectionTrait,
    vault: &Vault,
    organization: &OrganizationId,
    now: UnixMillis,
) -> Result<Sealer, DbErr> {
    let open = |keys: &[Wrapped]| vault.open(organization, keys).map_err(rotated);
    if let Some(sealer) = open(&all(txn, Some(organization)).await?)? {
        return Ok(sealer);
    }
    let row = vault_row::Entity::find_by_id(vault_row::Entity::ROW)
        .lock_exclusive()
        .one(txn)
        .await?
        .ok_or_else(|| DbErr::Custom("the vault has no row".to_owned()))?;
    let ours = || vault.master_id().as_str() == row.master_key_id;
    if !(ours() || vault.refresh() && ours()) {
        return Err(rotated(WrongKey));
    }
    let Wrapped { organization: _, number, key } = vault.first_data_key(organization);
    let made = data_key::Model {
        organization_id: organization.clone(),
        number: i32::try_from(number).unwrap_or(i32::MAX),
        wrapped: key,
        created_at: now,
    };
    data_key::Entity::insert(made.into_active_model())
        .on_conflict(
            OnConflict::columns([data_key::Column::OrganizationId, data_key::Column::Number])
                .do_nothing()
                .to_owned(),
        )
        .try_insert()
        .exec(txn)
        .await?;
    // The one that is there now: ours, or that of someone faster.
    open(&all(txn, Some(organization)).await?)?
        .ok_or_else(|| DbErr::Custom("a data key is gone that was just made".to_owned()))
}

fn rotated(wrong: WrongKey) -> DbErr {
    DbErr::Custom(format!("{wrong}: it was rotated; restart with the new one"))
}

impl super::Writer {
    /// What seals an organization's secrets.
    pub(super) async fn sealer(
        &self,
        organization: &OrganizationId,
        patience: Patience,
    ) -> Result<Sealer, Error> {
        let vault = self.vault();
        if let Some(sealer) = vault.opened(organization) {
            return Ok(sealer);
        }
        let now = self.now();
        let wanted = organization.clone();
        let sealer = self
            .run(organization.as_str(), patience, {
                let vault = vault.clone();
                move |txn| {
                    let (vault, wanted) = (vault.clone(), wanted.clone());
                    Box::pin(async move { open_or_make(txn, &vault, &wanted, now).await })
                }
            })
            .await?;
        vault.remember(sealer.clone());
        Ok(sealer)
    }
}

impl Store {
    /// What seals and opens an organization's secrets. Its first data key is made when it has none.
    pub async fn sealer(
        &self,
        organization: &OrganizationId,
        patience: Patience,
    ) -> Result<Sealer, Error> {
        self.writer.sealer(organization, patience).await
    }

    /// The same for the organization of a session; none when the session is gone.
    pub async fn sealer_of(
        &self,
        session: &SessionKey,
        patience: Patience,
    ) -> Result<Option<Sealer>, Error> {
        let organization: Option<OrganizationId> = self
            .read(patience, |db| {
                let session = session.clone();
                Box::pin(async move {
                    session::Entity::find_by_id(session)
                        .select_only()
                        .column(session::Column::OrganizationId)
                        .into_tuple()
                        .one(db)
                        .await
                })
            })
            .await?;
        match organization {
            Some(organization) => self.sealer(&organization, patience).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Why a rotation came to nothing. The database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    #[error("cannot open the database")]
    Open(#[from] OpenError),
    #[error("nothing is sealed yet: start the daemon once, it makes the keys")]
    NothingSealed,
    #[error("the database is under another master key than the one given as the old one")]
    WrongKey(#[source] WrongKey),
    #[error("the database refused")]
    Database(#[source] DbErr),
}

/// Wraps all data keys with `new` instead of `old`, in one transaction that is in the audit log, at `at`. Returns how
/// many.
///
/// Daemons may be running: they go on with the data keys they have opened, and nothing that is
/// sealed with those changes.
pub async fn rewrap(
    options: &Options,
    old: &MasterKey,
    new: &MasterKey,
    by: &By,
    at: UnixMillis,
) -> Result<usize, RekeyError> {
    let connector = Connector::new(options.clone())?;
    let db = connector.writer().await.map_err(OpenError::Connect)?;
    let mut turn = 1;
    let rewrapped = loop {
        match rewrap_in(&db, old, new, by, at).await {
            Err(RekeyError::Database(err))
                if Fault::of(&err) == Fault::Contention && turn < TURNS =>
            {
                turn += 1;
            }
            rewrapped => break rewrapped,
        }
    };
    db.close().await.ok();
    rewrapped
}

async fn rewrap_in(
    db: &DatabaseConnection,
    old: &MasterKey,
    new: &MasterKey,
    by: &By,
    at: UnixMillis,
) -> Result<usize, RekeyError> {
    let txn = db.begin_with_options(WRITE).await.map_err(RekeyError::Database)?;
    let row = vault_row::Entity::find_by_id(vault_row::Entity::ROW).lock_exclusive();
    row.one(&txn).await.map_err(RekeyError::Database)?;
    // It may have been brought up to date since the keys were looked at.
    refuse_newer(&txn).await?;
    let keys = all(&txn, None).await.map_err(RekeyError::Database)?;
    for key in &keys {
        let Wrapped { organization, number, key } =
            old.rewrap(new, key).map_err(RekeyError::WrongKey)?;
        data_key::Entity::update_many()
            .col_expr(data_key::Column::Wrapped, Expr::value(key))
            .filter(data_key::COLUMN.organization_id.eq(organization))
            .filter(data_key::COLUMN.number.eq(i32::try_from(number).unwrap_or(i32::MAX)))
            .exec(&txn)
            .await
            .map_err(RekeyError::Database)?;
    }
    vault_row::Entity::update_many()
        .col_expr(vault_row::Column::MasterKeyId, Expr::value(new.id().as_str()))
        .exec(&txn)
        .await
        .map_err(RekeyError::Database)?;
    // It may be older than the log.
    if SchemaManager::new(&txn).has_table("audit").await.map_err(RekeyError::Database)? {
        let (before, after) = (old.id(), new.id());
        let detail = json!({ "before": before.as_str(), "dataKeys": keys.len() });
        let what = (AuditAction::MasterKeyRotated, after.as_str());
        let written = audit::write_of_daemon(&txn, by, at, what, &detail).await;
        written.map_err(RekeyError::Database)?;
    }
    txn.commit().await.map_err(RekeyError::Database)?;
    Ok(keys.len())
}
