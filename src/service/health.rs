//! Whether the daemon can do its work.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use super::{Error, LATER};
use crate::{
    session::Sessions,
    store::{Store, schema},
};

/// How long the lock's directory may take to answer.
const LONGEST: Duration = Duration::from_secs(2);

/// Answers whether requests can be served. Cheap to clone; clones look together.
#[derive(Clone, Debug)]
pub struct Health {
    store: Store,
    sessions: Sessions,
    lock: Lock,
    looks: Arc<Looks>,
}

/// Says whether what keeps a second daemon out is still ours.
#[derive(Clone)]
struct Lock(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// Who comes while somebody looks waits for a look that begins after he came, and shares it: so however many ask,
/// one look is under way, and what it says is never older than the question.
#[derive(Debug, Default)]
struct Looks {
    begun: AtomicU64,
    last: Mutex<Last>,
    /// Held by whoever asks whether the lock is ours.
    asking: Arc<Mutex<()>>,
}

/// The last look that has ended.
#[derive(Debug)]
struct Last {
    number: u64,
    said: Result<(), Arc<Error>>,
}

impl Default for Last {
    fn default() -> Self {
        Self { number: 0, said: Ok(()) }
    }
}

impl Health {
    pub fn new(store: Store, sessions: Sessions) -> Self {
        Self { store, sessions, lock: Lock(Arc::new(|| true)), looks: Arc::default() }
    }

    /// The same where a lock keeps others out, of which `is_held` says whether it is ours. It is asked with each look.
    #[must_use]
    pub fn with_lock(mut self, is_held: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.lock = Lock(Arc::new(is_held));
        self
    }

    /// Ready when the database can be read and written, has the schema that this program is made for or a newer one, and is this daemon's:
    /// by the lock on its directory, and, where several share it, by having been there for so long that this one is
    /// of those that run sessions. One broken session is no reason not to be.
    pub async fn ready(&self) -> Result<(), Arc<Error>> {
        let came = self.looks.begun.load(Ordering::SeqCst);
        let mut last = self.looks.last.lock().await;
        if last.number > came {
            return last.said.clone();
        }
        let number = self.looks.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Whoever gives up here leaves no word behind.
        let said = self.look().await.map_err(Arc::new);
        *last = Last { number, said: said.clone() };
        said
    }

    async fn look(&self) -> Result<(), Error> {
        let unready = |what| Err(Error::Unavailable { what, retry_after: LATER });
        let Lock(is_held) = self.lock.clone();
        // A directory on a network may be away, and who asks it then does not come back for long: there is one of those.
        let turn = Arc::clone(&self.looks.asking).lock_owned();
        let held = async {
            let turn = turn.await;
            let asked = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                is_held()
            });
            asked.await
        };
        match tokio::time::timeout(LONGEST, held).await {
            Ok(Ok(true)) => {}
            Ok(_) => {
                return unready(
                    "the lock on the state directory or the database is not ours any more",
                );
            }
            Err(_) => return unready("the state directory does not answer"),
        }
        self.store.ping().await?;
        match self.store.schema().await? {
            // One that is newer was brought up to date by a daemon that takes over; until it has, this one serves.
            schema::State::Current | schema::State::Newer(_) => {}
            schema::State::Older(_) => return unready("the database lacks steps of its schema"),
        }
        if !self.sessions.holds() {
            return unready("the database was away; the sessions are being taken over again");
        }
        Ok(())
    }
}
