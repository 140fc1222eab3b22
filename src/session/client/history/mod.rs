//! History: from a notification of the phone to rows in the database.
//!
//! One chunk of a session at a time: wait for the memory, fetch the blob, wait for a reader, unpack
//! it on a thread of its own, write what it says in batches, and let the library have what it needs
//! of it. The library's own way would fetch whatever comes at once, for every session.
//!
//! The phone is told that a chunk has arrived when it is in the database. What a crash or a
//! disconnect interrupts is handed over again by the phone, and stored once.

mod fetch;
mod read;

use std::{sync::Arc, time::Duration};

use entity::UnixMillis;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wacore::messages::DetachedHistorySyncNotification;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp::message::HistorySyncType;
use whatsapp_rust::{
    Client, async_channel,
    sync_task::{HistorySyncTaskTracker, MajorSyncTask},
};

use self::{
    fetch::FetchError,
    read::{Limits, Reading, Seen},
};
use super::{http::Http, threads, translate};
use crate::{
    event::Event,
    session::{
        history::{Budget, Keep, Settings},
        identity::Identity,
        ingest::Ingest,
    },
};

/// Chunks that may wait. A phone sends some dozens; what it sends beyond is left to it.
const MOST_WAITING: usize = 1_000;

/// Batches that are read ahead of the database.
const READ_AHEAD: usize = 2;

/// Distances between the tries of a download.
const RETRIES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];

const DAY: Duration = Duration::from_hours(24);

/// A chunk, as the library announces it.
struct Chunk {
    message_id: String,
    notification: Box<DetachedHistorySyncNotification>,
    tracker: HistorySyncTaskTracker,
}

/// Takes history for one client.
pub(super) struct History {
    pub(super) client: Arc<Client>,
    pub(super) http: Arc<Http>,
    pub(super) ingest: Ingest,
    pub(super) budget: Budget,
    pub(super) settings: Settings,
    pub(super) stop: CancellationToken,
    /// Whose past it must be, where anybody else's is refused.
    pub(super) owner: Option<Identity>,
}

/// What is remembered from chunk to chunk.
#[derive(Default)]
struct Progress {
    seen: Seen,
    inflated: u64,
    percent: Option<u8>,
}

/// Why a chunk was left out.
#[derive(Debug, thiserror::Error)]
enum ChunkError {
    #[error("it is larger than the memory for history")]
    TooLarge,
    #[error("the session has had as much history as it may have")]
    EnoughForOneSession,
    #[error("the device is linked to another account and about to be unlinked")]
    OtherAccount,
    #[error("it could not be fetched")]
    Fetch(#[from] FetchError),
    #[error("it could not be unpacked")]
    Read(#[from] read::ReadError),
    #[error("it could not be stored")]
    Store(#[from] crate::store::Error),
    #[error("the session is stopping")]
    Stopping,
}

impl ChunkError {
    /// Whether the phone need not hand it over again: it would fail again.
    fn is_final(&self) -> bool {
        match self {
            Self::TooLarge | Self::EnoughForOneSession | Self::Read(_) => true,
            Self::Fetch(error) => error.is_final(),
            Self::OtherAccount | Self::Store(_) | Self::Stopping => false,
        }
    }
}

impl History {
    /// Serves the library's tasks until the link is closed.
    pub(super) async fn work(self, tasks: async_channel::Receiver<MajorSyncTask>) {
        let (queue, mut chunks) = mpsc::channel(MOST_WAITING);
        let stop = self.stop.clone();
        let intake = async {
            while let Ok(task) = tasks.recv().await {
                match task {
                    MajorSyncTask::HistorySync { message_id, notification, tracker } => {
                        let chunk = Chunk { message_id, notification, tracker };
                        if queue.try_send(chunk).is_err() {
                            tracing::warn!("Too many chunks of history wait; one was left out");
                            self.budget.chunk_failed();
                        }
                    }
                    other @ MajorSyncTask::AppStateSync { .. } => {
                        self.leave_to_library(other).await;
                    }
                }
            }
        };
        let work = async {
            let mut progress = Progress::default();
            while let Some(chunk) = chunks.recv().await {
                self.take(chunk, &mut progress).await;
            }
        };
        stop.run_until_cancelled(async { tokio::join!(intake, work) }).await;
    }

    /// Takes one chunk; what is wrong with it is said here and harms nobody.
    async fn take(&self, chunk: Chunk, progress: &mut Progress) {
        let kind = chunk.notification.notification.sync_type;
        let percent = chunk.notification.notification.progress;
        let message_id = chunk.message_id.clone();
        match self.try_take(chunk, progress).await {
            Ok(()) => {}
            Err(error) => {
                self.budget.chunk_failed();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    history.kind = ?kind,
                    "A chunk of history was left out"
                );
                if error.is_final() {
                    self.confirm(&message_id).await;
                }
            }
        }
        self.announce(percent, progress).await;
    }

    async fn try_take(&self, chunk: Chunk, progress: &mut Progress) -> Result<(), ChunkError> {
        let Chunk { message_id, mut notification, tracker } = chunk;
        let account = translate::account(&self.client.persistence_manager().get_device_snapshot());
        if self.owner.as_ref().is_some_and(|owner| owner.is_not(&account)) {
            return Err(ChunkError::OtherAccount);
        }
        if progress.inflated >= self.settings.max_session {
            return Err(ChunkError::EnoughForOneSession);
        }
        let announced = match &notification.inline_payload {
            Some(inline) => inline.len() as u64,
            None => notification.notification.file_length.unwrap_or(0),
        };
        let memory = self.budget.memory(announced).await.ok_or(ChunkError::TooLarge)?;
        let blob = if let Some(inline) = notification.inline_payload.take() {
            inline
        } else {
            let fetch = Box::pin(self.fetch(&notification.notification, announced));
            threads::holding(vec![memory.clone()], fetch).await?
        };
        let reader = self.budget.reader().await.ok_or(ChunkError::Stopping)?;
        let unpack = Box::pin(async {
            if has_conversations(notification.notification.sync_type) {
                self.read(&blob, progress).await?;
            }
            // Names, tokens, who is who: what the library itself wants to know. It tells the phone, too.
            notification.inline_payload = Some(blob);
            let task = MajorSyncTask::HistorySync { message_id, notification, tracker };
            self.leave_to_library(task).await;
            // While its share is held: whoever finds nothing under way finds it counted.
            self.budget.chunk_read();
            Ok::<_, ChunkError>(())
        });
        threads::holding(vec![memory, reader], unpack).await
    }

    /// Boxed: the library's future nests deeper than the compiler expects of anybody.
    fn leave_to_library(&self, task: MajorSyncTask) -> BoxFuture<'_, ()> {
        Box::pin(self.client.process_sync_task(task))
    }

    /// Fetches a blob, with some patience for a network that is down.
    async fn fetch(
        &self,
        notification: &waproto::whatsapp::message::HistorySyncNotification,
        announced: u64,
    ) -> Result<bytes::Bytes, FetchError> {
        let mut retries = RETRIES.into_iter();
        loop {
            match fetch::fetch(&self.client, &self.http, notification, announced).await {
                Err(error) if !error.is_final() => match retries.next() {
                    Some(distance) => {
                        let at = self.ingest.now() + distance;
                        self.ingest.sleep_until(at).await;
                    }
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    /// Unpacks a chunk on a thread of its own, and stores what it says as fast as the database
    /// takes it.
    async fn read(&self, blob: &bytes::Bytes, progress: &mut Progress) -> Result<(), ChunkError> {
        let now = self.ingest.now();
        let left = self.settings.max_session.saturating_sub(progress.inflated);
        let reading = Reading {
            compressed: blob.clone(),
            max_inflated: self.settings.max_chunk.min(left),
            own: own_address(&self.client),
            limits: limits(self.settings.keep, now),
            seen: std::mem::take(&mut progress.seen),
            now,
        };
        let (batches, mut receiver) = mpsc::channel(READ_AHEAD);
        let reader = threads::spawn(move || read::read(reading, &batches));
        let mut stored = Ok(());
        while let Some(batch) = receiver.recv().await {
            let count = batch.len() as u64;
            match self.ingest.import(batch).await {
                Ok(new) => self.budget.messages(new, count.saturating_sub(new)),
                Err(error) => {
                    stored = Err(error);
                    break;
                }
            }
        }
        // A reader that is not listened to any more ends at its next chat, or batch.
        drop(receiver);
        let (seen, read) = reader.await.map_err(|_panicked| ChunkError::Stopping)?;
        progress.seen = seen;
        stored?;
        let summary = read?;
        progress.inflated += summary.inflated;
        tracing::info!(
            messages = summary.messages,
            inflated = summary.inflated,
            skipped = summary.skipped,
            "A chunk of history was read"
        );
        Ok(())
    }

    /// Tells the phone that a chunk need not be handed over again.
    async fn confirm(&self, message_id: &str) {
        let device = self.client.persistence_manager().get_device_snapshot();
        let Some(own) = &device.pn else { return };
        let receipt = NodeBuilder::new("receipt")
            .attr("id", message_id)
            .attr("type", "hist_sync")
            .attr("to", own.to_non_ad_string())
            .build();
        // Without a connection, the phone hands it over again, and it fails again.
        self.client.send_node(receipt).await.ok();
    }

    /// Says how far the transfer is, if it is further than it was.
    async fn announce(&self, percent: Option<u32>, progress: &mut Progress) {
        let Some(percent) = percent.and_then(|it| u8::try_from(it.min(100)).ok()) else { return };
        if progress.percent.is_none_or(|before| before < percent) {
            progress.percent = Some(percent);
            self.ingest.say(Event::HistoryProgress { percent }).await;
        }
    }
}

/// What a phone is asked for at the pairing.
pub(super) fn wishes(
    props: wacore::store::DevicePropsOverride,
    keep: Keep,
) -> wacore::store::DevicePropsOverride {
    use wacore::store::device::default_history_sync_config;
    use waproto::whatsapp::device_props::HistorySyncConfig;

    /// A phone hands over about three months unless it is asked for everything.
    const RECENT_DAYS: u32 = 90;
    match keep {
        Keep::Nothing => props,
        Keep::Recent { days, messages_per_chat } => {
            let full = days > RECENT_DAYS;
            props.with_require_full_sync(full).with_history_sync_config(HistorySyncConfig {
                full_sync_days_limit: full.then_some(days),
                recent_sync_days_limit: Some(days.min(RECENT_DAYS)),
                initial_sync_max_messages_per_chat: Some(messages_per_chat),
                ..default_history_sync_config()
            })
        }
        Keep::Everything => {
            props.with_require_full_sync(true).with_history_sync_config(HistorySyncConfig {
                full_sync_days_limit: Some(3_650),
                ..default_history_sync_config()
            })
        }
    }
}

/// Kinds of chunks that hold messages of chats. The others hold names, settings and status updates.
fn has_conversations(kind: Option<HistorySyncType>) -> bool {
    matches!(
        kind,
        Some(
            HistorySyncType::INITIAL_BOOTSTRAP
                | HistorySyncType::RECENT
                | HistorySyncType::FULL
                | HistorySyncType::ON_DEMAND
        )
    )
}

fn limits(keep: Keep, now: UnixMillis) -> Limits {
    match keep {
        Keep::Nothing | Keep::Everything => Limits { since: None, per_chat: None },
        Keep::Recent { days, messages_per_chat } => {
            let age = DAY * days;
            let since = now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
            Limits { since: Some(UnixMillis(since)), per_chat: Some(messages_per_chat as usize) }
        }
    }
}

fn own_address(client: &Client) -> String {
    let device = client.persistence_manager().get_device_snapshot();
    device.pn.as_ref().map(wacore_binary::Jid::to_non_ad_string).unwrap_or_default()
}
