//! The end of the process: its sessions stop, and are given back.

use std::{sync::PoisonError, time::Duration};

use super::{Sessions, run::end, slot::Slot};
use crate::store;

/// How long giving the sessions back may take. It is a courtesy: they are free soon anyway.
pub(in crate::session) const LEAVING: Duration = Duration::from_secs(3);

impl Sessions {
    /// Lets no session dial any more. What is connected stays so.
    pub fn stop_dialling(&self) {
        self.shared.pace.close();
    }

    /// Ends all runs, in parallel, and lets none begin. True when all clients closed within `grace`.
    ///
    /// What is wanted of the sessions is left in the database: other daemons take each over when its
    /// client has closed, or they go on after a restart. That they are not connected is said before.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stopping.cancel();
        self.shared.media.stop().cancel();
        let slots: Vec<Slot> =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let ending = slots.into_iter().map(|slot| self.let_go(slot));
        let closed =
            tokio::time::timeout(grace, futures_util::future::join_all(ending)).await.is_ok();
        self.left.cancel();
        tokio::time::timeout(LEAVING, self.ownership.leave()).await.ok();
        closed
    }

    /// Ends a run as the process stops, and gives its session back.
    async fn let_go(&self, slot: Slot) {
        let Some(run) = slot.lock().await.take() else { return };
        let hold = run.hold.clone();
        let sessions = hold.store(&self.shared.store).sessions();
        // A database that is away is not waited for: nobody reads it either.
        let saying = tokio::time::timeout(LEAVING, sessions.disclaim(hold.session()));
        let (said, ()) = tokio::join!(saying, end(Some(run)));
        // Of one that ended by itself some time ago and runs elsewhere by now others tell.
        if let Ok(Err(error)) = said
            && !matches!(error, store::Error::LeaseLost)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session.key = %hold.session(),
                "That a session is not connected any more could not be said"
            );
        }
        if self.ownership.is_shared() {
            let ownership = self.ownership.clone();
            // Others need not wait for the slowest of our clients; nor need our end wait for this.
            self.spawn(async move { ownership.release(&hold).await });
        }
    }
}
