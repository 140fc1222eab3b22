//! From a URL to open connections and an up-to-date schema.
//!
//! | scheme | database |
//! |---|---|
//! | `sqlite:`, `sqlite://` | a file: WAL, `synchronous=FULL`, one writer connection, a few readers |
//! | `postgres://`, `postgresql://` | PostgreSQL: several writer connections, a pool of readers |
//!
//! Anything else is refused, without repeating the URL: it may hold a password.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr,
    sqlx::{
        postgres::PgConnectOptions,
        sqlite::{SqliteAutoVacuum, SqliteJournalMode, SqliteSynchronous},
    },
};

use super::{
    limits::Learned,
    reader::Reader,
    schema,
    trust::{self, Trust},
};
use crate::vault::WrongKey;

/// How long SQLite waits at most for another process's lock (a backup, a shell) before it says busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a lane may keep of SQLite's pages in memory, in KiB (negative, as SQLite has it): as much as most
/// groups change, and little beside what a process with some sessions takes.
const LANE_CACHE: &str = "-4096";

/// A pooled PostgreSQL connection is replaced after this long; its server process grows with time.
const LIFETIME: Duration = Duration::from_hours(1);

/// What to open, and how.
#[derive(Clone)]
pub struct Options {
    /// Where the rows are. May hold a password.
    pub url: String,
    /// Whether to bring an old schema up to date, or to refuse it.
    pub migrate: bool,
    /// Connections that write at the same time, on PostgreSQL. SQLite has one writer by nature.
    pub lanes: usize,
    /// Connections that read at the same time.
    pub readers: u32,
    /// How long to wait for a free connection.
    pub acquire_timeout: Duration,
    /// How many units of work share a commit at most. One makes every unit a commit of its own,
    /// which only a benchmark wants.
    pub group_limit: usize,
    /// A group whose units, or whose commit, take longer has lost its connection without being told, or one of its
    /// units takes too long for anybody: that one is refused. A statement that reads has as long.
    pub deadline: Duration,
    /// How long to wait for another daemon that migrates, or starts.
    pub patience: Duration,
}

impl Options {
    /// The defaults, for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            migrate: true,
            lanes: 4,
            readers: 4,
            acquire_timeout: Duration::from_secs(5),
            group_limit: 64,
            deadline: Duration::from_secs(30),
            patience: Duration::from_mins(10),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &"…")
            .field("migrate", &self.migrate)
            .field("lanes", &self.lanes)
            .field("readers", &self.readers)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("group_limit", &self.group_limit)
            .field("deadline", &self.deadline)
            .field("patience", &self.patience)
            .finish()
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Some other kind of database, or no URL at all.
    #[error("the database URL must start with sqlite:, sqlite://, postgres:// or postgresql://")]
    Scheme,
    /// SQLite without a file: its rows would be gone with the connection.
    #[error("the SQLite URL names no file")]
    NoFile,
    /// Options of the connection are ours to choose.
    #[error("the SQLite URL takes no options after `?`")]
    SqliteOptions,
    /// Not a URL PostgreSQL's driver understands.
    #[error("the PostgreSQL URL cannot be read")]
    PostgresUrl(#[source] sea_orm::SqlxError),
    /// The file cannot be made or opened.
    #[error("cannot open the database file {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be reached.
    #[error("cannot connect to the database")]
    Connect(#[source] DbErr),
    /// The schema is older than this program, and we were told not to touch it.
    #[error("the schema is not up to date and migrating is switched off: missing {}", .0.join(", "))]
    Pending(Vec<String>),
    /// The schema is newer than this program.
    #[error("the database was written by a newer version of this program: it has {}", .0.join(", "))]
    Newer(Vec<String>),
    /// The data keys do not open. Nothing was written.
    #[error("the database is sealed under another master key")]
    MasterKey(#[source] WrongKey),
    /// Somebody else is migrating it, for longer than we wait.
    #[error(
        "another daemon has been migrating the database for {} seconds; if there is none, a proxy keeps its connection",
        .0.as_secs()
    )]
    Migrating(Duration),
    /// A step of the migration failed; what it did was rolled back.
    #[error("cannot bring the schema up to date")]
    Migrate(#[source] DbErr),
    /// Reading works, writing does not.
    #[error("the database cannot be written to")]
    NotWritable(#[source] super::Error),
}

/// Which database a URL means.
#[derive(Clone)]
enum Target {
    Sqlite(PathBuf),
    Postgres { url: String },
}

impl Target {
    fn parse(url: &str) -> Result<Self, OpenError> {
        let (scheme, rest) = url.split_once(':').ok_or(OpenError::Scheme)?;
        match scheme {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.contains('?') {
                    return Err(OpenError::SqliteOptions);
                }
                if path.is_empty() || path == ":memory:" || path == "/" {
                    return Err(OpenError::NoFile);
                }
                Ok(Self::Sqlite(unescape(path)))
            }
            "postgres" | "postgresql" if rest.starts_with("//") => {
                url.parse::<PgConnectOptions>().map_err(OpenError::PostgresUrl)?;
                Ok(Self::Postgres { url: url.to_owned() })
            }
            _ => Err(OpenError::Scheme),
        }
    }
}

/// Undoes `%20` and its like; anything else stands for itself.
fn unescape(path: &str) -> PathBuf {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    let bytes = path.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Makes connections, at start and again after one was lost.
#[derive(Clone)]
pub(super) struct Connector {
    target: Target,
    options: Options,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the URL; opens nothing.
    pub(super) fn new(options: Options) -> Result<Self, OpenError> {
        Ok(Self { target: Target::parse(&options.url)?, options })
    }

    /// How many connections write at the same time.
    pub(super) fn lanes(&self) -> usize {
        match self.target {
            Target::Sqlite(_) => 1,
            Target::Postgres { .. } => self.options.lanes.max(1),
        }
    }

    /// How many units of work share a commit at most.
    pub(super) fn group_limit(&self) -> usize {
        self.options.group_limit.max(1)
    }

    /// How long to wait for another daemon that migrates, or starts.
    pub(super) fn patience(&self) -> Duration {
        self.options.patience
    }

    /// How long a group may take.
    pub(super) fn deadline(&self) -> Duration {
        self.options.deadline
    }

    /// Makes sure there is a file only we may read, and brings the schema up to date.
    pub(super) async fn prepare(&self) -> Result<(), OpenError> {
        if let Target::Sqlite(path) = &self.target {
            create_private(path).await?;
        }
        let db = self.writer().await.map_err(OpenError::Connect)?;
        let patience = self.options.patience;
        let outcome = schema::bring_up_to_date(self, &db, self.options.migrate, patience).await;
        // Closed or not, it goes away; what matters is what the schema said.
        db.close().await.ok();
        outcome
    }

    /// Whether it is SQLite, whose log somebody has to put into the file (`checkpoints.rs`).
    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.target, Target::Sqlite(_))
    }

    /// The one connection of a writer lane, with what is learnt of its server.
    ///
    /// On SQLite, what a group changes stays in memory until its commit: by default, a group of some size
    /// is put into the log page by page and read back, and what its statements would need to be undone goes to
    /// a file. It sorts nothing large, as steps of the schema may, so its memory is bounded.
    pub(super) async fn lane(&self) -> Result<(DatabaseConnection, Learned), DbErr> {
        let mut options = self.single();
        let learned = Learned::default();
        match &self.target {
            Target::Sqlite(path) => {
                let (path, busy) = (path.clone(), self.busy());
                options.map_sqlx_sqlite_opts(move |driver| {
                    sqlite(driver, &path, busy)
                        .pragma("cache_size", LANE_CACHE)
                        .pragma("temp_store", "MEMORY")
                });
            }
            Target::Postgres { .. } => {
                let learned = learned.clone();
                options.map_sqlx_postgres_pool_opts(move |pool| {
                    learned.ask(trust::ask_when_idle(pool))
                });
            }
        }
        Ok((Database::connect(options).await?, learned))
    }

    /// A connection that writes.
    pub(super) async fn writer(&self) -> Result<DatabaseConnection, DbErr> {
        let options = self.single();
        Database::connect(options).await
    }

    /// A connection that stays open, for a turn (`turns.rs`).
    pub(super) async fn holder(&self) -> Result<DatabaseConnection, DbErr> {
        let mut options = self.base();
        options.max_connections(1).idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
        Database::connect(options).await
    }

    /// A connection to copy SQLite's log with, which waits for nobody.
    pub(super) async fn checkpointer(&self) -> Result<DatabaseConnection, DbErr> {
        let db = self.writer().await?;
        // Not before: to open a database that others write to may take a moment's wait for a lock.
        db.execute_unprepared("PRAGMA busy_timeout = 0").await?;
        Ok(db)
    }

    /// A connection that changes nothing on disk, not even SQLite's companions of the file. None where
    /// there is no file yet.
    ///
    /// SQLite makes those companions for whoever opens a database in WAL mode, unless it is told
    /// that the file is immutable; which it is, if there is no log and we are the only process. With a
    /// log, which a killed process leaves behind, they are there already; and so they are when a daemon
    /// is running, which is when we are not `alone`.
    pub(super) async fn inspector(&self, alone: bool) -> Result<Option<DatabaseConnection>, DbErr> {
        let mut options = self.base();
        options.max_connections(1);
        if let Target::Sqlite(path) = &self.target {
            if tokio::fs::metadata(path).await.is_err() {
                return Ok(None);
            }
            let mut log = path.clone().into_os_string();
            log.push("-wal");
            let has_log = tokio::fs::metadata(log).await.is_ok_and(|log| log.len() > 0);
            let (path, busy) = (path.clone(), self.busy());
            options.map_sqlx_sqlite_opts(move |driver| {
                driver
                    .filename(&path)
                    .in_memory(false)
                    .create_if_missing(false)
                    .read_only(true)
                    .immutable(alone && !has_log)
                    .busy_timeout(busy)
            });
        }
        Database::connect(options).await.map(Some)
    }

    /// The pool of connections that only read.
    pub(super) async fn readers(&self) -> Result<Reader, DbErr> {
        let mut options = self.base();
        let trust = Trust::default();
        options.max_connections(self.options.readers.max(1));
        match &self.target {
            Target::Sqlite(path) => {
                let (path, busy) = (path.clone(), self.busy());
                options.test_before_acquire(false);
                options.map_sqlx_sqlite_opts(move |driver| {
                    sqlite(driver, &path, busy).pragma("query_only", "ON")
                });
            }
            // A proxy or a firewall may have dropped an idle connection, with a word or without: nobody's request
            // fails for that. Asking is the guard's.
            Target::Postgres { .. } => {
                let trust = trust.clone();
                options
                    .test_before_acquire(false)
                    .map_sqlx_postgres_pool_opts(move |pool| trust.guard(pool));
            }
        }
        Reader::open(options, trust, self.options.deadline).await
    }

    /// A pool of one, not tested before use: whoever has it finds out at its `BEGIN`, and opens a new one.
    fn single(&self) -> ConnectOptions {
        let mut options = self.base();
        options.max_connections(1).test_before_acquire(false);
        options
    }

    /// How long SQLite waits for a lock: several times within what a group may take, which would otherwise be over when it is
    /// told that somebody was in the way.
    fn busy(&self) -> Duration {
        BUSY_TIMEOUT.min(self.options.deadline / 6)
    }

    fn base(&self) -> ConnectOptions {
        let mut options = match &self.target {
            Target::Sqlite(path) => {
                let (path, busy) = (path.clone(), self.busy());
                // The path goes to the driver as it is, not through another reading of the URL.
                let mut options = ConnectOptions::new("sqlite:");
                options
                    .map_sqlx_sqlite_opts(move |driver| sqlite(driver, &path, busy))
                    .idle_timeout(None::<Duration>)
                    .max_lifetime(None::<Duration>);
                options
            }
            Target::Postgres { url } => {
                let mut options = ConnectOptions::new(url.as_str());
                options
                    // No `options` among its parameters: PgBouncer refuses them (`limits.rs`).
                    .map_sqlx_postgres_opts(|driver| driver.application_name("wagate"))
                    .max_lifetime(Some(LIFETIME));
                options
            }
        };
        options
            .acquire_timeout(self.options.acquire_timeout)
            .connect_timeout(self.options.acquire_timeout)
            // Parameters are message bodies and keys; not even the statements belong in a span.
            .record_stmt_in_spans(false)
            .sqlx_logging(false);
        options
    }
}

fn sqlite(
    driver: sea_orm::sqlx::sqlite::SqliteConnectOptions,
    path: &Path,
    busy: Duration,
) -> sea_orm::sqlx::sqlite::SqliteConnectOptions {
    let driver = if is_empty(path) {
        // What retention frees can be given back. Takes effect when the file is made, and takes the file's lock: who
        // opens another connection while somebody writes would have to wait for that.
        driver.auto_vacuum(SqliteAutoVacuum::Incremental)
    } else {
        driver
    };
    driver
        .filename(path)
        // A file that has gone missing is an outage, not a reason to begin again with nothing.
        .create_if_missing(false)
        .in_memory(false)
        .journal_mode(SqliteJournalMode::Wal)
        // With NORMAL a power cut takes back commits that WhatsApp was already told about.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(busy)
        .foreign_keys(true)
        // Nobody's commit copies the log: see `checkpoints.rs`.
        .pragma("wal_autocheckpoint", "0")
        // The log is cut back to this after a checkpoint; a burst must not keep its size for ever.
        .pragma("journal_size_limit", "67108864")
}

/// Whether nothing is in the file yet.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
}

/// Makes the file, readable by its owner only. One that is there already keeps its mode.
///
/// SQLite gives its companions (`-wal`, `-shm`) the mode of the file itself.
async fn create_private(path: &Path) -> Result<(), OpenError> {
    tokio::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .await
        .map(drop)
        .map_err(|source| OpenError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite_path(url: &str) -> PathBuf {
        match Target::parse(url) {
            Ok(Target::Sqlite(path)) => path,
            Ok(Target::Postgres { .. }) => panic!("{url} went to PostgreSQL"),
            Err(err) => panic!("{url}: {err}"),
        }
    }

    #[test]
    fn a_url_goes_to_the_database_it_names() {
        assert_eq!(sqlite_path("sqlite:///var/lib/wagate.db"), Path::new("/var/lib/wagate.db"));
        assert_eq!(sqlite_path("sqlite:/var/lib/wagate.db"), Path::new("/var/lib/wagate.db"));
        assert_eq!(sqlite_path("sqlite://wagate.db"), Path::new("wagate.db"));
        assert_eq!(sqlite_path("sqlite:wagate.db"), Path::new("wagate.db"));
        assert_eq!(sqlite_path("sqlite:/a%20b%2Fc%"), Path::new("/a b/c%"));
        for url in ["postgres://u:p@h/d", "postgresql://h/d", "postgres:///d?host=/tmp"] {
            assert!(matches!(Target::parse(url), Ok(Target::Postgres { .. })), "{url}");
        }
    }

    #[test]
    fn any_other_url_is_refused_and_not_repeated() {
        for url in ["", "wagate.db", "mysql://root:hunter2@h/d", "postgres:d", "SQLITE:x", "//x"] {
            let refusal = Target::parse(url).err().map(|err| err.to_string()).unwrap_or_default();
            assert!(refusal.contains("postgres://"), "{url}: {refusal}");
            assert!(!refusal.contains("hunter2"));
        }
        for url in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite://:memory:"] {
            assert!(matches!(Target::parse(url), Err(OpenError::NoFile)), "{url}");
        }
        assert!(matches!(Target::parse("sqlite:a?mode=ro"), Err(OpenError::SqliteOptions)));
    }

    #[test]
    fn options_do_not_show_the_password() {
        let options = Options::new("postgres://wagate:hunter2@h/d");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
