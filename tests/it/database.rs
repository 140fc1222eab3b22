//! Databases for tests: each test runs on SQLite and on PostgreSQL, in a database of its own.
//!
//! PostgreSQL is the server named by `WAGATE_TEST_POSTGRES_URL`, or a throw-away cluster made once
//! in a test process from the installed binaries. Where there are none, the tests say so and run
//! on SQLite alone; with `WAGATE_TEST_REFUSE_SKIP` set, as `.ci/run` does, that is a failure.

use std::{
    fmt,
    path::PathBuf,
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
    store::{Store, audit::By, connect, sessions::NewSession},
    vault::{MasterKey, Vault},
};

use crate::{cluster::Cluster, postgres};

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
                let server = server()?;
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
            let server = server().unwrap();
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
        self.open_at(Clock::manual(UnixMillis(1_800_000_000_000)), options).await
    }

    /// Opens a store on it that goes by the machine's own clock.
    pub(crate) async fn open_by_the_machine_s_clock(&self) -> Opened {
        self.open_at(Clock::system(), connect::Options::new(self.url.as_str())).await
    }

    async fn open_at(&self, clock: Clock, options: connect::Options) -> Opened {
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
        execute(server().unwrap(), sql).await;
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
            user_id: None,
            phone_number: None,
            desired_state: entity::state::DesiredState::Running,
            is_notification: None,
            ai_config: None,
            external: None,
        };
        self.store.sessions().create(&organization.id, new, None, By::default()).await.unwrap();
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

/// A single connection to a database by its URL.
pub(crate) async fn connect_to(url: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.unwrap()
}

pub(crate) async fn execute(url: &str, sql: &str) {
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
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    static KEEPER: Mutex<Option<Cluster>> = Mutex::new(None);

    SERVER
        .get_or_init(|| {
            if let Ok(url) = std::env::var("WAGATE_TEST_POSTGRES_URL") {
                return Some(url);
            }
            let cluster = Cluster::new()?;
            let url = cluster.url();
            // It goes with this process.
            *KEEPER.lock().unwrap() = Some(cluster);
            Some(url)
        })
        .as_deref()
}

/// PostgreSQL's programs, or none where it may be skipped.
pub(crate) fn server_binaries() -> Option<PathBuf> {
    let found = postgres::binaries();
    if found.is_none() {
        skip("no PostgreSQL binaries");
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
