//! One person's journal, and how to wait for it to say something.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Login, Receipt, SentMessage, Typing};
use crate::address::DeviceKey;
use crate::{Error, locked};

/// Everything remembered about one person.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Messages this account's clients sent.
    pub(crate) sent: VecDeque<SentMessage>,
    /// Messages this person decrypted.
    pub(crate) received: VecDeque<SentMessage>,
    /// Receipts this account's clients sent.
    pub(crate) receipts: VecDeque<Receipt>,
    /// Receipts clients sent for this person's messages.
    pub(crate) acknowledged: VecDeque<Receipt>,
    pub(crate) typing: VecDeque<Typing>,
    pub(crate) logins: VecDeque<Login>,
    pub(crate) online: Vec<DeviceKey>,
    /// Whether each client that said so calls itself available.
    pub(crate) available: Vec<(DeviceKey, bool)>,
}

/// Entries, and a bell that rings when there are new ones.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: Mutex<Entries>,
    changed: Notify,
    memory: usize,
}

impl Journal {
    pub(crate) fn new(memory: usize) -> Self {
        Self { entries: Mutex::default(), changed: Notify::new(), memory }
    }

    /// Looks at the entries.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Entries) -> T) -> T {
        look(&locked(&self.entries))
    }

    /// Changes the entries and wakes whoever waits.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        let changed = change(&mut locked(&self.entries));
        self.changed.notify_waiters();
        changed
    }

    /// Wakes whoever waits for something the journal does not keep.
    pub(crate) fn touch(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn push<T>(&self, list: impl FnOnce(&mut Entries) -> &mut VecDeque<T>, entry: T) {
        self.write(|entries| {
            let list = list(entries);
            if list.len() >= self.memory {
                list.pop_front();
            }
            list.push_back(entry);
        });
    }

    /// Books a message one more recipient has decrypted.
    pub(crate) fn sent(&self, message: &SentMessage) {
        self.write(|entries| {
            let known = entries.sent.iter_mut().rev().take(512).find(|sent| sent.id == message.id);
            if let Some(known) = known {
                known.retries = known.retries.max(message.retries);
                known.copied_to_phone |= message.copied_to_phone;
                for pn in &message.decrypted_by {
                    if !known.decrypted_by.contains(pn) {
                        known.decrypted_by.push(pn.clone());
                    }
                }
            } else {
                if entries.sent.len() >= self.memory {
                    entries.sent.pop_front();
                }
                entries.sent.push_back(message.clone());
            }
        });
    }

    /// Waits until `look` finds something.
    pub(crate) async fn until<T>(
        &self,
        deadline: Duration,
        what: &str,
        look: impl Fn(&Entries) -> Option<T>,
    ) -> Result<T, Error> {
        let end = Instant::now() + deadline;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, or a change in between would be slept through.
            changed.as_mut().enable();
            if let Some(found) = self.read(&look) {
                return Ok(found);
            }
            if tokio::time::timeout_at(end, changed).await.is_err() {
                let seen = self.read(Entries::summary);
                return Err(Error::Deadline { what: what.to_owned(), waited: deadline, seen });
            }
        }
    }
}

impl Entries {
    /// The last things that happened, for the error of a wait that was in vain.
    fn summary(&self) -> String {
        const LAST: usize = 5;
        let sent: Vec<_> = self.sent.iter().rev().take(LAST).map(ToString::to_string).collect();
        let received: Vec<_> =
            self.received.iter().rev().take(LAST).map(ToString::to_string).collect();
        let receipts: Vec<_> = self
            .receipts
            .iter()
            .rev()
            .take(LAST)
            .map(|receipt| format!("{:?} for {:?} to {}", receipt.kind, receipt.ids, receipt.to))
            .collect();
        format!(
            "{} logins, online {:?}; {} sent, last {sent:?}; {} received, last {received:?}; \
             {} receipts, last {receipts:?}",
            self.logins.len(),
            self.online.iter().map(ToString::to_string).collect::<Vec<_>>(),
            self.sent.len(),
            self.received.len(),
            self.receipts.len(),
        )
    }
}
