//! The connection breaks while a commit is on its way. The client cannot know whether it arrived;
//! the writer has to find out, or it would write things twice or not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_util::task::TaskTracker;
use wagate::store::Patience;

use crate::{
    database::{Database, Kind, on},
    world::DEADLINE,
};

/// What becomes of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Every third connection breaks at its commit: in turn before the server has seen it, after the
    /// server has answered it, and not at all: the answer is never heard of, and nothing is said.
    Answers,
    /// Every ninth breaks before the server has seen it. The one that is asked afterwards has never
    /// come as far as that transaction, as one that takes over with the last writes missing.
    Failover,
}

/// The question for the number of a transaction, and one with an answer that lies in the future.
const NUMBER: (&[u8; 32], &[u8; 32]) =
    (b"pg_current_xact_id_if_assigned()", b"'4611686018427387999'           ");

/// Between the store and PostgreSQL.
struct Proxy {
    port: u16,
    commits: Arc<AtomicU32>,
}

impl Proxy {
    async fn start(trouble: Trouble, server: &str, tasks: &TaskTracker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commits = Arc::new(AtomicU32::new(0));
        let (server, counter, of) = (server.to_owned(), commits.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, commits) = (server.clone(), counter.clone());
                of.spawn(async move {
                    if let Some(path) = socket(&server) {
                        let server = UnixStream::connect(path).await.unwrap();
                        relay(client, tokio::io::split(server), trouble, &commits).await;
                    } else {
                        let url = url::Url::parse(&server).unwrap();
                        let address = (url.host_str().unwrap(), url.port().unwrap_or(5432));
                        let server = TcpStream::connect(address).await.unwrap();
                        relay(client, tokio::io::split(server), trouble, &commits).await;
                    }
                });
            }
        });
        Self { port, commits }
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

async fn relay(
    client: TcpStream,
    (mut from_server, mut to_server): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    trouble: Trouble,
    commits: &AtomicU32,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let mut question = vec![0; 1 << 16];
    let mut answer = vec![0; 1 << 16];
    loop {
        tokio::select! {
            read = from_client.read(&mut question) => {
                let Ok(length @ 1..) = read else { return };
                let question = &mut question[..length];
                if trouble == Trouble::Failover
                    && let Some(at) = question.windows(32).position(|window| window == NUMBER.0)
                {
                    question[at..at + 32].copy_from_slice(NUMBER.1);
                }
                // A simple query: type, length, text.
                if question.windows(7).any(|window| window == b"COMMIT\0") {
                    match (trouble, commits.fetch_add(1, Ordering::Relaxed) % 9) {
                        (_, 2) => return,
                        (Trouble::Answers, at @ (5 | 8)) => {
                            to_server.write_all(question).await.unwrap();
                            let _: usize = from_server.read(&mut answer).await.unwrap();
                            // Until the client has given up.
                            while at == 8 && matches!(from_client.read(question).await, Ok(1..)) {}
                            return;
                        }
                        _ => {}
                    }
                }
                if to_server.write_all(question).await.is_err() { return }
            }
            read = from_server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                if to_client.write_all(&answer[..length]).await.is_err() { return }
            }
        }
    }
}

async fn writes_come_through(trouble: Trouble) {
    on(Kind::Postgres, async |database: &Database| {
        // Made past the proxy: it is the writer that is on trial.
        database.open().await.close().await;
        database.execute("CREATE TABLE probe (n BIGINT)").await;
        let tasks = TaskTracker::new();
        let proxy = Proxy::start(trouble, &database.url, &tasks).await;
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
                let key = format!("key{writer}");
                let sql = format!("INSERT INTO probe VALUES ({n})");
                let write = opened.store.writer().run(&key, Patience::Wait, move |txn| {
                    let sql = sql.clone();
                    Box::pin(async move { txn.execute_unprepared(&sql).await.map(drop) })
                });
                write.await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_neither_lost_nor_repeated() {
    writes_come_through(Trouble::Answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_went_with_its_server_is_run_again() {
    writes_come_through(Trouble::Failover).await;
}
