//! The boundary to the WhatsApp client library: nothing outside this folder names its types.
//!
//! [`Link`] is one client from its first dial to its end. It reports [`Signal`]s, in our words and in
//! the order in which the library dispatched them, and hands messages to [`ingest`](super::ingest)
//! before they are acknowledged. A link is used once: to dial again, the last one is closed and the
//! next one opened, so that no device is ever open twice.

mod barrier;
mod dial;
mod history;
mod hook;
mod http;
mod leash;
mod signal;
mod translate;
mod unrecorded;
mod version;
mod wire;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use entity::message;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;
use wacore::{
    iq::{devices::RemoveCompanionDeviceSpec, keepalive::KeepaliveSpec},
    pair_code::{PairCodeOptions, PairCodeUtils},
    store::DevicePropsOverride,
    types::events::Subscription,
};
use whatsapp_rust::{
    CacheConfig, Client, ClientError,
    client::{ClientBuilderError, RawNodeLease},
    request::IqError,
    send::{SendError as ClientSendError, SendOptions},
    store::{commands::DeviceCommand, persistence_manager::PersistenceManager},
};

use self::{
    barrier::Barrier,
    dial::{Dialler, Progress},
    history::History,
    hook::Hook,
    http::Http,
    signal::Signals,
};
pub(super) use self::{
    dial::DialFailure, signal::Signal, unrecorded::Unrecorded, version::Versions,
};
use super::{
    OnOtherAccount, Options, PairingCode,
    history::{Budget, HistoryStats, Keep},
    identity::Identity,
    ingest::Ingest,
    ownership::Tenure,
};
use crate::{
    clock::Clock,
    device,
    event::{Account, PairingFailure},
    fault::moment,
};

/// How long a client may take to close in good order before it is abandoned.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(15);

/// How long WhatsApp may take to confirm that this device is unlinked.
const LOGOUT_DEADLINE: Duration = Duration::from_secs(10);

/// How long WhatsApp may take to answer when it is asked for a sign of life.
const PING_DEADLINE: Duration = Duration::from_secs(20);

/// How long a message may take to be on its way. What it may have to ask WhatsApp for first is
/// answered in much less.
const SEND_DEADLINE: Duration = Duration::from_mins(2);

/// How long the state of a device and the version may take to be there, before a dial.
const OPEN_DEADLINE: Duration = Duration::from_mins(2);

/// Conversations that have a worker of their own in the library, some 9 KiB each. One in which nothing
/// is under way gives its place to the next; with the library's 5,000 a busy session holds 45 MiB for
/// people who wrote once.
const CHAT_LANES: u64 = 128;

/// How long the socket may take to be there when a pairing code is asked for.
const SOCKET_DEADLINE: Duration = Duration::from_secs(20);

/// What all links of a process share, so that a session costs neither a TLS configuration nor an
/// HTTP client nor a look-up of the version.
#[derive(Clone)]
pub(super) struct Factory {
    options: Arc<Options>,
    connector: Arc<whatsapp_rust::transport::Connector>,
    http: Arc<Http>,
    versions: Versions,
    history: Budget,
    tracker: TaskTracker,
    /// Devices whose last link was dropped and is still being closed.
    closing: Closing,
}

/// Who waits for a device that is being closed waits for its token.
type Closing = Arc<Mutex<HashMap<i32, CancellationToken>>>;

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("WhatsApp's current version could not be found out")]
    Version(#[source] BoxError),
    #[error("the device's state could not be read")]
    Device(#[source] BoxError),
    #[error("the client could not be built")]
    Build(#[source] ClientBuilderError),
    #[error("what is needed for a dial was not there in time")]
    Timeout,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a pairing code was not given.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PairError {
    #[error("WhatsApp does not take this phone number")]
    InvalidPhoneNumber,
    #[error("a pairing code is already being shown")]
    Outstanding { remaining: Duration },
    #[error("{}", .failure.sentence())]
    Refused { failure: PairingFailure, retry_after: Option<Duration> },
    #[error("WhatsApp did not answer in time")]
    Unreachable,
}

impl PairError {
    /// What is remembered of it; nothing of what was not tried.
    pub(super) const fn failure(&self) -> Option<PairingFailure> {
        match self {
            Self::InvalidPhoneNumber => Some(PairingFailure::InvalidPhoneNumber),
            Self::Refused { failure, .. } => Some(*failure),
            Self::Outstanding { .. } => None,
            Self::Unreachable => Some(PairingFailure::Unreachable),
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection is not there (any more): the same message may be sent later.
    #[error("not connected to WhatsApp")]
    NotConnected,
    /// The message itself cannot be sent, now or later.
    #[error("the message cannot be sent")]
    Refused(#[source] BoxError),
}

impl Factory {
    pub(super) fn new(options: Arc<Options>, clock: Clock, tracker: TaskTracker) -> Self {
        let http = Arc::new(Http::new(options.url.as_deref()));
        Self {
            history: Budget::new(&options.history),
            versions: Versions::new(options.version, clock, Arc::clone(&http) as _),
            connector: Arc::new(whatsapp_rust::transport::default_tls_connector()),
            options,
            http,
            tracker,
            closing: Closing::default(),
        }
    }

    /// What was done with the past of newly paired accounts.
    pub(super) fn history_stats(&self) -> HistoryStats {
        self.history.stats()
    }

    /// WhatsApp refuses the version that we say we are.
    pub(super) async fn version_refused(&self) {
        self.versions.refused().await;
    }

    /// Builds the client of one device and starts it. `known`: the account that it should have.
    pub(super) async fn open(
        &self,
        backend: device::Backend,
        ingest: Ingest,
        tenure: Arc<Tenure>,
        known: Identity,
    ) -> Result<(Link, mpsc::UnboundedReceiver<Signal>), OpenError> {
        let opening = self.open_unbounded(backend, ingest, tenure, known);
        tokio::time::timeout(OPEN_DEADLINE, opening).await.map_err(|_| OpenError::Timeout)?
    }

    async fn open_unbounded(
        &self,
        backend: device::Backend,
        ingest: Ingest,
        tenure: Arc<Tenure>,
        known: Identity,
    ) -> Result<(Link, mpsc::UnboundedReceiver<Signal>), OpenError> {
        let device_id = backend.device_id();
        let closing = locked(&self.closing).get(&device_id).cloned();
        if let Some(closing) = closing {
            closing.cancelled().await;
        }
        // What an earlier client of this device has still on its way is there before it is read.
        backend.settle().await.map_err(|error| OpenError::Device(error.into()))?;
        let version =
            self.versions.current().await.map_err(|error| OpenError::Version(error.into()))?;
        let persistence = Arc::new(
            PersistenceManager::new(Arc::new(backend.clone()))
                .await
                .map_err(|error| OpenError::Device(error.into()))?,
        );
        let paired = persistence.get_device_snapshot().pn.is_some();
        if !paired {
            // Shown by the phone in its list of linked devices; read at the pairing only.
            let props = DevicePropsOverride::new().with_os(self.options.device_name.clone());
            let props = history::wishes(props, self.options.history.keep);
            persistence.process_command(DeviceCommand::SetDeviceProps(props)).await;
        }

        let stop = CancellationToken::new();
        let owner = Some(known).filter(|_| self.options.on_other_account == OnOtherAccount::Refuse);
        let unrecorded = Unrecorded::default();
        let barrier = Barrier::new(unrecorded.clone(), &persistence, &backend, stop.clone());
        let dialler = Dialler::new(
            self.options.url.clone(),
            Arc::clone(&self.connector),
            tenure,
            self.tracker.clone(),
            barrier,
        );
        let progress = dialler.progress();
        let hook =
            Hook::new(ingest.clone(), backend, unrecorded.clone(), stop.clone(), owner.clone());
        let build = Client::builder()
            .with_runtime(whatsapp_rust::TokioRuntime)
            .with_persistence_manager(Arc::clone(&persistence))
            .with_transport_factory(dialler)
            .with_http_client_arc(Arc::clone(&self.http) as _)
            .with_version_override(version)
            .with_cache_config(cache_config())
            .with_skip_history_sync(self.options.history.keep == Keep::Nothing)
            .with_background_saver_interval(Duration::from_secs(30))
            .with_inbound_durability_hook(hook)
            .build()
            .await
            .map_err(OpenError::Build)?;
        let (client, tasks) = build.into_parts();
        // Reconnecting is ours: when, and how often, is decided for all sessions together.
        client.enable_auto_reconnect.store(false, Ordering::Relaxed);

        let (signals, receiver) = Signals::channel(unrecorded.clone());
        let subscription = client.subscribe_handler(Arc::new(signals));
        let stanzas = client.acquire_raw_node_forwarding();
        let run = {
            let client = Arc::clone(&client);
            self.tracker.spawn(async move { client.run().await }.in_current_span())
        };
        let history = History {
            client: Arc::clone(&client),
            http: Arc::clone(&self.http),
            ingest,
            budget: self.history.clone(),
            settings: self.options.history.clone(),
            stop: stop.clone(),
            owner,
        };
        let tasks = self.tracker.spawn(history.work(tasks).in_current_span());
        let link = Link {
            tasks: Some(tasks),
            client,
            device_id,
            closing: Arc::clone(&self.closing),
            progress,
            unrecorded,
            stop,
            run: Some(run),
            paired,
            tracker: self.tracker.clone(),
            subscription,
            stanzas,
        };
        Ok((link, receiver))
    }
}

/// What a client keeps in memory.
fn cache_config() -> CacheConfig {
    CacheConfig { chat_lanes_capacity: CHAT_LANES, ..CacheConfig::default() }
}

/// One client, from its first dial to its end.
pub(super) struct Link {
    client: Arc<Client>,
    device_id: i32,
    closing: Closing,
    progress: Progress,
    unrecorded: Unrecorded,
    stop: CancellationToken,
    run: Option<tokio::task::JoinHandle<()>>,
    /// Serves what the library wants done beside its connection.
    tasks: Option<tokio::task::JoinHandle<()>>,
    /// Whether the device was paired already when the link was opened.
    paired: bool,
    tracker: TaskTracker,
    /// Dropped with the link: the receiver of its signals then ends after the last one.
    #[expect(dead_code, reason = "held for what its drop does")]
    subscription: Subscription,
    #[expect(dead_code, reason = "held for what its drop does")]
    stanzas: RawNodeLease,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("paired", &self.paired).finish_non_exhaustive()
    }
}

impl Link {
    /// Whether the device was paired already when the link was opened.
    pub(super) fn was_paired(&self) -> bool {
        self.paired
    }

    /// Waits until the client has ended by itself.
    pub(super) async fn ended(&mut self) {
        if let Some(run) = &mut self.run {
            // A panic in the client ends its task like anything else does.
            run.await.ok();
            self.run = None;
        }
    }

    /// Why the last dial failed, if it did.
    pub(super) fn dial_failure(&self) -> Option<DialFailure> {
        self.progress.take_failure()
    }

    /// Whether the server has answered our hello: what is missing is the login.
    pub(super) fn is_answered(&self) -> bool {
        self.progress.is_answered()
    }

    /// Bytes received on the present connection.
    pub(super) fn received(&self) -> u64 {
        self.progress.received()
    }

    /// Asks WhatsApp for a sign of life, without waiting for it: an answer is received like anything
    /// else.
    pub(super) fn ping(&self) {
        let client = Arc::clone(&self.client);
        let ping = async move {
            client.execute(KeepaliveSpec::with_timeout(PING_DEADLINE)).await.ok();
        };
        let stop = self.stop.clone();
        self.tracker.spawn(stop.run_until_cancelled_owned(ping).in_current_span());
    }

    /// Gives the connection up without a word: there is nobody who would hear it.
    pub(super) fn cut(&self) {
        self.progress.cut();
    }

    /// Lets the library log in by itself when a pairing is complete.
    ///
    /// The server then restarts the connection (515), and the client has to remember more of the
    /// pairing than is on disk. Only while a code can be scanned: any other reconnect is ours.
    pub(super) fn expect_restart(&self, expected: bool) {
        self.client.enable_auto_reconnect.store(expected, Ordering::Relaxed);
    }

    /// Makes the credentials of a pairing durable.
    ///
    /// The library writes them behind; until they are on disk, a crash would lose the pairing.
    pub(super) async fn keep_credentials(&self) -> bool {
        self.client.persistence_manager().flush().await.is_ok()
    }

    /// Whose account this is, as far as is known.
    pub(super) fn account(&self) -> Account {
        translate::account(&self.client.persistence_manager().get_device_snapshot())
    }

    /// Asks for a pairing code and answers it, without keeping the caller. No answer comes when the
    /// link is closed before.
    pub(super) fn pair(
        &self,
        phone_number: String,
        clock: Clock,
        answer: impl FnOnce(Result<PairingCode, PairError>) + Send + 'static,
    ) {
        let sender = self.sender();
        let asking = async move { answer(sender.pair(phone_number, &clock).await) };
        let stop = self.stop.clone();
        self.tracker.spawn(stop.run_until_cancelled_owned(asking).in_current_span());
    }

    /// Something that can send while the link is up.
    pub(super) fn sender(&self) -> Sender {
        Sender { client: Arc::clone(&self.client), progress: self.progress.clone() }
    }

    /// What was received and is not recorded yet: who records facts settles them here.
    pub(super) fn unrecorded(&self) -> &Unrecorded {
        &self.unrecorded
    }

    /// Unlinks this device at WhatsApp. True when WhatsApp could be told.
    ///
    /// Facts must be recorded meanwhile: no frame leaves before what was received is.
    pub(super) fn logout(&self) -> impl Future<Output = bool> + Send + 'static {
        let client = Arc::clone(&self.client);
        async move {
            let device = client.persistence_manager().get_device_snapshot();
            let Some(jid) = device.pn.as_ref().filter(|_| client.is_logged_in()) else {
                return false;
            };
            // Not the library's own logout, which does not say what WhatsApp answered.
            let told = client.execute(RemoveCompanionDeviceSpec::new(jid));
            matches!(tokio::time::timeout(LOGOUT_DEADLINE, told).await, Ok(Ok(())))
        }
    }

    /// Closes the client in good order: what it holds is written, then the socket is closed.
    ///
    /// Returns when its task has ended, so that the device may be opened again. A client that does
    /// not end in time is abandoned, with its task aborted.
    pub(super) async fn close(mut self) {
        moment!("session.closing");
        self.stop.cancel();
        // Also when it has ended by itself: what it holds in memory is still to be written.
        let closed = tokio::time::timeout(CLOSE_DEADLINE, async {
            self.client.disconnect().await;
            self.ended().await;
            if let Some(tasks) = self.tasks.take() {
                // It has been told to stop; a panic has been reported.
                tasks.await.ok();
            }
        })
        .await;
        if closed.is_err() {
            tracing::error!("A client did not close in time and was aborted");
            if let Some(tasks) = self.tasks.take() {
                tasks.abort();
            }
            if let Some(run) = self.run.take() {
                run.abort();
                // Cancelled, as it was told to.
                run.await.ok();
            }
        }
        moment!("session.closed");
    }
}

/// A link that is dropped without being closed, by a panic, closes in the background. Its device is
/// not opened before that is done.
impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
        let Some(mut run) = self.run.take() else { return };
        let (client, device_id) = (Arc::clone(&self.client), self.device_id);
        let (closing, closed) = (Arc::clone(&self.closing), CancellationToken::new());
        locked(&closing).insert(device_id, closed.clone());
        self.tracker.spawn(async move {
            let in_order = async {
                client.disconnect().await;
                (&mut run).await.ok();
            };
            if tokio::time::timeout(CLOSE_DEADLINE, in_order).await.is_err() {
                run.abort();
                run.await.ok();
            }
            locked(&closing).remove(&device_id);
            closed.cancel();
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends through one link.
#[derive(Clone)]
pub(super) struct Sender {
    client: Arc<Client>,
    progress: Progress,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Writes a stored message to the socket, under the id that it was stored with.
    pub(super) async fn send(&self, row: &message::Model) -> Result<(), SendError> {
        if !self.client.is_logged_in() {
            return Err(SendError::NotConnected);
        }
        let to: wacore_binary::Jid =
            row.chat.parse().map_err(|error| SendError::Refused(Box::new(error)))?;
        let options = SendOptions::default().with_message_id(row.wa_id.clone());
        let sending = self.client.send_message_with_options(to, translate::outbound(row), options);
        let Ok(sent) = tokio::time::timeout(SEND_DEADLINE, sending).await else {
            // A connection that a message does not get through is no connection.
            tracing::error!("A message was not on its way in time; the connection is given up");
            self.progress.cut();
            return Err(SendError::NotConnected);
        };
        match sent {
            Ok(_) => Ok(()),
            // Whatever the library calls it: without a connection it is a matter of time.
            Err(_) if !self.client.is_logged_in() => Err(SendError::NotConnected),
            // The server has said no to what the message needs: a group that we are not in.
            Err(error @ ClientSendError::Iq(IqError::ServerError { .. })) => {
                Err(SendError::Refused(Box::new(error)))
            }
            Err(
                ClientSendError::NotLoggedIn
                | ClientSendError::Iq(_)
                | ClientSendError::Client(
                    ClientError::NotConnected
                    | ClientError::NotLoggedIn
                    | ClientError::Socket(_)
                    | ClientError::EncryptSend(_)
                    | ClientError::Iq(_),
                ),
            ) => Err(SendError::NotConnected),
            Err(error) => Err(SendError::Refused(Box::new(error))),
        }
    }

    /// Asks for an 8-character pairing code for the phone with this number.
    async fn pair(&self, phone_number: String, clock: &Clock) -> Result<PairingCode, PairError> {
        if self.client.wait_for_socket(SOCKET_DEADLINE).await.is_err() {
            return Err(PairError::Unreachable);
        }
        let options = PairCodeOptions { phone_number, ..PairCodeOptions::default() };
        // The library's own count begins before it asks.
        let expires_at = clock.now() + PairCodeUtils::code_validity();
        match self.client.pair_with_code(options).await {
            Ok(code) => Ok(PairingCode { code, expires_at }),
            Err(error) => Err(translate::pair_error(&error)),
        }
    }
}
