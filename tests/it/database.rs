//! Databases for tests: each test runs on SQLite and on PostgreSQL, in a database of its own.
//!
//! PostgreSQL is the server named by `WAGATE_TEST_POSTGRES_URL`, or a throw-away cluster made once
//! in a test process from the installed binaries. Where there are none, the tests say so and run
//! on SQLite alone; with `WAGATE_TEST_REFUSE_SKIP` set, as `.ci/run` does, that is a failure.

use std::{
    fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use entity::{UnixMillis, id::OrganizationId, session};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{Store, connect, sessions::NewSession},
    vault::{MasterKey, Vault},
};

use crate::postgres as postgres_support;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database, gone after the test.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    /// Where the SQLite file is.
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

/// An open store, with what keeps it running.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tracker: TaskTracker,
}

/// Runs a test on each database there is, one after the other.
pub(crate) async fn on_each<F>(test: F)
where
    F: AsyncFn(&Database),
{
    on(Kind::Sqlite, &test).await;
    on(Kind::Postgres, &test).await;
}

/// Runs a test on one kind of database, if there is one.
pub(crate) async fn on<F>(kind: Kind, test: F)
where
    F: AsyncFn(&Database),
{
    let Some(database) = Database::new(kind).await else { return };
    // Some are large, and a caller of several would hold them all.
    Box::pin(test(&database)).await;
    database.drop().await;
}

impl Database {
    /// An empty database, or none where there is no server for it.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wagate.db");
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", path.display()),
            Kind::Postgres => {
                let server = postgres()?;
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let name = format!("wagate_test_{}_{number}", std::process::id());
                execute(server, &format!("CREATE DATABASE {name}")).await;
                in_database(server, &name)
            }
        };
        Some(Self { kind, url, path, _directory: directory })
    }

    /// The URL to configure a daemon with, unless it is SQLite in its own directory.
    pub(crate) fn server_url(&self) -> Option<&str> {
        (self.kind == Kind::Postgres).then_some(self.url.as_str())
    }

    pub(crate) async fn drop(self) {
        if self.kind == Kind::Postgres {
            let server = postgres().unwrap();
            execute(server, &format!("DROP DATABASE {} WITH (FORCE)", self.name())).await;
        }
    }

    /// The PostgreSQL database's name.
    pub(crate) fn name(&self) -> &str {
        self.url.split('?').next().unwrap().rsplit('/').next().unwrap()
    }

    /// Opens a store on it.
    pub(crate) async fn open(&self) -> Opened {
        self.open_with(|_| {}).await
    }

    /// Opens a store on it, with other options than the usual ones.
    pub(crate) async fn open_with(&self, change: impl FnOnce(&mut connect::Options)) -> Opened {
        let mut options = connect::Options::new(self.url.as_str());
        change(&mut options);
        let clock = Clock::manual(UnixMillis(1_800_000_000_000));
        let tracker = TaskTracker::new();
        // On the heap, as tests open several at once.
        let opening = Box::pin(Store::open(options, vault(), clock.clone(), &tracker));
        let store = opening.await.unwrap();
        Opened { store, clock, tracker }
    }

    /// A connection past the store, to look at rows or to make trouble.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        connect_to(&self.url).await
    }

    /// Runs a statement past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.url, sql).await;
    }

    /// Runs a statement on the PostgreSQL server, outside of this database.
    pub(crate) async fn execute_on_server(&self, sql: &str) {
        execute(postgres().unwrap(), sql).await;
    }

    /// The rows of a query, asked past the store.
    pub(crate) async fn query(&self, sql: &str) -> Vec<QueryResult> {
        let db = self.connect().await;
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let rows = db.query_all_raw(statement).await.unwrap();
        db.close().await.unwrap();
        rows
    }

    /// The one number a query returns.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.query(sql).await.first().unwrap().try_get_by_index(0).unwrap()
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl Opened {
    /// A session, called `name`, in the organization that is always there.
    pub(crate) async fn session(&self, name: &str) -> session::Model {
        let organization = self.store.organizations().ensure_default().await.unwrap();
        let new = NewSession {
            session_id: name.parse().unwrap(),
            origin: entity::state::Origin::Embedded,
            user_id: None,
            phone_number: None,
            desired_state: entity::state::DesiredState::Running,
        };
        self.store.sessions().create(&organization.id, new).await.unwrap();
        let id = name.parse().unwrap();
        self.store.sessions().find(&organization.id, &id).await.unwrap().unwrap()
    }

    /// Closes the store, and waits until nothing of it runs any more.
    pub(crate) async fn close(self) {
        self.store.close().await;
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The master key of every test that is not about master keys.
pub(crate) fn master_key() -> MasterKey {
    MasterKey::parse(&"5a".repeat(32)).unwrap()
}

/// A vault with that key.
pub(crate) fn vault() -> Arc<Vault> {
    Arc::new(Vault::new(master_key(), None))
}

/// Another organization than the one that is always there.
pub(crate) async fn second_organization(database: &Database) -> OrganizationId {
    let id = OrganizationId::new(UnixMillis(0), 2);
    let row = format!(
        "INSERT INTO organization (id, client_id, name, last_seq, created_at) \
         VALUES ('{id}', 2, 'second', 0, 0)"
    );
    database.execute(&row).await;
    id
}

async fn connect_to(url: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

async fn execute(url: &str, sql: &str) {
    let db = connect_to(url).await;
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

/// The server's URL with another database in it.
pub(crate) fn in_database(server: &str, name: &str) -> String {
    let (address, options) = server.split_once('?').map_or((server, ""), |(a, o)| (a, o));
    let (address, _) = address.rsplit_once('/').unwrap();
    format!("{address}/{name}?{options}")
}

/// The URL of a PostgreSQL server, made on first use.
fn postgres() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    static KEEPER: Mutex<Option<Cluster>> = Mutex::new(None);

    SERVER
        .get_or_init(|| {
            if let Ok(url) = std::env::var("WAGATE_TEST_POSTGRES_URL") {
                return Some(url);
            }
            let binaries = server_binaries()?;
            let cluster = Cluster::start(&binaries);
            let url = cluster.url();
            // It goes with this process.
            *KEEPER.lock().unwrap() = Some(cluster);
            Some(url)
        })
        .as_deref()
}

/// PostgreSQL's programs, or none where it may be skipped.
pub(crate) fn server_binaries() -> Option<PathBuf> {
    let found = postgres_support::binaries();
    if found.is_none() {
        skip("no PostgreSQL binaries and no WAGATE_TEST_POSTGRES_URL");
    }
    found
}

/// Says that a test was not run, which is a failure where nothing may be left out.
pub(crate) fn skip(why: &str) {
    for variable in ["CI", "WAGATE_TEST_REFUSE_SKIP"] {
        assert!(std::env::var_os(variable).is_none(), "{why}, and nothing may be skipped here");
    }
    eprintln!("skipped: {why}");
}

/// A PostgreSQL cluster of a test's own. It goes with this process, however that ends: a shell waits
/// for the other end of its standard input to close, and cleans up.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: String,
    binaries: PathBuf,
    keeper: Child,
}

/// How the server is started, in the cluster's directory.
const START: &str = r#""$bin/pg_ctl" -D "$dir/data" -w -l "$dir/log" -o "-k $dir -c listen_addresses='' \
    -c fsync=off -c max_connections=400 -c max_prepared_transactions=0" start >&2"#;

impl Cluster {
    /// A cluster from the newest binaries that are installed, if there are any.
    pub(crate) fn new() -> Option<Self> {
        postgres_support::binaries().map(|binaries| Self::start(&binaries))
    }

    fn start(binaries: &Path) -> Self {
        let script = format!(
            r#"
            set -e
            bin="$1"
            dir=$(mktemp -d /tmp/wagate-postgres-XXXXXX)
            trap '"$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
            "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >&2
            {START}
            echo "$dir"
            read -r _ || true
            "#
        );
        let mut keeper = shell(&script, &[binaries])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut directory = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut directory).unwrap();
        let directory = directory.trim().to_owned();
        assert!(!directory.is_empty(), "the throw-away PostgreSQL cluster did not start");
        Self { directory, binaries: binaries.to_owned(), keeper }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.directory)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.url(), sql).await;
    }

    /// Ends the server as a crash would, without a word to anybody.
    pub(crate) fn stop(&self) {
        self.control(r#""$bin/pg_ctl" -D "$dir/data" -m immediate stop >&2"#);
    }

    /// Starts it again.
    pub(crate) fn start_again(&self) {
        self.control(START);
    }

    fn control(&self, script: &str) {
        let script = format!("bin=\"$1\"; dir=\"$2\"; {script}");
        let mut command = shell(&script, &[&self.binaries, Path::new(&self.directory)]);
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{script}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The other end of its standard input.
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// A shell that may run PostgreSQL, which refuses to run as root.
fn shell(script: &str, arguments: &[&Path]) -> Command {
    let as_root = std::fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt;
        me.uid() == 0
    });
    let mut command = Command::new(if as_root { "runuser" } else { "sh" });
    if as_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    command.args(["-c", script, "sh"]).args(arguments).current_dir("/tmp");
    command
}
