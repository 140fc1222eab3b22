//! Whether the daemon can do its work.

use super::Error;
use crate::store::Store;

/// Answers whether requests can be served.
#[derive(Clone, Debug)]
pub struct Health {
    store: Store,
}

impl Health {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Ready when the database can be read and written. One broken session is no reason not to be.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.store.ping().await?)
    }
}
