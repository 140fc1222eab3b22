//! How a client's life ended, and what is left to do then.

use std::time::Duration;

use tokio::sync::mpsc;

use super::hear::{is_foreign, record_facts};
use crate::{
    event::{AuthFailure, Disconnect, Loss},
    session::{
        client::{DialFailure, Link, Signal},
        ingest::Ingest,
    },
};

/// How a client ended.
#[derive(Clone, Debug)]
pub(in crate::session) enum End {
    /// The session is to stop.
    Stopped,
    /// The device was unlinked through us.
    LoggedOut,
    /// WhatsApp ended it for good.
    Ended(Disconnect),
    /// WhatsApp refused the pairing, the credentials, the account or the client.
    Refused(AuthFailure),
    /// All its QR codes have expired.
    QrCodesExhausted,
    /// The connection was lost after it had been there, or given up.
    Lost(Loss),
    /// There was no connection.
    Dial(DialFailure),
    /// One of its tasks has panicked: what is left of it is not known.
    Panicked,
}

/// What is left when a client has ended. The client itself is still to be closed.
#[derive(Debug)]
pub(in crate::session) struct Ended {
    pub(in crate::session) end: End,
    /// How long it was connected; none if WhatsApp has not let it in.
    pub(in crate::session) connected: Option<Duration>,
    pub(super) link: Link,
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
}

impl Ended {
    /// Closes the client: what it holds is written. Returns when the device may be opened again.
    pub(in crate::session) async fn close(self, ingest: &Ingest) {
        let Self { link, mut signals, end, .. } = self;
        let unrecorded = link.unrecorded().clone();
        link.close().await;
        // Receipts that came while it closed. Nothing else is news any more.
        let mut late = Vec::new();
        while let Ok(signal) = signals.try_recv() {
            late.push(signal);
        }
        if !is_foreign(&end) {
            record_facts(ingest, &unrecorded, late).await;
        }
    }
}
