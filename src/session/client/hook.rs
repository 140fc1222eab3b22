//! What stands between a decrypted message and its acknowledgement.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use wacore::types::events::InboundMessage;
use whatsapp_rust::{Client, InboundDurabilityHook, anyhow};

use super::translate;
use crate::session::ingest::Ingest;

/// Commits messages before WhatsApp is told that we have them.
///
/// The library awaits this inside its receive pipeline: while the database is away, this one session
/// waits, and nothing is acknowledged. It must do nothing but the commit: a call back into the client
/// could wait for a lock that the pipeline holds.
pub(super) struct Hook {
    ingest: Ingest,
    stop: CancellationToken,
}

impl Hook {
    pub(super) fn new(ingest: Ingest, stop: CancellationToken) -> Self {
        Self { ingest, stop }
    }
}

#[async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(
        &self,
        _client: Arc<Client>,
        batch: &[InboundMessage],
    ) -> Result<(), anyhow::Error> {
        let now = self.ingest.now();
        let messages =
            batch.iter().filter_map(|message| translate::inbound(message, now)).collect();
        tokio::select! {
            // Written rather than given up when both are possible: a redelivery is a duplicate.
            biased;
            kept = self.ingest.keep(messages) => kept.map_err(anyhow::Error::from),
            () = self.stop.cancelled() => {
                Err(anyhow::anyhow!("the session is stopping; WhatsApp will deliver again"))
            }
        }
    }
}
