//! What must be on disk before a frame leaves.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{Client, anyhow, store::persistence_manager::PersistenceManager};

use super::unrecorded::Unrecorded;
use crate::{device, fault::moment};

/// How long a frame of a session that closes waits for ratchets, which take milliseconds where there is a database.
const LAST_FRAMES: Duration = Duration::from_secs(2);

/// Holds frames back until the database agrees with them. Clones are one and the same.
///
/// Three things are written behind, while the library says to WhatsApp that we have them:
///
/// - What it reports as events (`unrecorded.rs`).
/// - The credentials of a pairing. The phone links the device when it has our signature; were the
///   credentials lost with the process after that, the account would show a device that nobody can use,
///   and the session would need another QR code.
/// - The ratchets that messages are encrypted with. The library writes them before a message leaves when its
///   counters are used up, but not when an answer has given the conversation a new sending chain
///   (`rebase_lease_after_sender_chain_reset` of wacore-libsignal 0.7): were that lost with the process,
///   the recipient would go on with a chain that nobody here has, and neither could read the other until both
///   have begun anew. So while a message is being sent, the library is made to write them. And whatever it takes to be
///   written is only noted at first (`device/noted.rs`): every frame waits until that is on disk.
#[derive(Clone, Default)]
pub(super) struct Barrier(Arc<Shared>);

#[derive(Default)]
struct Shared {
    unrecorded: Unrecorded,
    closing: CancellationToken,
    /// Where the ratchets go. None: there are none.
    backend: Option<device::Backend>,
    /// None when the device was paired before: what it was loaded from is on disk.
    unpaired: Option<Unpaired>,
    /// Messages that are being sent.
    sending: AtomicUsize,
    /// Whose ratchets they are, once there is one.
    client: OnceLock<Weak<Client>>,
}

struct Unpaired {
    persistence: Arc<PersistenceManager>,
    backend: device::Backend,
    /// Whether the credentials of its pairing are on disk.
    kept: AtomicBool,
}

impl Barrier {
    pub(super) fn new(
        unrecorded: Unrecorded,
        persistence: &Arc<PersistenceManager>,
        backend: &device::Backend,
        closing: CancellationToken,
    ) -> Self {
        let paired = persistence.get_device_snapshot().pn.is_some();
        let unpaired = (!paired).then(|| Unpaired {
            persistence: Arc::clone(persistence),
            backend: backend.clone(),
            kept: AtomicBool::new(false),
        });
        let backend = Some(backend.clone());
        Self(Arc::new(Shared { unrecorded, closing, backend, unpaired, ..Shared::default() }))
    }

    /// The frames are this client's.
    pub(super) fn serve(&self, client: &Arc<Client>) {
        // There is one barrier for each client.
        self.0.client.set(Arc::downgrade(client)).ok();
    }

    /// A message is being sent, until this is dropped.
    pub(super) fn sending(&self) -> Sending {
        self.0.sending.fetch_add(1, Ordering::AcqRel);
        Sending(self.clone())
    }

    pub(super) fn unrecorded(&self) -> &Unrecorded {
        &self.0.unrecorded
    }

    /// Waits until a frame may leave, and says whether credentials were kept for it. An error when it
    /// never may.
    pub(super) async fn pass(&self) -> Result<bool, anyhow::Error> {
        let Shared { unrecorded, closing, .. } = &*self.0;
        if !unrecorded.recorded(closing).await {
            anyhow::bail!("the session is closing; WhatsApp will deliver again");
        }
        self.keep_ratchets().await?;
        self.keep_credentials().await
    }

    /// What a message is encrypted with is on disk before it leaves, and so is what it answers.
    ///
    /// A session that another message is being read with at this very moment is not written: then a crash
    /// within the library's own delay (25 ms) loses the chain after all.
    async fn keep_ratchets(&self) -> Result<(), anyhow::Error> {
        let Shared { sending, client, closing, backend, .. } = &*self.0;
        let client = client.get().and_then(Weak::upgrade);
        if let Some(client) = client.filter(|_| sending.load(Ordering::Acquire) > 0) {
            // Messages are sent when the backlog is drained. Before that, this would wait for whoever
            // processes it, who may be waiting for a frame.
            let kept = client.flush_pending_signal_state();
            match closing.run_until_cancelled(kept).await {
                Some(kept) => kept?,
                None => anyhow::bail!(
                    "the session is closing; the message is sent by the next connection"
                ),
            }
        }
        let Some(backend) = backend else { return Ok(()) };
        // Whoever writes waits for nobody who waits for a frame.
        let written = backend.written();
        tokio::pin!(written);
        if let Some(written) = closing.run_until_cancelled(&mut written).await {
            return Ok(written?);
        }
        // Most of what is said at the end is said at once.
        match timeout(LAST_FRAMES, written).await {
            Ok(written) => Ok(written?),
            Err(_) => anyhow::bail!("the session is closing; WhatsApp will deliver again"),
        }
    }

    /// Waits until all ratchets are on disk that the client has written by now, or cannot be written.
    pub(super) async fn ratchets_written(&self) {
        if let Some(backend) = &self.0.backend {
            // It was said by whoever tried first. What is not written is as if the process had died before it.
            backend.written().await.ok();
        }
    }

    /// The client has closed: its ratchets are not written any more.
    pub(super) fn end(&self) {
        if let Some(backend) = &self.0.backend {
            backend.end();
        }
    }

    /// The library has taken the credentials in before it signs, and signs in a frame.
    async fn keep_credentials(&self) -> Result<bool, anyhow::Error> {
        let Some(Unpaired { persistence, backend, kept }) = &self.0.unpaired else {
            return Ok(false);
        };
        if kept.load(Ordering::Acquire) {
            return Ok(false);
        }
        let device = persistence.get_device_snapshot();
        if device.pn.is_none() {
            return Ok(false);
        }
        // Not the library's flush, which takes a save that is still under way for done.
        backend.keep(&device).await?;
        kept.store(true, Ordering::Release);
        moment!("pairing.before_signing");
        Ok(true)
    }
}

/// A message that is being sent.
pub(super) struct Sending(Barrier);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.0.sending.fetch_sub(1, Ordering::AcqRel);
    }
}
