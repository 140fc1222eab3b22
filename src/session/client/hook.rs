//! What stands between a decrypted message and its acknowledgement.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wacore::types::events::InboundMessage;
use waproto::buffa::Message as _;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::{translate, unrecorded::Unrecorded};
use crate::{
    device,
    fault::moment,
    session::{identity::Identity, ingest::Ingest},
};

/// How long a session that stops tries to set aside what it could not record.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Commits messages before WhatsApp is told that we have them.
///
/// The library awaits this inside its receive pipeline: while the database is away, this one session
/// waits, and nothing is acknowledged. It must do nothing but the commit: a call back into the client
/// could wait for a lock that the pipeline holds.
pub(super) struct Hook {
    ingest: Ingest,
    backend: device::Backend,
    unrecorded: Unrecorded,
    stop: CancellationToken,
    /// Whose messages these must be, where anybody else's are refused.
    owner: Option<Identity>,
}

impl Hook {
    pub(super) fn new(
        ingest: Ingest,
        backend: device::Backend,
        unrecorded: Unrecorded,
        stop: CancellationToken,
        owner: Option<Identity>,
    ) -> Self {
        Self { ingest, backend, unrecorded, stop, owner }
    }
}

#[async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(
        &self,
        client: Arc<Client>,
        batch: &[InboundMessage],
    ) -> Result<(), anyhow::Error> {
        if let Some(owner) = &self.owner
            && owner
                .is_not(&translate::account(&client.persistence_manager().get_device_snapshot()))
        {
            anyhow::bail!("the device is linked to another account and about to be unlinked");
        }
        moment!("inbound.decrypted");
        let bytes: u64 = batch.iter().map(|it| u64::from(it.message.encoded_len())).sum();
        let _hooked = self.unrecorded.hook(batch.len(), bytes);
        let now = self.ingest.now();
        let messages =
            batch.iter().filter_map(|message| translate::inbound(message, now)).collect();
        let kept = tokio::select! {
            // Written rather than given up when both are possible: a redelivery is a duplicate.
            biased;
            kept = self.ingest.keep(messages) => kept.map_err(anyhow::Error::from),
            () = self.stop.cancelled() => {
                Err(anyhow::anyhow!("the session is stopping; WhatsApp will deliver again"))
            }
        };
        if kept.is_err() {
            // The ratchet has moved on: the copy that is redelivered can no longer be read, so
            // what was read is kept beside it, as far as the database can be reached in time.
            let writing = tokio::time::timeout(LAST_WRITE, self.backend.write_pending());
            if !matches!(writing.await, Ok(Ok(()))) {
                tracing::error!("Messages that were not recorded could not be set aside either");
            }
        }
        moment!("inbound.committed");
        kept
    }
}
