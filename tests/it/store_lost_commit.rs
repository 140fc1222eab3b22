//! The connection breaks while a commit is on its way. The client cannot know whether it arrived;
//! the writer has to find out, or it would write things twice or not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use entity::UnixMillis;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{Patience, Store, connect::Options},
};

use crate::{
    cluster::Cluster,
    database::{self, Database, Kind, on},
    world::DEADLINE,
};

/// What becomes of commits.
#[derive(Clone, Debug)]
enum Trouble {
    /// Every third connection breaks at its commit: in turn before the server has seen it, after the
    /// server has answered it, and not at all: the answer is never heard of, and nothing is said.
    Answers,
    /// The next one breaks before the server has seen it, and there is no server until the test names one.
    Failover(Arc<AtomicBool>),
}

/// Between the store and PostgreSQL.
struct Proxy {
    port: u16,
    commits: Arc<AtomicU32>,
    /// The URL of the server; who connects while there is none waits.
    server: Arc<watch::Sender<Option<String>>>,
}

impl Proxy {
    async fn start(trouble: Trouble, server: &str, tasks: &TaskTracker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commits = Arc::new(AtomicU32::new(0));
        let server = Arc::new(watch::Sender::new(Some(server.to_owned())));
        let (route, counter, of) = (server.clone(), commits.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (route, commits, trouble) = (route.clone(), counter.clone(), trouble.clone());
                of.spawn(async move {
                    let mut named = route.subscribe();
                    let server = named.wait_for(Option::is_some).await.unwrap().clone().unwrap();
                    let broke = if let Some(path) = socket(&server) {
                        let server = UnixStream::connect(path).await.unwrap();
                        relay(client, tokio::io::split(server), &trouble, &commits).await
                    } else {
                        let url = url::Url::parse(&server).unwrap();
                        let address = (url.host_str().unwrap(), url.port().unwrap_or(5432));
                        let server = TcpStream::connect(address).await.unwrap();
                        relay(client, tokio::io::split(server), &trouble, &commits).await
                    };
                    if broke && matches!(trouble, Trouble::Failover(_)) {
                        route.send_replace(None);
                    }
                });
            }
        });
        Self { port, commits, server }
    }

    /// The same database, through the proxy.
    fn url(&self, server: &str) -> String {
        let url = url::Url::parse(server).unwrap();
        let password = url.password().map(|password| format!(":{password}")).unwrap_or_default();
        let user = url.username();
        let name = url.path();
        format!("postgres://{user}{password}@127.0.0.1:{}{name}?sslmode=disable", self.port)
    }
}

/// The server's Unix socket, if the URL names a folder as its host.
fn socket(url: &str) -> Option<String> {
    let (_, options) = url.split_once("host=")?;
    let folder = options.split('&').next()?;
    folder.starts_with('/').then(|| format!("{folder}/.s.PGSQL.5432"))
}

/// Says whether it has ended at a commit that it had to lose.
async fn relay(
    client: TcpStream,
    (mut from_server, mut to_server): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    trouble: &Trouble,
    commits: &AtomicU32,
) -> bool {
    let (mut from_client, mut to_client) = client.into_split();
    let mut question = vec![0; 1 << 16];
    let mut answer = vec![0; 1 << 16];
    loop {
        tokio::select! {
            read = from_client.read(&mut question) => {
                let Ok(length @ 1..) = read else { return false };
                let question = &mut question[..length];
                // A simple query: type, length, text.
                if question.windows(7).any(|window| window == b"COMMIT\0") {
                    let number = commits.fetch_add(1, Ordering::Relaxed) % 9;
                    match trouble {
                        Trouble::Failover(due) if due.swap(false, Ordering::Relaxed) => return true,
                        Trouble::Answers if number == 2 => return true,
                        Trouble::Answers if number == 5 || number == 8 => {
                            to_server.write_all(question).await.unwrap();
                            let _: usize = from_server.read(&mut answer).await.unwrap();
                            // Until the client has given up.
                            while number == 8 && matches!(from_client.read(question).await, Ok(1..)) {}
                            return true;
                        }
                        _ => {}
                    }
                }
                if to_server.write_all(question).await.is_err() { return false }
            }
            read = from_server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return false };
                if to_client.write_all(&answer[..length]).await.is_err() { return false }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_neither_lost_nor_repeated() {
    on(Kind::Postgres, async |database: &Database| {
        // Made past the proxy: it is the writer that is on trial.
        database.open().await.close().await;
        database.execute("CREATE TABLE probe (n BIGINT)").await;
        let tasks = TaskTracker::new();
        let proxy = Proxy::start(Trouble::Answers, &database.url, &tasks).await;
        let through = proxy.url(&database.url);
        let opened = database.open_with(|options| {
            options.url = through;
            options.deadline = Duration::from_millis(500);
        });
        let opened = opened.await;

        let number = AtomicU32::new(0);
        let writers = (0..8).map(async |writer| {
            for _ in 0..60 {
                let n = number.fetch_add(1, Ordering::Relaxed);
                write(&opened.store, &format!("key{writer}"), n).await;
            }
        });
        // A lane that waits for an answer there will never be would wait for ever.
        tokio::time::timeout(DEADLINE, join_all(writers)).await.unwrap();
        assert!(proxy.commits.load(Ordering::Relaxed) > 100);
        assert!(opened.store.writer().stats().retries > 10);
        assert_eq!(database.count("SELECT count(*) FROM probe").await, 480);
        assert_eq!(database.count("SELECT count(DISTINCT n) FROM probe").await, 480);
        opened.close().await;
    })
    .await;
}

/// The server that takes over is a copy that was made before the group, whose transaction has a number
/// there that is another's: one that was committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_went_with_its_server_is_run_again_on_the_one_that_takes_over() {
    let Some(first) = Cluster::new() else { return };
    let tasks = TaskTracker::new();
    let due = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(Trouble::Failover(due.clone()), &first.url(), &tasks).await;
    first.execute("CREATE TABLE probe (n BIGINT); CREATE TABLE other (n BIGINT)").await;
    let options = Options { lanes: 1, ..Options::new(proxy.url(&first.url())) };
    let clock = Clock::manual(UnixMillis(1_800_000_000_000));
    let store = Box::pin(Store::open(options, database::vault(), clock, &tasks)).await.unwrap();
    write(&store, "key", 1).await;

    let second = first.copy();
    due.store(true, Ordering::Relaxed);
    let took_over = async {
        proxy.server.subscribe().wait_for(Option::is_none).await.unwrap();
        first.stop();
        let other = "DO $$ BEGIN FOR n IN 1..100 LOOP INSERT INTO other VALUES (n); COMMIT; \
                     END LOOP; END $$";
        second.execute(other).await;
        proxy.server.send_replace(Some(second.url()));
    };
    let both = async { tokio::join!(write(&store, "key", 2), took_over) };
    tokio::time::timeout(DEADLINE, both).await.unwrap();
    write(&store, "key", 3).await;
    store.close().await;

    let there = database::connect_to(&second.url()).await;
    let ask = Statement::from_string(DbBackend::Postgres, "SELECT n FROM probe ORDER BY n");
    let rows = there.query_all_raw(ask).await.unwrap();
    let rows: Vec<i64> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    assert_eq!(rows, [1, 2, 3]);
    there.close().await.unwrap();
}

async fn write(store: &Store, key: &str, number: u32) {
    let sql = format!("INSERT INTO probe VALUES ({number})");
    let write = store.writer().run(key, Patience::Wait, move |txn| {
        let sql = sql.clone();
        Box::pin(async move { txn.execute_unprepared(&sql).await.map(drop) })
    });
    write.await.unwrap();
}
