//! The version that a session says: WhatsApp's web server is asked for it, and may not answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::UnixMillis;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use wagate::clock::Clock;
use wagate_simulator::{Options, Simulator};

use crate::{
    database::{Database, Kind, on},
    world::{ALICE, DEADLINE, World},
};

const SECOND: Duration = Duration::from_secs(1);

/// How long an answer may take.
const BUDGET: Duration = Duration::from_secs(10);

/// How a request for the version begins; everything else is for whom sessions dial.
const QUESTION: &[u8] = b"GET /sw.js ";

/// The network between the daemon and WhatsApp.
struct Network {
    address: SocketAddr,
    swallows: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Network {
    /// Leads to `whatsapp`; where there is none, nothing ever comes back.
    async fn start(whatsapp: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (swallows, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (swallow, count) = (Arc::clone(&swallows), Arc::clone(&asked));
        let (tasks, carriers) = (TaskTracker::new(), TaskTracker::new());
        let task = tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                carriers.spawn(carry(socket, whatsapp, Arc::clone(&swallow), Arc::clone(&count)));
            }
        });
        Self { address, swallows, asked, task: task.abort_handle() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn world(&self, whatsapp: Simulator, database: &Database) -> World {
        let clock = Clock::manual(UnixMillis(1_795_500_000_000));
        World::beside(whatsapp, clock, database, |config| {
            config.whatsapp.url = Some(format!("ws://{}/ws/chat", self.address));
            config.whatsapp.version = None;
        })
        .await
    }
}

async fn carry(
    mut socket: TcpStream,
    whatsapp: Option<SocketAddr>,
    swallows: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
) {
    let mut first = [0; QUESTION.len()];
    socket.peek(&mut first).await.unwrap();
    let is_question = first == QUESTION;
    if is_question {
        asked.fetch_add(1, Ordering::SeqCst);
    }
    match whatsapp {
        Some(_) if is_question && !swallows.load(Ordering::SeqCst) => {
            let body = "…\"client_revision\":1042742319,…";
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
            // Until it has been read.
            socket.read_to_end(&mut Vec::new()).await.ok();
        }
        Some(address) if !is_question => {
            let mut other = TcpStream::connect(address).await.unwrap();
            copy_bidirectional(&mut socket, &mut other).await.ok();
        }
        _ => {
            socket.read_to_end(&mut Vec::new()).await.ok();
        }
    }
}

fn waits_for_a_way(seen: &Value) -> bool {
    seen["lastDisconnect"]["reason"] == "unreachable"
        && seen["reconnecting"] == true
        && seen["nextAttemptAt"].is_string()
}

/// Lets time pass until the session says that there is no way to WhatsApp, and when it is dialled again.
async fn pass_until_unreachable(world: &World, id: &str) -> Duration {
    let told = world.pass_until("no way", SECOND, async || {
        let seen = world.status(id).await;
        if waits_for_a_way(&seen) { Ok(()) } else { Err(seen) }
    });
    told.await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_when_the_daemon_starts_is_said_to_be_away_within_seconds()
 {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        on(kind, async |database| {
            let network = Network::start(None).await;
            let whatsapp = Simulator::start(Options::default()).await.unwrap();
            let world = network.world(whatsapp, database).await;
            let names = ["sales", "support", "orders"];
            for name in names {
                world.create(name).await;
            }
            // All of them wait for the same answer.
            let asked = async {
                while network.asked() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(DEADLINE, asked).await.expect("it is asked for the version");
            world.clock.advance(BUDGET.checked_sub(SECOND).unwrap());
            for name in names {
                let seen = world.status(name).await;
                assert_eq!(seen["status"], "connecting", "{seen}");
                assert!(seen["lastDisconnect"].is_null(), "{seen}");
            }
            assert_eq!(network.asked(), 1, "one question");
            for name in names {
                let took = pass_until_unreachable(&world, name).await;
                assert!(took <= Duration::from_secs(20), "{took:?}");
            }
            let refused = world.post("/api/whatsapp/session/sales/stop", json!({})).await;
            assert_eq!(refused.body["data"]["status"], "session_not_connected");
            network.task.abort();
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_connected_before_is_dialled_also_when_nobody_tells_the_version() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        on(kind, async |database| {
            let whatsapp = Simulator::start(Options::default()).await.unwrap();
            let network = Network::start(Some(whatsapp.address())).await;
            let mut world = network.world(whatsapp, database).await;
            let phone = world.connect("sales", ALICE).await;
            assert_eq!(network.asked(), 1);
            world.clock.advance(Duration::from_mins(1));
            world.stop_daemon().await;

            network.swallows.store(true, Ordering::SeqCst);
            world.start_daemon().await;
            let ((), took) = world
                .pass_until("a connection", SECOND, async || {
                    let seen = world.status("sales").await;
                    assert!(seen["lastDisconnect"].is_null(), "nothing was lost: {seen}");
                    if seen["status"] == "session_connected" { Ok(()) } else { Err(seen) }
                })
                .await;
            assert!(took >= BUDGET, "the answer is waited for: {took:?}");
            assert_eq!(phone.logins().len(), 2);
            // Who has never said anything has nothing to say.
            world.create("support").await;
            pass_until_unreachable(&world, "support").await;
            network.swallows.store(false, Ordering::SeqCst);
            world
                .pass_until("a code", SECOND, async || {
                    let seen = world.status("support").await;
                    if seen["status"] == "qr_generated" { Ok(()) } else { Err(seen) }
                })
                .await;
            network.task.abort();
            world.end().await;
        })
        .await;
    }
}
