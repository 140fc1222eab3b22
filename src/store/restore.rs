//! A copy of a database, put where a daemon will open it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use sea_orm_migration::SchemaManager;

use super::{
    backup::{self, BackupError, Stage, Told},
    connect::{Connector, Options},
    keys,
    schema::{self, State},
};
use crate::vault::Wrapped;

/// Why a copy cannot be put in place. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A database is never replaced.
    #[error("{} is there already: move it away, with what is named like it", .0.display())]
    Exists(PathBuf),
    /// A copy is one file. What has a log beside it is used, or was not closed.
    #[error("{} is there: this is no copy, but a database that is used or was not closed", .0.display())]
    InUse(PathBuf),
    /// The copy cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not a database, or not one of ours.
    #[error("this is no copy of a database of wagate")]
    NotOurs(#[source] Option<DbErr>),
    /// The copy's schema is newer than this program.
    #[error("the copy is of a newer version of this program: it has {}", .0.join(", "))]
    Newer(Vec<String>),
    /// It was copied and is damaged, or could not be written.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// What is in a copy.
#[derive(Clone, Debug)]
pub struct Content {
    /// The data keys, wrapped as they are.
    pub keys: Vec<Wrapped>,
    /// Devices that are linked to an account.
    pub linked: u64,
}

/// A copy that was checked, beside its place. It is removed unless it is put there.
#[derive(Debug)]
pub struct Staged {
    partial: PathBuf,
    target: PathBuf,
    /// What is in it.
    pub content: Content,
}

impl Drop for Staged {
    fn drop(&mut self) {
        fs::remove_file(&self.partial).ok();
    }
}

impl Staged {
    /// Gives it its name, if that is free.
    pub fn put(self) -> Result<(), RestoreError> {
        let failed = |source| BackupError::Write { path: self.target.clone(), source };
        match fs::hard_link(&self.partial, &self.target) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RestoreError::Exists(self.target.clone()));
            }
            linked => linked.map_err(failed)?,
        }
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        Ok(folder.and_then(|folder| folder.sync_all()).map_err(failed)?)
    }
}

/// Copies the SQLite file `copy` beside `target`, readable by its owner only, and checks it. It lacks the
/// row that says it is the original, whether or not `copy` had it.
pub async fn stage_sqlite(
    copy: &Path,
    target: &Path,
    told: Told<'_>,
) -> Result<Staged, RestoreError> {
    // A log that is left would be read into the new file.
    for name in ["", "-wal", "-shm"].map(|end| beside(target, end)) {
        if name.symlink_metadata().is_ok() {
            return Err(RestoreError::Exists(name));
        }
    }
    let log = beside(copy, "-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(RestoreError::InUse(log));
    }
    let unreadable = |source| RestoreError::Read { path: copy.to_owned(), source };
    let mut source = File::open(copy).map_err(unreadable)?;
    let partial = beside(target, &format!(".{}.partial", std::process::id()));
    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(&partial).map_err(failed)?;
    let nothing = Content { keys: Vec::new(), linked: 0 };
    // From here on it is removed when something goes wrong.
    let mut staged = Staged { partial, target: target.to_owned(), content: nothing };
    let of = source.metadata().ok().map(|found| found.len());
    told(Stage::Copying { into: &staged.partial, of });
    io::copy(&mut source, &mut file).map_err(failed)?;
    drop(file);

    told(Stage::Checking);
    let db = backup::open(&staged.partial).await.map_err(not_ours)?;
    let content = look(&db).await;
    let checked = backup::mark_and_check(&db).await;
    let closed = db.close().await;
    staged.content = content?;
    checked?;
    closed.map_err(BackupError::Copy)?;
    File::open(&staged.partial).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(staged)
}

/// Sees to it that the database that was just filled from a copy is known as one, and says what is in it.
pub async fn mark(options: &Options) -> Result<Content, RestoreError> {
    let connector = Connector::new(options.clone()).map_err(BackupError::Open)?;
    let db = connector.writer().await.map_err(BackupError::Copy)?;
    let content = look(&db).await;
    let marked = unname(&db).await;
    db.close().await.ok();
    let content = content?;
    marked.map_err(BackupError::Copy)?;
    Ok(content)
}

/// Takes its name from it, if it is of a version that has names.
async fn unname(db: &DatabaseConnection) -> Result<(), DbErr> {
    if SchemaManager::new(db).has_table("installation").await? {
        db.execute_unprepared("DELETE FROM installation").await?;
    }
    Ok(())
}

async fn look(db: &DatabaseConnection) -> Result<Content, RestoreError> {
    match schema::state(db).await.map_err(not_ours)? {
        State::Newer(steps) => return Err(RestoreError::Newer(steps)),
        State::Older(missing) if missing == schema::all_steps() => {
            return Err(RestoreError::NotOurs(None));
        }
        State::Older(_) | State::Current => {}
    }
    let keys = keys::all_if_there(db).await.map_err(not_ours)?;
    let linked = linked(db).await.map_err(not_ours)?;
    Ok(Content { keys, linked })
}

async fn linked(db: &DatabaseConnection) -> Result<u64, DbErr> {
    if !SchemaManager::new(db).has_table("device").await? {
        return Ok(0);
    }
    let ask = "SELECT count(*) FROM device WHERE pn IS NOT NULL";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), ask)).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

fn not_ours(error: DbErr) -> RestoreError {
    RestoreError::NotOurs(Some(error))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
