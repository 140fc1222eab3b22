//! Whether the schema is the one this program was written for, and making it so.

use std::{collections::BTreeSet, time::Duration};

use migration::Migrator;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, EntityTrait};
use sea_orm_migration::{
    IntoSchemaManagerConnection, MigratorTrait, SchemaManager, seaql_migrations,
};

use super::{
    connect::{Connector, OpenError},
    turns::{self, Turn},
};
use crate::fault::moment;

/// Held while migrating on PostgreSQL, so that two daemons starting together do it one after the
/// other. Any number will do; this one is "wagate" in hexadecimal.
const MIGRATION_LOCK: &str = "131260229973093";

/// How a database's schema stands to this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the one this program was written for.
    Current,
    /// These steps are missing, oldest first; all of them where there is nothing yet.
    Older(Vec<String>),
    /// These steps are of a newer program, which alone knows what they changed.
    Newer(Vec<String>),
}

/// Compares the steps that a database has seen with those that this program knows. Reads only.
pub(super) async fn state<'c, C>(db: &'c C) -> Result<State, DbErr>
where
    C: ConnectionTrait,
    &'c C: IntoSchemaManagerConnection<'c>,
{
    Ok(compare(&applied(db).await?))
}

/// The same of a database that was brought up to date before: one read.
pub(super) async fn state_now(db: &impl ConnectionTrait) -> Result<State, DbErr> {
    let rows = seaql_migrations::Entity::find().all(db).await?;
    Ok(compare(&rows.into_iter().map(|row| row.version).collect()))
}

fn compare(applied: &BTreeSet<String>) -> State {
    let known: BTreeSet<String> =
        Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
    let newer: Vec<String> = applied.difference(&known).cloned().collect();
    if !newer.is_empty() {
        return State::Newer(newer);
    }
    let missing: Vec<String> = known.difference(applied).cloned().collect();
    if missing.is_empty() { State::Current } else { State::Older(missing) }
}

/// Every step, as for a database that has seen none.
pub(super) fn all_steps() -> Vec<String> {
    Migrator::migrations().iter().map(|step| step.name().to_owned()).collect()
}

/// Migrates, or refuses to go on: with steps missing when `migrate` is off, and always with steps
/// this program does not know.
pub(super) async fn bring_up_to_date(
    connector: &Connector,
    db: &DatabaseConnection,
    migrate: bool,
    patience: Duration,
) -> Result<(), OpenError> {
    if connector.is_sqlite() || !migrate {
        return migrate_in_turn(db, migrate, None).await;
    }
    let holder = connector.holder().await.map_err(OpenError::Connect)?;
    let turn = turns::take(holder, MIGRATION_LOCK, "migrating", patience).await;
    let Some(turn) = turn.map_err(OpenError::Connect)? else {
        return Err(OpenError::Migrating(patience));
    };
    let outcome = migrate_in_turn(db, migrate, Some(&turn)).await;
    turn.over().await;
    outcome
}

/// The same, with nobody else at it.
async fn migrate_in_turn(
    db: &DatabaseConnection,
    migrate: bool,
    turn: Option<&Turn>,
) -> Result<(), OpenError> {
    let pending = match state(db).await.map_err(OpenError::Connect)? {
        State::Current => return Ok(()),
        State::Newer(newer) => return Err(OpenError::Newer(newer)),
        State::Older(pending) => pending,
    };
    if !migrate {
        return Err(OpenError::Pending(pending));
    }
    tracing::info!(database.migrations = pending.len(), "Bringing the schema up to date");
    moment!("start.before_migration");
    for _ in &pending {
        if let Some(turn) = turn {
            turn.check().await.map_err(OpenError::Connect)?;
        }
        Migrator::up(db, Some(1)).await.map_err(OpenError::Migrate)?;
    }
    moment!("start.migrated");
    Ok(())
}

/// The steps this database has seen. Reads only: an unmigrated database stays untouched.
async fn applied<'c, C>(db: &'c C) -> Result<BTreeSet<String>, DbErr>
where
    C: ConnectionTrait,
    &'c C: IntoSchemaManagerConnection<'c>,
{
    if !SchemaManager::new(db).has_table("seaql_migrations").await? {
        return Ok(BTreeSet::new());
    }
    let rows = seaql_migrations::Entity::find().all(db).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}
