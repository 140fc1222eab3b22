//! What the account's phone wrote and we could not read is asked of it.
//!
//! When our Signal session with the phone is lost, the copy of what it writes to somebody cannot be read.
//! What somebody else wrote the library asks for again, of its writer and of the phone. Of the account's own it
//! asks nothing: it clears them with a receipt, so WhatsApp does not deliver them again either
//! (`handle_decrypt_failure` of whatsapp-rust 0.7). WhatsApp's own client asks the phone, and so do we.
//!
//! What is to be asked for stands in the database: it was told as `message_ciphertext`, and no message has come
//! since. So the way after a crash is the way always taken: look, at every connection and whenever something
//! could not be read, and ask for what is there. The first request also gives the phone a new Signal session.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use entity::{UnixMillis, id::SessionKey};
use tokio::sync::Mutex as AsyncMutex;

use super::client::Link;
use crate::{
    clock::Clock,
    store::{Store, events::Unread},
};

/// A phone is not asked for what is older, as WhatsApp's own client does not.
const OLDEST_MILLIS: i64 = 14 * 24 * 60 * 60 * 1000;

/// Messages that are asked for at a time.
const MOST: u64 = 256;

/// Connections of one run that ask for the same message. The second one does, as the first may have been lost
/// with the request; a phone that has not answered two will not answer the next.
const CONNECTIONS: u8 = 2;

/// How often each message was asked for by a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<HashMap<String, u8>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u8>> {
        // Nothing panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks over one connection.
#[derive(Clone, Debug)]
pub(super) struct Recovery(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    clock: Clock,
    session: SessionKey,
    asked: Asked,
    /// What this connection has asked for. Held by whoever looks.
    looking: AsyncMutex<HashSet<String>>,
    /// Somebody is about to look, and will see what there is by now.
    due: AtomicBool,
}

impl Recovery {
    pub(super) fn new(store: Store, clock: Clock, session: SessionKey, asked: Asked) -> Self {
        let (looking, due) = (AsyncMutex::default(), AtomicBool::new(false));
        Self(Arc::new(Shared { store, clock, session, asked, looking, due }))
    }

    /// Has somebody look, while the connection lasts, without keeping the caller.
    pub(super) fn look(&self, link: &Link) {
        if self.0.due.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, sender) = (Arc::clone(&self.0), link.sender());
        link.accompany(async move {
            let mut here = this.looking.lock().await;
            this.due.store(false, Ordering::Release);
            let since = UnixMillis(this.clock.now().0.saturating_sub(OLDEST_MILLIS));
            let unread = this.store.events().unread_of_ours(&this.session, since, MOST).await;
            let unread = match unread {
                Ok(unread) => unread,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "What the phone could be asked for cannot be read; the next connection asks"
                    );
                    return;
                }
            };
            let keys: HashSet<String> = unread.iter().map(Unread::key).collect();
            this.asked.lock().retain(|key, _| keys.contains(key));
            for message in unread {
                let key = message.key();
                let times = this.asked.lock().get(&key).copied().unwrap_or_default();
                if times >= CONNECTIONS || here.contains(&key) {
                    continue;
                }
                if !sender.ask_phone(&message).await {
                    tracing::warn!(
                        "The phone could not be asked for a message; the next connection asks"
                    );
                    return;
                }
                this.asked.lock().insert(key.clone(), times + 1);
                here.insert(key);
            }
        });
    }
}
