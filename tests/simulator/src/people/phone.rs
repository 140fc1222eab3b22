//! A handle to somebody's phone: link clients, unlink them, write, and see what they did.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wacore_binary::builder::NodeBuilder;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use super::companion::{Companion, Registration};
use super::history::History;
use super::media::{MediaFile, Reupload, SentMedia};
use super::person::{Addressing, Person, ReceiptPolicy};
use crate::address::DeviceKey;
use crate::clock::unix_seconds;
use crate::fault::{Fault, Lasting, Scope};
use crate::observe::{Login, Receipt, ReceiptKind, SentMessage, Typing};
use crate::server::{Hub, Recipient};
use crate::signal::bundle::SignedKey;
use crate::{Error, locked};

/// Somebody's phone, the primary device of an account under test.
#[derive(Clone, Debug)]
pub struct Phone {
    pub(crate) hub: Arc<Hub>,
    pub(crate) person: Arc<Person>,
}

/// A companion, as the phone lists it.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// The device.
    pub device: DeviceKey,
    /// What it calls itself.
    pub platform: String,
    /// Whether it is connected and logged in.
    pub online: bool,
    /// Logins since it was linked.
    pub logins: u32,
    /// One-time keys left.
    pub keys: usize,
    /// Stanzas it has not confirmed.
    pub unacknowledged: usize,
}

/// What the server knows of a linked client, for one that was linked to another simulator.
#[derive(Clone, Debug)]
pub struct Linked {
    /// Its number among the account's devices.
    pub device: u16,
    /// The public half of the Noise key it logs in with.
    pub noise: [u8; 32],
    /// The public half of its Signal identity.
    pub identity: [u8; 32],
    /// Its registration id.
    pub registration_id: u32,
    /// Number, public half and signature of its signed prekey.
    pub signed_prekey: (u32, [u8; 32], Vec<u8>),
    /// The route it was given, which it shows when it connects.
    pub routing: Option<Vec<u8>>,
}

impl Phone {
    /// Knows a client as linked that another simulator has linked, as if this one had: from a copy of
    /// its database a client goes on without a scan. Its account signature stays the other phone's, so
    /// what it *sends* first to somebody is listed as a violation.
    pub fn adopt(&self, linked: Linked) {
        let (id, public, signature) = linked.signed_prekey;
        let registration = Registration {
            number: linked.registration_id,
            identity: linked.identity,
            signed: SignedKey { id, public, signature },
            platform: String::new(),
        };
        let key = DeviceKey::new(&self.person.pn, linked.device);
        let companion = Companion::new(key, linked.noise, registration);
        {
            let mut state = companion.state();
            state.keys_shared = true;
            state.routing = linked.routing;
        }
        self.person.link(Arc::new(companion));
    }

    /// The phone number, digits only.
    pub fn number(&self) -> &str {
        &self.person.pn
    }

    /// The LID, whether or not the server tells it to others.
    pub fn lid(&self) -> &str {
        self.person.hidden_lid()
    }

    /// Names the account, in its app state and to those it writes to.
    pub fn set_name(&self, name: &str) {
        self.hub.name_account(&self.person, name);
    }

    /// Hides the LID or reveals it; an account or contact whose LID becomes known later is one of
    /// the states real accounts are in.
    pub fn set_lid_known(&self, known: bool) {
        locked(&self.person.habits).lid_known = known;
    }

    /// Chooses the namespace this phone writes from.
    pub fn set_addressing(&self, addressing: Addressing) {
        locked(&self.person.habits).addressing = addressing;
    }

    /// Chooses what the phone does with messages sent to it.
    pub fn set_receipts(&self, policy: ReceiptPolicy) {
        locked(&self.person.habits).receipts = policy;
    }

    /// Chooses whether the phone hands over what a companion could not read and asks for. It does, at
    /// first: what it wrote itself.
    pub fn set_resends(&self, resends: bool) {
        locked(&self.person.habits).resends = resends;
    }

    /// The ids of messages that companions have asked for, once for each time.
    pub fn asked_for(&self) -> Vec<String> {
        locked(&self.person.habits).asked.clone()
    }

    /// Waits until companions have asked for a message so often.
    pub async fn wait_asked_for(&self, id: &str, times: usize) -> Result<(), Error> {
        let what = format!("{} to be asked for {id}", self.person.pn);
        self.wait(&what, |_| {
            (self.asked_for().iter().filter(|asked| *asked == id).count() >= times).then_some(())
        })
        .await
    }

    /// Scans a QR code; returns the number of the new device once the client has signed.
    pub async fn scan(&self, qr: &str) -> Result<u16, Error> {
        self.hub.counters.metered(self.hub.scan(&self.person, qr)).await
    }

    /// Types an eight-character code; returns the number of the new device.
    pub async fn enter_code(&self, code: &str) -> Result<u16, Error> {
        self.hub.counters.metered(self.hub.enter_code(&self.person, code)).await
    }

    /// Unlinks one companion: its connection ends with `device_removed`, its logins with 401.
    pub fn unlink(&self, device: u16) -> Result<(), Error> {
        let unlinked = self.hub.unlink(&self.person, device);
        let unknown = || Error::UnknownDevice(format!("{}:{device}", self.person.pn));
        unlinked.then_some(()).ok_or_else(unknown)
    }

    /// Unlinks all companions; returns how many there were.
    pub fn unlink_all(&self) -> usize {
        let companions = self.person.companions();
        companions.iter().filter(|it| self.hub.unlink(&self.person, it.key.device)).count()
    }

    /// Writes a text from the phone itself; its companions get copies. Returns the message id.
    pub async fn send_text(&self, to: &str, text: &str) -> Result<String, Error> {
        self.send(to, crate::text(text)).await
    }

    /// Writes any message from the phone itself.
    pub async fn send(&self, to: &str, message: wa::Message) -> Result<String, Error> {
        let to = Recipient::Person(self.hub.existing(to)?);
        self.hub.counters.metered(self.hub.write(&self.person, &to, message, None)).await
    }

    /// Sends a file from the phone itself.
    pub async fn send_media(&self, to: &str, file: MediaFile) -> Result<SentMedia, Error> {
        let to = Recipient::Person(self.hub.existing(to)?);
        self.hub.send_media(&self.person, &to, file).await
    }

    /// Chooses what the phone does when a companion asks it for a file again.
    pub fn set_reupload(&self, reupload: Reupload) {
        *locked(&self.person.reupload) = reupload;
    }

    /// Chooses what the phone hands to each companion that is linked from now on, in this order.
    pub fn set_history(&self, chunks: Vec<History>) {
        *locked(&self.person.history) = chunks;
    }

    /// Hands one more chunk of history to all companions; returns the id of the message that
    /// announces it. A companion that has taken it sends a [`ReceiptKind::HistSync`].
    pub async fn send_history(&self, chunk: History) -> Result<String, Error> {
        self.hub.counters.metered(self.hub.send_history(&self.person, chunk)).await
    }

    /// The linked companions.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let companions = self.person.companions();
        companions
            .iter()
            .map(|companion| {
                let state = companion.state();
                DeviceInfo {
                    device: companion.key.clone(),
                    platform: companion.registration.platform.clone(),
                    online: state.link.is_some(),
                    logins: state.logins,
                    keys: state.one_time.len(),
                    unacknowledged: state.queue.len(),
                }
            })
            .collect()
    }

    /// Companions that are connected and logged in.
    pub fn online_devices(&self) -> Vec<DeviceKey> {
        self.person.journal.read(|entries| entries.online.clone())
    }

    /// Every login of this account's companions.
    pub fn logins(&self) -> Vec<Login> {
        self.person.journal.read(|entries| entries.logins.iter().cloned().collect())
    }

    /// Messages the companions sent, in the order they were first decrypted.
    pub fn sent(&self) -> Vec<SentMessage> {
        self.person.journal.read(|entries| entries.sent.iter().cloned().collect())
    }

    /// Receipts the companions sent.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.person.journal.read(|entries| entries.receipts.iter().cloned().collect())
    }

    /// Typing notices the companions sent.
    pub fn typing(&self) -> Vec<Typing> {
        self.person.journal.read(|entries| entries.typing.iter().cloned().collect())
    }

    /// Whether any companion calls itself available.
    pub fn is_available(&self) -> bool {
        self.person.journal.read(|entries| entries.available.iter().any(|(_, it)| *it))
    }

    /// Stanzas the companions have not confirmed yet.
    pub fn unacknowledged(&self) -> usize {
        self.person.companions().iter().map(|it| it.state().queue.len()).sum()
    }

    /// A fault for all companions of this account.
    pub async fn fault(&self, fault: Fault, lasting: Lasting) {
        let scope = Scope::Account(self.person.pn.to_string());
        self.hub.inflict(scope, fault, lasting).await;
    }

    /// The server acknowledges a message of the companions' after all, whose acknowledgement was lost.
    pub fn acknowledge_late(&self, to: &str, id: &str) -> Result<(), Error> {
        let to = self.hub.existing(to)?;
        let ack = NodeBuilder::new("ack")
            .attr("class", "message")
            .attr("id", id)
            .attr("t", unix_seconds())
            .attr("from", to.pn_jid())
            .build();
        for companion in self.person.companions() {
            companion.mention(ack.clone());
        }
        Ok(())
    }

    /// The server asks the connected companions for a sign of life, so many times. A client answers each at
    /// once, and without looking anything up.
    pub fn ping(&self, times: usize) {
        for n in 0..times {
            let ping = NodeBuilder::new("iq")
                .attr("from", "s.whatsapp.net")
                .attr("id", format!("ping-{n}"))
                .attr("type", "get")
                .attr("xmlns", "urn:xmpp:ping")
                .build();
            for companion in self.person.companions() {
                companion.mention(ping.clone());
            }
        }
    }

    /// Waits until there have been `count` logins and a companion is still connected.
    pub async fn wait_logged_in(&self, count: usize) -> Result<(), Error> {
        let what = format!("login {count} of {}", self.person.pn);
        self.wait(&what, |entries| {
            (entries.logins.len() >= count && !entries.online.is_empty()).then_some(())
        })
        .await
    }

    /// Waits until no companion is connected.
    pub async fn wait_offline(&self) -> Result<(), Error> {
        let what = format!("{} to be offline", self.person.pn);
        self.wait(&what, |entries| entries.online.is_empty().then_some(())).await
    }

    /// Waits for a message a companion sent, among those there are and those to come.
    pub async fn wait_for_sent(
        &self,
        wanted: impl Fn(&SentMessage) -> bool + Send + Sync,
    ) -> Result<SentMessage, Error> {
        let what = format!("a message sent by {}", self.person.pn);
        self.wait(&what, |entries| entries.sent.iter().find(|it| wanted(it)).cloned()).await
    }

    /// Waits for a receipt a companion sends for a message; an inactive device's delivery counts.
    pub async fn wait_for_receipt(&self, id: &str, kind: ReceiptKind) -> Result<Receipt, Error> {
        let what = format!("{kind:?} of {id} by {}", self.person.pn);
        self.wait(&what, |entries| {
            let wanted = |it: &&Receipt| {
                it.kind.says(&kind) && it.ids.iter().any(|receipted| receipted == id)
            };
            entries.receipts.iter().find(wanted).cloned()
        })
        .await
    }

    /// Waits until companions have confirmed receiving (in whatever way) `count` messages.
    pub async fn wait_for_receipts(&self, count: usize) -> Result<(), Error> {
        let what = format!("{count} receipts by {}", self.person.pn);
        self.wait(&what, |entries| {
            let seen: usize = entries.receipts.iter().map(|it| it.ids.len()).sum();
            (seen >= count).then_some(())
        })
        .await
    }

    /// Waits until the companions have confirmed everything that was sent to them.
    pub async fn wait_confirmed(&self) -> Result<(), Error> {
        let what = format!("{} to confirm everything", self.person.pn);
        self.wait(&what, |_| (self.unacknowledged() == 0).then_some(())).await
    }

    /// Waits for a typing notice.
    pub async fn wait_for_typing(
        &self,
        wanted: impl Fn(&Typing) -> bool + Send + Sync,
    ) -> Result<Typing, Error> {
        let what = format!("typing by {}", self.person.pn);
        self.wait(&what, |entries| entries.typing.iter().find(|it| wanted(it)).cloned()).await
    }

    async fn wait<T>(
        &self,
        what: &str,
        look: impl Fn(&crate::observe::Entries) -> Option<T> + Send + Sync,
    ) -> Result<T, Error> {
        let deadline: Duration = self.hub.options.deadline;
        self.person.journal.until(deadline, what, look).await
    }

    /// This account as somebody others write to.
    pub fn as_contact(&self) -> super::Contact {
        super::Contact { hub: Arc::clone(&self.hub), person: Arc::clone(&self.person) }
    }
}

/// The key of a message, for messages about messages.
pub(crate) fn key(chat: &str, id: &str, from_me: bool) -> MessageField<wa::MessageKey> {
    MessageField::some(wa::MessageKey {
        remote_jid: Some(chat.to_owned()),
        from_me: Some(from_me),
        id: Some(id.to_owned()),
        ..Default::default()
    })
}
