//! The other end of a PostgreSQL connection, which falls silent when it is told to.
//!
//! It speaks as much of the protocol as a connection takes that is asked whether it lives, or executes a statement without
//! arguments.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

/// `AuthenticationOk` and `ReadyForQuery`.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
/// `ReadyForQuery`.
const READY: &[u8] = b"Z\0\0\0\x05I";
/// `CommandComplete` and `ReadyForQuery`.
const DONE: &[u8] = b"C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I";

/// What is at the other end.
pub(super) struct Peer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Connections so far.
    connections: AtomicU32,
    /// How many statements have come.
    statements: watch::Sender<u32>,
    /// The first connections, so many, are not answered any more.
    silent: watch::Sender<u32>,
}

impl Peer {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            connections: AtomicU32::new(0),
            statements: watch::Sender::new(0),
            silent: watch::Sender::new(0),
        });
        let (tasks, all) = (TaskTracker::new(), Arc::clone(&shared));
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = all.connections.fetch_add(1, SeqCst);
                let shared = Arc::clone(&all);
                connections.spawn(async move {
                    // It is over when the other end has gone.
                    serve(stream, number, &shared).await.ok();
                });
            }
        });
        Self { port, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://peer@127.0.0.1:{}/peer?sslmode=disable", self.port)
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("peer")
            .ssl_mode(PgSslMode::Disable)
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> u32 {
        self.shared.connections.load(SeqCst)
    }

    /// Returns when so many statements have come, answered or not.
    pub(super) async fn heard(&self, statements: u32) {
        let mut heard = self.shared.statements.subscribe();
        heard.wait_for(|count| *count >= statements).await.unwrap();
    }

    /// The connections that there are get no answer any more.
    pub(super) fn fall_silent(&self) {
        self.shared.silent.send_replace(self.connections());
    }

    /// All are answered again, also what was asked meanwhile.
    pub(super) fn speak(&self) {
        self.shared.silent.send_replace(0);
    }
}

async fn serve(mut stream: TcpStream, number: u32, shared: &Shared) -> std::io::Result<()> {
    let mut silent = shared.silent.subscribe();
    let greeting = stream.read_u32().await?;
    skip(&mut stream, greeting).await?;
    stream.write_all(WELCOME).await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        skip(&mut stream, length).await?;
        let answer = match kind {
            b'Q' => {
                shared.statements.send_modify(|count| *count += 1);
                DONE
            }
            b'S' => READY,
            _ => continue,
        };
        silent.wait_for(|first| number >= *first).await.map_err(std::io::Error::other)?;
        stream.write_all(answer).await?;
    }
}

/// The rest of a message whose length says how long it is with itself.
async fn skip(stream: &mut TcpStream, length: u32) -> std::io::Result<()> {
    let mut rest = vec![0; usize::try_from(length.saturating_sub(4)).unwrap()];
    stream.read_exact(&mut rest).await.map(drop)
}
