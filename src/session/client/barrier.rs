//! What must be on disk before a frame leaves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;
use whatsapp_rust::{anyhow, store::persistence_manager::PersistenceManager};

use super::unrecorded::Unrecorded;
use crate::{device, fault::moment};

/// Holds frames back until the database agrees with them. Clones are one and the same.
///
/// Two things are written behind by the library, while it says to WhatsApp that we have them: what it
/// reports as events (`unrecorded.rs`), and the credentials of a pairing. The phone links the device
/// when it has our signature; were the credentials lost with the process after that, the account would
/// show a device that nobody can use, and the session would need another QR code.
#[derive(Clone, Default)]
pub(super) struct Barrier(Arc<Shared>);

#[derive(Default)]
struct Shared {
    unrecorded: Unrecorded,
    closing: CancellationToken,
    /// None when the device was paired before: what it was loaded from is on disk.
    unpaired: Option<Unpaired>,
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
        Self(Arc::new(Shared { unrecorded, closing, unpaired }))
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
        self.keep_credentials().await
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
