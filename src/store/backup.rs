//! A copy of an SQLite database, made while others write to it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use super::connect::{Connector, OpenError, Options};

/// Why there is no copy. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A backup never replaces anything.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The copy's path is not text, which the database's own command wants.
    #[error("the path of the copy is not UTF-8")]
    Path,
    /// The file cannot be made, or not be put in its place.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The URL, or the file behind it.
    #[error("cannot open the database")]
    Open(#[from] OpenError),
    /// The database could not be read, or the copy not be written.
    #[error("the database cannot be copied")]
    Copy(#[source] DbErr),
    /// The copy is not what it should be.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

/// What a copy is at.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// A file grows.
    Copying {
        /// Which.
        into: &'a Path,
        /// How many bytes it will have, about; none if nobody knows.
        of: Option<u64>,
    },
    /// Another program fills a database.
    Filling,
    /// The copy is read once more.
    Checking,
}

/// Whoever wants to know.
pub type Told<'a> = &'a (dyn Fn(Stage<'_>) + Sync);

/// Copies the SQLite database of `options` into the new file `target`, readable by its owner only.
///
/// The copy is of one moment, between two commits: what was committed before this began is in it.
/// Writers are not held up; their log cannot be shortened meanwhile. The copy is checked and on disk
/// under its name before this returns. It lacks the row of `installation`, which says to the daemon
/// that opens it what it is.
pub async fn copy_sqlite(
    options: Options,
    target: &Path,
    told: Told<'_>,
) -> Result<(), BackupError> {
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let outcome = write(options, &partial, target, told).await;
    // Either it has its own name by now, or it is worth nothing.
    fs::remove_file(&partial).ok();
    outcome
}

async fn write(
    options: Options,
    partial: &Path,
    target: &Path,
    told: Told<'_>,
) -> Result<(), BackupError> {
    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    // SQLite writes into an empty file, and leaves its mode alone.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial).map_err(failed)?;
    let path = partial.to_str().ok_or(BackupError::Path)?;

    let source = Connector::new(options)?.writer().await.map_err(BackupError::Copy)?;
    told(Stage::Copying { into: partial, of: content(&source).await });
    let copied = copy(&source, path).await;
    // It has read and nothing else.
    source.close().await.ok();
    copied.map_err(BackupError::Copy)?;

    told(Stage::Checking);
    let copy = open(partial).await.map_err(BackupError::Copy)?;
    let checked = mark_and_check(&copy).await;
    copy.close().await.map_err(BackupError::Copy)?;
    checked?;

    File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    match fs::hard_link(partial, target) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists(target.to_owned()));
        }
        linked => linked.map_err(failed)?,
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// How many bytes of a database are in use.
async fn content(source: &DatabaseConnection) -> Option<u64> {
    let ask = "SELECT (page_count - freelist_count) * page_size \
               FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let row = source.query_one_raw(Statement::from_string(DbBackend::Sqlite, ask)).await.ok()??;
    row.try_get_by_index::<i64>(0).ok()?.try_into().ok()
}

async fn copy(source: &DatabaseConnection, path: &str) -> Result<(), DbErr> {
    // For the copy: it can be made smaller later, whatever the original is like.
    source.execute_unprepared("PRAGMA auto_vacuum = INCREMENTAL").await?;
    let into = "VACUUM INTO ?";
    let into = Statement::from_sql_and_values(DbBackend::Sqlite, into, [path.into()]);
    source.execute_raw(into).await.map(drop)
}

pub(super) async fn open(path: &Path) -> Result<DatabaseConnection, DbErr> {
    let path = path.to_owned();
    let mut options = ConnectOptions::new("sqlite:");
    options.max_connections(1).sqlx_logging(false).map_sqlx_sqlite_opts(move |driver| {
        driver
            .filename(&path)
            .create_if_missing(false)
            .in_memory(false)
            // One file, and nothing beside it.
            .journal_mode(SqliteJournalMode::Delete)
            .synchronous(SqliteSynchronous::Full)
    });
    Database::connect(options).await
}

pub(super) async fn mark_and_check(copy: &DatabaseConnection) -> Result<(), BackupError> {
    let marked = text(copy, "SELECT name FROM sqlite_master WHERE name = 'installation'").await?;
    if marked.is_some() {
        copy.execute_unprepared("DELETE FROM installation").await.map_err(BackupError::Copy)?;
    }
    match text(copy, "PRAGMA integrity_check").await? {
        Some(found) if found == "ok" => {}
        found => return Err(BackupError::Damaged(found.unwrap_or_default())),
    }
    match text(copy, "SELECT \"table\" FROM pragma_foreign_key_check").await? {
        None => Ok(()),
        Some(table) => Err(BackupError::Damaged(format!("rows of {table} belong to nothing"))),
    }
}

/// The first column of a query's first row.
async fn text(db: &DatabaseConnection, ask: &str) -> Result<Option<String>, BackupError> {
    let ask = Statement::from_string(DbBackend::Sqlite, ask);
    let row = db.query_one_raw(ask).await.map_err(BackupError::Copy)?;
    row.map(|row| row.try_get_by_index(0)).transpose().map_err(BackupError::Copy)
}
