//! The server: accepts connections, knows who they are, answers, and passes on.
//!
//! The walk of a stanza: [`connection`] decrypts it and hands it to [`router`]; a request goes to
//! [`iq`], a message to [`messages`], a receipt to [`receipts`]. Whatever is for another device
//! goes through [`delivery`], which queues it until that device confirms it. Simulated people write
//! through [`writing`].

mod code;
mod connection;
mod delivery;
mod files;
mod history;
mod iq;
mod link;
mod listener;
mod login;
mod media;
mod messages;
mod notices;
mod pairing;
mod passkey;
mod play;
mod receipts;
mod refusals;
mod relay;
mod requests;
mod retries;
mod router;
mod strikes;
mod updates;
mod writing;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub(crate) use code::WaitingCode;
pub(crate) use link::Link;
pub(crate) use listener::Listening;
pub(crate) use pairing::Waiting;
pub use play::Play;
pub(crate) use writing::Recipient;

use crate::fault::Faults;
use crate::observe::{Counters, Inflicted, Sockets};
use crate::options::Options;
use crate::people::{Directory, group::GroupChat, person::Person};
use crate::violation::Violations;
use crate::wire::certificate::ServerKeys;
use crate::{Error, address, locked, reading, writing as write_lock};

/// Everything the connections share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) options: Options,
    pub(crate) directory: Directory,
    pub(crate) faults: Faults,
    pub(crate) violations: Violations,
    pub(crate) counters: Arc<Counters>,
    /// Stops everything.
    pub(crate) stopped: CancellationToken,
    /// Unpaired connections by the references they may show as QR codes.
    pub(crate) waiting: Mutex<HashMap<String, Arc<Waiting>>>,
    /// Unpaired connections that asked for a code, by the phone's number.
    pub(crate) codes: Mutex<HashMap<String, Arc<WaitingCode>>>,
    /// Live connections, so that a fault can strike them before they have logged in.
    pub(crate) links: Mutex<HashMap<u64, Link>>,
    /// Blobs for clients to download.
    pub(crate) media: media::Media,
    /// Accepted connections, from their first moment on.
    pub(crate) sockets: Arc<Sockets>,
    /// Faults that were made to happen, the oldest first.
    pub(crate) inflicted: Mutex<VecDeque<Inflicted>>,
    /// Scripts that are not over.
    pub(crate) plays: Mutex<Vec<Play>>,
    /// When codes were asked for, to count them while that is limited.
    pub(crate) code_requests: Mutex<VecDeque<Instant>>,
    /// Whether deliveries are only queued.
    pub(crate) holding: AtomicBool,
    keys: RwLock<Arc<ServerKeys>>,
    tasks: TaskTracker,
    numbers: AtomicU64,
}

impl std::fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKeys").finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            directory: Directory::default(),
            faults: Faults::default(),
            violations: Violations::default(),
            counters: Arc::default(),
            stopped: CancellationToken::new(),
            waiting: Mutex::default(),
            codes: Mutex::default(),
            links: Mutex::default(),
            media: media::Media::default(),
            sockets: Arc::default(),
            inflicted: Mutex::default(),
            plays: Mutex::default(),
            code_requests: Mutex::default(),
            holding: AtomicBool::new(false),
            keys: RwLock::new(Arc::new(ServerKeys::generate())),
            tasks: TaskTracker::new(),
            numbers: AtomicU64::new(1),
        })
    }

    /// The server's present static key.
    pub(crate) fn keys(&self) -> Arc<ServerKeys> {
        Arc::clone(&reading(&self.keys))
    }

    /// Takes a new static key: clients that cached the old one must fall back.
    pub(crate) fn rotate_keys(&self) {
        *write_lock(&self.keys) = Arc::new(ServerKeys::generate());
    }

    /// A number no other connection, stanza or message has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a task that ends when the simulator does, and counts its CPU time.
    pub(crate) fn spawn(
        &self,
        span: tracing::Span,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stopped = self.stopped.clone();
        let task = self.counters.metered(task);
        let task = async move { stopped.run_until_cancelled_owned(task).await };
        self.tasks.spawn(
            async move {
                task.await;
            }
            .instrument(span),
        );
    }

    /// Tells all tasks to stop.
    pub(crate) fn end(&self) {
        self.stopped.cancel();
        // A script holds on to what it is played on.
        locked(&self.plays).clear();
    }

    /// Stops all tasks and waits for them.
    pub(crate) async fn stop(&self) {
        self.end();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Finds or creates somebody.
    pub(crate) fn person(&self, number: &str) -> Result<Arc<Person>, Error> {
        self.directory.person(number, self.options.receipts, self.options.memory)
    }

    /// Finds somebody who must exist.
    pub(crate) fn existing(&self, number: &str) -> Result<Arc<Person>, Error> {
        let pn = address::digits(number);
        self.directory.find(&pn).ok_or_else(|| Error::UnknownPerson(number.to_owned()))
    }

    /// Finds a group by id or address.
    pub(crate) fn group(&self, id: &str) -> Result<Arc<GroupChat>, Error> {
        let id = id.split('@').next().unwrap_or_default();
        self.directory.group(id).ok_or_else(|| Error::UnknownGroup(id.to_owned()))
    }
}
