//! What a database is like, seen from outside: for commands that tell, and change nothing.

use entity::{UnixMillis, event, meta::account, session, state::DesiredState};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
};

use super::{
    connect::{Connector, OpenError, Options},
    keys,
    schema::{self, State},
    tokens::{Worth, worth},
};
use crate::vault::Wrapped;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Look {
    pub schema: State,
    /// The data keys, wrapped as they are.
    pub keys: Vec<Wrapped>,
    /// Sessions that run whenever a daemon does; only with a current schema.
    pub running: Option<u64>,
    /// Whether organizations have accounts at Meta; only with a current schema.
    pub has_accounts: Option<bool>,
    /// When the last event was recorded; only with a current schema.
    pub newest: Option<UnixMillis>,
    /// What the token is worth whose secret has the hash that was asked for; only with a current schema.
    pub token: Option<Worth>,
    /// Why PostgreSQL takes no writes, if it does not.
    pub read_only: Option<&'static str>,
    /// The first thing that is wrong with SQLite's file, where that was asked for.
    pub damage: Option<String>,
}

/// How to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// No daemon is running on it.
    pub alone: bool,
    /// Read all of SQLite's file, and tell whether it hangs together.
    pub through: bool,
    /// The hash of a secret that is looked for, and what time it is.
    pub secret: Option<(String, UnixMillis)>,
}

/// Looks at a database. Nothing is written, nothing migrated, no file made. None where there is none
/// yet.
pub async fn look(options: &Options, manner: Manner) -> Result<Option<Look>, OpenError> {
    let connector = Connector::new(options.clone())?;
    let db = connector.inspector(manner.alone).await.map_err(OpenError::Connect)?;
    let Some(db) = db else { return Ok(None) };
    let seen = look_with(&db, &manner).await;
    // It goes away in any case.
    db.close().await.ok();
    seen.map(Some).map_err(OpenError::Connect)
}

/// Every step of the schema, as an empty database lacks them.
pub fn steps() -> Vec<String> {
    schema::all_steps()
}

async fn look_with(db: &DatabaseConnection, manner: &Manner) -> Result<Look, DbErr> {
    let sqlite = db.get_database_backend() == DbBackend::Sqlite;
    // First, as nothing that a damaged file answers is worth much.
    let damage = if sqlite && manner.through { damage(db).await? } else { None };
    let schema = schema::state(db).await?;
    let current = schema == State::Current;
    Ok(Look {
        keys: keys::all_if_there(db).await?,
        running: if current { Some(running(db).await?) } else { None },
        token: match &manner.secret {
            Some((hash, now)) if current => Some(worth(db, hash, *now).await?),
            _ => None,
        },
        has_accounts: if current { Some(has_accounts(db).await?) } else { None },
        newest: if current { newest(db).await? } else { None },
        read_only: if sqlite { None } else { read_only(db).await? },
        schema,
        damage,
    })
}

async fn running(db: &DatabaseConnection) -> Result<u64, DbErr> {
    session::Entity::find()
        .filter(session::COLUMN.desired_state.eq(DesiredState::Running))
        .count(db)
        .await
}

async fn has_accounts(db: &DatabaseConnection) -> Result<bool, DbErr> {
    Ok(account::Entity::find().limit(1).count(db).await? > 0)
}

async fn newest(db: &DatabaseConnection) -> Result<Option<UnixMillis>, DbErr> {
    // Ids begin with the time and have an index, which the time itself has not.
    event::Entity::find()
        .select_only()
        .column(event::Column::RecordedAt)
        .order_by_desc(event::Column::Id)
        .limit(1)
        .into_tuple()
        .one(db)
        .await
}

/// <https://www.postgresql.org/docs/current/functions-admin.html>: a standby is in recovery.
async fn read_only(db: &DatabaseConnection) -> Result<Option<&'static str>, DbErr> {
    let ask = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
               has_schema_privilege(current_schema(), 'CREATE')";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, ask)).await?;
    let Some(row) = row else { return Ok(None) };
    let (standby, only_reads, creates): (bool, bool, Option<bool>) =
        (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    Ok(if standby {
        Some("it is a standby, which takes no writes")
    } else if only_reads {
        Some("its transactions are read-only")
    } else if creates != Some(true) {
        Some("its user may not create tables")
    } else {
        None
    })
}

async fn damage(db: &DatabaseConnection) -> Result<Option<String>, DbErr> {
    let ask = Statement::from_string(DbBackend::Sqlite, "PRAGMA quick_check(1)");
    let Some(row) = db.query_one_raw(ask).await? else { return Ok(None) };
    let verdict: String = row.try_get_by_index(0)?;
    Ok((verdict != "ok").then_some(verdict))
}
