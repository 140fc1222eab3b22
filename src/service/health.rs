//! Whether the daemon can do its work.

use super::{Error, LATER};
use crate::{session::Sessions, store::Store};

/// Answers whether requests can be served.
#[derive(Clone, Debug)]
pub struct Health {
    store: Store,
    sessions: Sessions,
}

impl Health {
    pub const fn new(store: Store, sessions: Sessions) -> Self {
        Self { store, sessions }
    }

    /// Ready when the database can be read and written, and has been for so long that this daemon
    /// is one of those that run sessions. One broken session is no reason not to be.
    pub async fn ready(&self) -> Result<(), Error> {
        self.store.ping().await?;
        if self.sessions.holds() {
            Ok(())
        } else {
            Err(Error::Unavailable {
                what: "the database was away; the sessions are being taken over again",
                retry_after: LATER,
            })
        }
    }
}
