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
mod link;
pub(in crate::session) mod media;
mod resend;
mod runtime;
mod send;
mod signal;
mod threads;
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

use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;
use wacore::store::DevicePropsOverride;
use whatsapp_rust::{
    CacheConfig, CacheEntryConfig, Client,
    client::ClientBuilderError,
    store::{commands::DeviceCommand, persistence_manager::PersistenceManager},
};

pub use self::send::SendError;
use self::{
    barrier::Barrier, dial::Dialler, history::History, hook::Hook, http::Http, runtime::Watching,
    signal::Signals, version::Remembered,
};
pub(super) use self::{
    dial::DialFailure,
    link::{CLOSE_DEADLINE, Link},
    runtime::Tasks,
    send::Sender,
    signal::Signal,
    unrecorded::Unrecorded,
    version::Versions,
};
use super::{
    OnOtherAccount, Options,
    history::{Budget, HistoryStats, Keep},
    identity::Identity,
    ingest::Ingest,
    ownership::Tenure,
    panics::{Contained, Panics},
};
use crate::{
    clock::Clock,
    device,
    event::{Loss, PairingFailure},
};

/// How long the state of a device and the version may take to be there, before a dial.
const OPEN_DEADLINE: Duration = Duration::from_mins(2);

/// Conversations that have a worker of their own in the library, some 9 KiB each. One in which nothing
/// is under way gives its place to the next; with the library's 5,000 a busy session holds 45 MiB for
/// people who wrote once.
const CHAT_LANES: u64 = 128;

/// How long the library remembers what the phone was asked for, to know an answer by it. A phone answers when
/// it is switched on again; what is answered later is known by what the answer says of it.
const PHONE_ANSWERS: Duration = Duration::from_hours(24);

/// Messages asked for that it remembers.
const PHONE_ASKED: u64 = 512;

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
    panics: Panics,
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

impl OpenError {
    /// What is said of the session for it.
    pub(super) const fn loss(&self) -> Loss {
        match self {
            // It is asked for over the same network as everything else.
            Self::Version(_) => Loss::Unreachable,
            Self::Device(_) | Self::Build(_) | Self::Timeout => Loss::ClientFailed,
        }
    }
}

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

impl Factory {
    pub(super) fn new(options: Arc<Options>, clock: Clock, tracker: TaskTracker) -> Self {
        let http = Arc::new(Http::new(options.url.as_deref()));
        Self {
            panics: Panics::default(),
            history: Budget::new(&options.history),
            versions: Versions::new(options.version, clock, Arc::clone(&http) as _),
            connector: Arc::new(whatsapp_rust::transport::default_tls_connector()),
            options,
            http,
            tracker,
            closing: Closing::default(),
        }
    }

    /// Panics of sessions' tasks, those of their clients included.
    pub(super) fn panics(&self) -> &Panics {
        &self.panics
    }

    /// What was done with the past of newly paired accounts.
    pub(super) fn history_stats(&self) -> HistoryStats {
        self.history.stats()
    }

    /// WhatsApp refuses the version that we say we are.
    pub(super) fn version_refused(&self) {
        self.versions.refused();
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
        backend.write_behind();
        let persistence = Arc::new(
            PersistenceManager::new(Arc::new(backend.clone()))
                .await
                .map_err(|error| OpenError::Device(error.into()))?,
        );
        let snapshot = persistence.get_device_snapshot();
        let version = self.versions.current(Remembered::of(&snapshot)).await;
        let version = version.map_err(|error| OpenError::Version(error.into()))?;
        let paired = snapshot.pn.is_some();
        drop(snapshot);
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
            barrier.clone(),
        );
        let progress = dialler.progress();
        let tasks = Tasks::new(backend.tasks().clone(), Contained::new(self.panics.clone()));
        let hook =
            Hook::new(ingest.clone(), backend, unrecorded.clone(), stop.clone(), owner.clone());
        let build = Client::builder()
            .with_runtime(Watching(tasks.clone()))
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
        let (client, wishes) = build.into_parts();
        barrier.serve(&client);
        // Reconnecting is ours: when, and how often, is decided for all sessions together.
        client.enable_auto_reconnect.store(false, Ordering::Relaxed);

        let (signals, receiver) = Signals::channel(unrecorded.clone());
        let subscription = client.subscribe_handler(Arc::new(signals));
        let stanzas = client.acquire_raw_node_forwarding();
        let run = {
            let client = Arc::clone(&client);
            let run = tasks.of_the_library(Box::pin(async move { client.run().await }));
            self.tracker.spawn(run.in_current_span())
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
        let history = tasks.beside(history.work(wishes));
        let link = Link {
            history: Some(self.tracker.spawn(history.in_current_span())),
            tasks,
            client,
            device_id,
            closing: Arc::clone(&self.closing),
            progress,
            unrecorded,
            barrier,
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
    CacheConfig {
        chat_lanes_capacity: CHAT_LANES,
        pdo_pending_requests: CacheEntryConfig::new(Some(PHONE_ANSWERS), PHONE_ASKED),
        ..CacheConfig::default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_away_is_not_called_a_fault_of_the_client() {
        assert_eq!(OpenError::Version("no route".into()).loss(), Loss::Unreachable);
        assert_eq!(OpenError::Device("no row".into()).loss(), Loss::ClientFailed);
        assert_eq!(OpenError::Timeout.loss(), Loss::ClientFailed);
    }
}
