//! Connections and time limits: nobody holds the daemon up by being slow.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wagate::http::{Connections, Edge, Limits, Proxies, ServeOptions, serve};

use crate::{
    database::{Kind, on},
    http_app::{Answer, App},
};

/// A server with one route, and how to stop it.
struct Server {
    address: String,
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    async fn start(options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/large", get(async || "x".repeat(32 << 20)))
            .route("/never", get(async || std::future::pending::<()>().await));
        let tasks = TaskTracker::new();
        tasks.spawn(serve(listener, router, options, soft.clone(), hard.clone()));
        tasks.close();
        Self { address, soft, hard, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// What arrives next; nothing when the other side has closed.
async fn hear(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
    let length = read.expect("an answer, or an end").unwrap_or(0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let options = ServeOptions { head_time: Duration::from_millis(100), ..ServeOptions::default() };
    let server = Server::start(options).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let heard = hear(&mut slow).await;
    assert!(heard.is_empty() || heard.contains("408"), "{heard}");
    server.soft.cancel();
    server.tasks.wait().await;
}

#[tokio::test]
async fn so_many_connections_and_the_next_when_one_ends() {
    let server = Server::start(ServeOptions { connections: 1, ..ServeOptions::default() }).await;
    let mut first = server.connect().await;
    ask(&mut first, "/").await;
    assert!(hear(&mut first).await.contains("hello"));
    let mut second = server.connect().await;
    ask(&mut second, "/").await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
    assert!(early.is_err(), "the first still has the place");
    drop(first);
    assert!(hear(&mut second).await.contains("hello"));
    drop(second);
    server.soft.cancel();
    server.tasks.wait().await;
}

#[tokio::test]
async fn idle_connections_end_at_a_soft_stop_and_busy_ones_at_a_hard_one() {
    let server = Server::start(ServeOptions::default()).await;
    let mut idle = server.connect().await;
    ask(&mut idle, "/").await;
    assert!(hear(&mut idle).await.contains("hello"));
    let mut busy = server.connect().await;
    ask(&mut busy, "/never").await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    server.soft.cancel();
    assert_eq!(hear(&mut idle).await, "");
    assert!(TcpStream::connect(&server.address).await.is_err(), "nobody is let in any more");
    let goes_on = tokio::time::timeout(Duration::from_millis(100), server.tasks.wait()).await;
    assert!(goes_on.is_err(), "one request is in progress");
    server.hard.cancel();
    server.tasks.wait().await;
    assert_eq!(hear(&mut busy).await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { body_time: Duration::from_millis(100), ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let address = app.base.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /api/whatsapp/session HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
            app.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = hear(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
        drop(stream);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_503() {
    on(Kind::Sqlite, async |database| {
        let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
        let app = App::start_with(database, limits).await;
        let answer = app.get("/api/whatsapp/session/list-realtime").await;
        answer.problem(503, "TIMEOUT");
        assert_eq!(answer.header("retry-after"), "1");
        // Streams and long polls have their own.
        let request = app.request(Method::GET, "/api/whatsapp/events/page");
        assert_eq!(Answer::to(request).await.status, 200);
        app.close().await;
    })
    .await;
}

/// A connection that comes from this address of the machine's own.
async fn connect_from(server: &Server, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(server.address.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn whoever_takes_nothing_of_his_answer_loses_his_place() {
    let counts = Connections::default();
    let options = ServeOptions {
        connections: 1,
        write_time: Duration::from_millis(100),
        counts: counts.clone(),
        ..ServeOptions::default()
    };
    let server = Server::start(options).await;
    let mut first = server.connect().await;
    ask(&mut first, "/large").await;
    // He reads nothing, and has the only place until he loses it.
    let mut second = server.connect().await;
    ask(&mut second, "/").await;
    assert!(hear(&mut second).await.contains("hello"));
    drop(second);
    let mut all = Vec::new();
    first.read_to_end(&mut all).await.ok();
    assert!(!all.is_empty() && all.len() < 32 << 20, "{}", all.len());
    assert_eq!(counts.stalled(), 1);
    server.soft.cancel();
    server.tasks.wait().await;
}

#[tokio::test]
async fn a_neighbourhood_has_a_quarter_of_all_connections_and_a_trusted_proxy_what_it_needs() {
    let counts = Connections::default();
    let trusted = vec!["127.0.0.3/32".parse().unwrap()];
    let proxies = Proxies { trusted, ..Proxies::default() };
    let edge = Edge { proxies, ..Edge::default() };
    let options =
        ServeOptions { connections: 8, edge, counts: counts.clone(), ..ServeOptions::default() };
    let server = Server::start(options).await;
    let greeted = async |from: [u8; 4]| {
        let mut stream = connect_from(&server, from).await;
        ask(&mut stream, "/").await;
        hear(&mut stream).await.contains("hello").then_some(stream)
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(greeted([127, 0, 0, 1]).await.unwrap());
    }
    assert!(greeted([127, 0, 0, 1]).await.is_none());
    assert_eq!(counts.crowded(), 1);
    // The others have theirs.
    held.push(greeted([127, 0, 0, 2]).await.unwrap());
    let mut passed_on = Vec::new();
    for _ in 0..4 {
        passed_on.push(greeted([127, 0, 0, 3]).await.unwrap());
    }
    assert_eq!(counts.crowded(), 1);
    // When one ends its neighbour may come.
    drop(held.remove(0));
    let again = async {
        loop {
            if let Some(stream) = greeted([127, 0, 0, 1]).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    drop((held, passed_on));
    server.soft.cancel();
    server.tasks.wait().await;
}
