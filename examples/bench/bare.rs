//! The baseline: as many clients of the library, with its in-memory store, and nothing else.
//!
//! They share what the gateway's sessions share: transport, TLS configuration, no history sync. What
//! they lack is what the gateway is for.

use std::{
    ffi::OsString,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;
use wacore::{
    store::InMemoryBackend,
    types::events::{Event, EventHandler, EventInterest, EventKind, Subscription},
};
use whatsapp_rust::{
    Client, Jid, TokioRuntime, anyhow,
    http::{HttpClient, HttpRequest, HttpResponse},
    store::persistence_manager::PersistenceManager,
    transport::{TokioWebSocketTransportFactory, default_tls_connector},
};

use crate::{failure::Failure, gateway, role};

/// How long something may take that a client does by itself.
const DEADLINE: Duration = Duration::from_mins(2);

/// How the clients are started.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The server to dial
    pub(crate) whatsapp: String,
}

impl Arguments {
    /// The same, for the command line.
    pub(crate) fn to_line(&self) -> [OsString; 1] {
        [self.whatsapp.clone().into()]
    }
}

/// What the clients can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Make one that is not paired, and wait for its first code.
    Pair { session: usize },
    /// Wait until it is logged in.
    Connected { session: usize },
    /// Write to somebody.
    Send { session: usize, to: String, text: String },
    /// How many texts all of them have received.
    Received,
    /// Close all.
    Stop,
    /// Open them again, and wait until all are logged in: how many seconds it took.
    Start,
}

/// What the clients share.
struct Bare {
    transport: Arc<TokioWebSocketTransportFactory>,
    received: Arc<AtomicU64>,
    clients: Mutex<Vec<Option<Arc<Bot>>>>,
    tracker: TaskTracker,
}

/// A client, and what it has said.
struct Bot {
    client: Arc<Client>,
    backend: Arc<InMemoryBackend>,
    state: watch::Receiver<State>,
    run: Mutex<Option<JoinHandle<()>>>,
    _subscription: Subscription,
}

#[derive(Debug, Default)]
struct State {
    qr: Option<String>,
    connected: bool,
}

struct Handler {
    state: watch::Sender<State>,
    received: Arc<AtomicU64>,
}

impl EventHandler for Handler {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::PairingQrCode(qr) => {
                self.state.send_modify(|state| state.qr = Some(qr.code.clone()));
            }
            Event::Connected(_) => self.state.send_modify(|state| state.connected = true),
            Event::Messages(batch) => {
                // The phone's own messages to its devices arrive in the same way.
                let texts = batch.iter().filter(|it| it.message.conversation.is_some()).count();
                self.received.fetch_add(texts as u64, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::PairingQrCode, EventKind::Connected, EventKind::Messages])
    }
}

/// Nothing here needs HTTP.
struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, _request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        anyhow::bail!("there is no HTTP here")
    }
}

/// Is the clients until there are no more orders.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let transport = TokioWebSocketTransportFactory::new()
        .with_url(arguments.whatsapp)
        .with_connector(default_tls_connector());
    let bare = Bare {
        transport: Arc::new(transport),
        received: Arc::default(),
        clients: Mutex::default(),
        tracker: TaskTracker::new(),
    };
    role::serve(Arc::new(bare), carry_out).await;
    Ok(())
}

async fn carry_out(bare: Arc<Bare>, ask: Ask) -> Result<Value, Failure> {
    match ask {
        Ask::Pair { session } => {
            let bot = bare.open(session, Arc::new(InMemoryBackend::new())).await?;
            let qr = bot.until(|state| state.qr.is_some()).await?;
            Ok(json!(qr))
        }
        Ask::Connected { session } => {
            bare.bot(session)?.until(|state| state.connected).await?;
            Ok(Value::Null)
        }
        Ask::Send { session, to, text } => {
            let to: Jid = to.parse().map_err(library)?;
            bare.bot(session)?.client.send_text(to, text).await.map_err(library)?;
            Ok(Value::Null)
        }
        Ask::Received => Ok(json!(bare.received.load(Ordering::Relaxed))),
        Ask::Stop => {
            let bots = bare.bots();
            join_all(bots.iter().map(|bot| bot.close())).await;
            Ok(Value::Null)
        }
        Ask::Start => {
            let backends: Vec<_> = bare.bots().iter().map(|bot| Arc::clone(&bot.backend)).collect();
            locked(&bare.clients).clear();
            let begun = Instant::now();
            let starts = backends.into_iter().enumerate().map(async |(session, backend)| {
                bare.open(session, backend).await?.until(|state| state.connected).await
            });
            for started in join_all(starts).await {
                started?;
            }
            Ok(json!(begun.elapsed().as_secs_f64()))
        }
    }
}

impl Bare {
    /// Builds a client as the gateway does, but for its store and the hook, and runs it.
    async fn open(
        &self,
        session: usize,
        backend: Arc<InMemoryBackend>,
    ) -> Result<Arc<Bot>, Failure> {
        let persistence = PersistenceManager::new(Arc::clone(&backend) as _).await;
        let client = Client::builder()
            .with_runtime(TokioRuntime)
            .with_persistence_manager(Arc::new(persistence.map_err(library)?))
            .with_transport_factory_arc(Arc::clone(&self.transport) as _)
            .with_http_client(NoHttp)
            .with_version_override(gateway::VERSION)
            .with_skip_history_sync(true)
            .with_background_saver_interval(Duration::from_secs(30))
            .build()
            .await
            .map_err(library)?
            .into_client();
        let (sender, state) = watch::channel(State::default());
        let handler = Handler { state: sender, received: Arc::clone(&self.received) };
        let subscription = client.subscribe_handler(Arc::new(handler));
        let run = {
            let client = Arc::clone(&client);
            self.tracker.spawn(async move { client.run().await })
        };
        let bot = Arc::new(Bot {
            client,
            backend,
            state,
            run: Mutex::new(Some(run)),
            _subscription: subscription,
        });
        let mut clients = locked(&self.clients);
        if clients.len() <= session {
            clients.resize_with(session + 1, || None);
        }
        clients[session] = Some(Arc::clone(&bot));
        Ok(bot)
    }

    fn bot(&self, session: usize) -> Result<Arc<Bot>, Failure> {
        let bot = locked(&self.clients).get(session).cloned().flatten();
        bot.ok_or_else(|| Failure::wrong(format!("there is no client {session}")))
    }

    fn bots(&self) -> Vec<Arc<Bot>> {
        locked(&self.clients).iter().flatten().cloned().collect()
    }
}

impl Bot {
    /// Waits until it has said something; returns the code it showed, if it did.
    async fn until(&self, said: fn(&State) -> bool) -> Result<Option<String>, Failure> {
        let mut state = self.state.clone();
        let seen = tokio::time::timeout(DEADLINE, state.wait_for(said)).await;
        match seen.map_err(|_| Failure::Deadline(DEADLINE))? {
            Ok(state) => Ok(state.qr.clone()),
            Err(_) => Err(Failure::wrong("the client is gone")),
        }
    }

    async fn close(&self) {
        self.client.disconnect().await;
        let run = locked(&self.run).take();
        if let Some(run) = run {
            run.await.ok();
        }
        // The credentials of the pairing, for the next client on the same backend.
        self.client.persistence_manager().flush().await.ok();
    }
}

fn library(error: impl std::fmt::Display) -> Failure {
    Failure::wrong(format!("the client library: {error}"))
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
