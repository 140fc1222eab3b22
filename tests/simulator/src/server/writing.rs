//! Simulated people write: to accounts, to groups, and to their own companions.

use std::sync::Arc;

use tracing::debug_span;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use super::Hub;
use super::router::{Sender, is_group};
use crate::clock::{unix_millis, unix_seconds};
use crate::observe::SentMessage;
use crate::people::companion::Companion;
use crate::people::group::GroupChat;
use crate::people::outbox::Written;
use crate::people::person::Person;
use crate::signal::content::{self, MessageKind};
use crate::signal::{Sealed, SignalError};
use crate::violation::ViolationKind;
use crate::{Error, locked};

/// Whom a simulated person writes to.
#[derive(Clone, Debug)]
pub(crate) enum Recipient {
    Person(Arc<Person>),
    Group(Arc<GroupChat>),
}

impl Hub {
    /// A message id as a phone makes it.
    pub(crate) fn message_id(&self) -> String {
        format!("3EB0{:016X}", self.number() << 24 | u64::from(rand::random::<u32>() >> 8))
    }

    /// Somebody writes a message; returns its id once it is in every queue.
    pub(crate) async fn write(
        &self,
        author: &Arc<Person>,
        to: &Recipient,
        message: wa::Message,
        id: Option<String>,
    ) -> Result<String, Error> {
        let id = id.unwrap_or_else(|| self.message_id());
        let chat = match to {
            Recipient::Person(person) => {
                // The author's own view of the chat, for copies to their companions.
                if author.address().is_lid() {
                    person.lid_jid().unwrap_or_else(|| person.pn_jid())
                } else {
                    person.pn_jid()
                }
            }
            Recipient::Group(group) => group.jid(),
        };
        let written = Written { message: Arc::new(message), chat, peer: false };
        author.outbox.remember(&id, written.clone());
        match to {
            Recipient::Person(person) => self.write_directly(author, person, &written, &id).await?,
            Recipient::Group(group) => self.write_to_group(author, group, &written, &id).await?,
        }
        Ok(id)
    }

    async fn write_directly(
        &self,
        author: &Arc<Person>,
        to: &Arc<Person>,
        written: &Written,
        id: &str,
    ) -> Result<(), Error> {
        for companion in to.companions() {
            let sealed = self.seal(author, &companion, &written.message).await?;
            let envelope = self.envelope(author, to, written, id);
            let part = enc(&sealed, &written.message);
            self.deliver(&companion, envelope.children([part]).build());
        }
        let own = author.companions();
        if !own.is_empty() && author.pn != to.pn {
            let copy = copy_for_own(&written.message, &written.chat);
            for companion in own {
                let sealed = self.seal(author, &companion, &copy).await?;
                let envelope = self.envelope(author, author, written, id);
                let part = enc(&sealed, &written.message);
                self.deliver(&companion, envelope.children([part]).build());
            }
        }
        hand_over(author, to, written, id);
        Ok(())
    }

    async fn write_to_group(
        &self,
        author: &Arc<Person>,
        group: &Arc<GroupChat>,
        written: &Written,
        id: &str,
    ) -> Result<(), Error> {
        let chain = author.endpoint.distribute(&group.id).await;
        let chain = chain.map_err(|error| Error::encrypt(&group.id, error))?;
        let shared = author.endpoint.seal_group(&group.id, &written.message).await;
        let shared = shared.map_err(|error| Error::encrypt(&group.id, error))?;
        self.counters.encrypted.one();
        for pn in group.members() {
            let Some(member) = self.directory.find(&pn) else { continue };
            for companion in member.companions() {
                let mut parts = Vec::with_capacity(2);
                if group.distribute(&author.pn, &companion.key) {
                    let distribution = distribution(&group.jid(), chain.clone());
                    let sealed = self.seal(author, &companion, &distribution).await?;
                    parts.push(enc(&sealed, &distribution));
                }
                parts.push(enc(&shared, &written.message));
                let envelope = self.envelope(author, &member, written, id);
                self.deliver(&companion, envelope.children(parts).build());
            }
            if member.pn != author.pn {
                hand_over(author, &member, written, id);
            }
        }
        Ok(())
    }

    pub(crate) async fn seal(
        &self,
        author: &Person,
        to: &Arc<Companion>,
        message: &wa::Message,
    ) -> Result<Sealed, Error> {
        let bundle = || Some(to.take_bundle());
        let sealed = author.endpoint.seal(&to.key, message, bundle).await;
        let sealed = sealed.map_err(|error| Error::encrypt(&to.key, error))?;
        self.counters.encrypted.one();
        self.ask_for_keys(to);
        Ok(sealed)
    }

    /// The envelope of a message, as its recipient sees it.
    pub(crate) fn envelope(
        &self,
        author: &Person,
        to: &Person,
        written: &Written,
        id: &str,
    ) -> NodeBuilder {
        let meaning = content::meaning(&written.message);
        let mut node = NodeBuilder::new("message")
            .attr("id", id)
            .attr("t", unix_seconds())
            .attr("type", stanza_type(meaning.kind));
        match meaning.kind {
            MessageKind::Edit => node = node.attr("edit", "1"),
            MessageKind::Revoke => node = node.attr("edit", "7"),
            _ => {}
        }
        if written.peer {
            return node.attr("from", author.pn_jid()).attr("category", "peer");
        }
        node = node.attr("notify", author.name());
        let (pn, lid) = (author.pn_jid(), author.lid_jid());
        if is_group(&written.chat) {
            let participant = self.member_address(author, &written.chat);
            let mode = if participant.is_lid() { "lid" } else { "pn" };
            node = node.attr("from", &written.chat).attr("addressing_mode", mode);
            return match lid {
                Some(_) if participant.is_lid() => {
                    node.attr("participant", participant).attr("participant_pn", pn)
                }
                Some(lid) => node.attr("participant", participant).attr("participant_lid", lid),
                None => node.attr("participant", participant),
            };
        }
        if author.pn == to.pn {
            return node.attr("from", pn).attr("recipient", &written.chat);
        }
        let from = author.address();
        match lid {
            Some(_) if from.is_lid() => {
                node.attr("from", from).attr("sender_pn", pn).attr("addressing_mode", "lid")
            }
            Some(lid) => node.attr("from", from).attr("sender_lid", lid),
            None => node.attr("from", from),
        }
    }

    /// The message with the author's chain in front, for somebody who has lost it.
    pub(crate) async fn with_chain(
        &self,
        author: &Person,
        group: &GroupChat,
        message: &wa::Message,
    ) -> Result<wa::Message, SignalError> {
        let chain = author.endpoint.distribute(&group.id).await?;
        let distribution = distribution(&group.jid(), chain);
        Ok(wa::Message {
            sender_key_distribution_message: distribution.sender_key_distribution_message,
            ..message.clone()
        })
    }

    /// The phone hands a new companion the key of the app state, once it can receive.
    pub(crate) async fn share_keys(self: &Arc<Self>, sender: &Sender) {
        let due = !std::mem::replace(&mut sender.companion.state().keys_shared, true);
        if due {
            self.share_keys_again(sender).await;
            self.hand_down(sender);
        }
    }

    /// The phone hands a new companion what it was told to, without keeping anybody waiting.
    fn hand_down(self: &Arc<Self>, sender: &Sender) {
        let chunks = locked(&sender.person.history).clone();
        if chunks.is_empty() {
            return;
        }
        let (hub, person) = (Arc::clone(self), Arc::clone(&sender.person));
        let companions = [Arc::clone(&sender.companion)];
        self.spawn(debug_span!("history", device = %companions[0].key), async move {
            for chunk in chunks {
                if let Err(error) = hub.send_history_to(&person, &companions, chunk).await {
                    let text = format!("history was not handed down: {error}");
                    let device = Some(&companions[0].key);
                    hub.violations.record(ViolationKind::Unwritten, device, text);
                }
            }
        });
    }

    /// The same whenever a client asks.
    pub(crate) async fn share_keys_again(&self, sender: &Sender) {
        let Sender { person, companion, .. } = sender;
        let message = person.app_state.share();
        let id = self.message_id();
        let written = Written { message: Arc::new(message), chat: person.pn_jid(), peer: true };
        person.outbox.remember(&id, written.clone());
        match self.seal(person, companion, &written.message).await {
            Ok(sealed) => {
                let envelope = self.envelope(person, person, &written, &id);
                let part = enc(&sealed, &written.message);
                self.deliver(companion, envelope.children([part]).build());
            }
            Err(error) => {
                // Its keys are bad: whatever it registered with does not verify.
                let text = format!("the phone cannot write to its companion: {error}");
                let device = Some(&companion.key);
                self.violations.record(ViolationKind::BadSignature, device, text);
            }
        }
    }

    /// Names the phone's account in the app state, if it has no name there yet.
    pub(crate) fn name_account(&self, person: &Person, name: &str) {
        name.clone_into(&mut locked(&person.habits).name);
        let version = person.app_state.set_push_name(name);
        self.announce_app_state(person, version.0, version.1, None);
    }
}

/// Between simulated phones nothing needs to be encrypted.
fn hand_over(author: &Person, to: &Person, written: &Written, id: &str) {
    let meaning = content::meaning(&written.message);
    let plaintext = waproto::codec::message_to_vec(&written.message);
    let received = SentMessage {
        id: id.to_owned(),
        from: author.phone_key(),
        chat: written.chat.clone(),
        kind: meaning.kind,
        text: meaning.text,
        target: meaning.target,
        decrypted_by: vec![to.pn.to_string()],
        copied_to_phone: false,
        retries: 0,
        at: unix_millis(),
        plaintext: plaintext.into(),
    };
    to.journal.push(|entries| &mut entries.received, received);
}

/// `<enc>` for a ciphertext.
pub(crate) fn enc(sealed: &Sealed, message: &wa::Message) -> Node {
    let mut node = NodeBuilder::new("enc").attr("v", "2").attr("type", sealed.kind.as_str());
    if content::meaning(message).kind == MessageKind::Reaction {
        // A reaction that cannot be read is not worth a placeholder.
        node = node.attr("decrypt-fail", "hide");
    }
    node.bytes(sealed.bytes.clone()).build()
}

fn stanza_type(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Reaction => "reaction",
        MessageKind::Media => "media",
        MessageKind::Poll => "poll",
        _ => "text",
    }
}

fn copy_for_own(message: &wa::Message, chat: &Jid) -> wa::Message {
    wa::Message {
        device_sent_message: MessageField::some(wa::message::DeviceSentMessage {
            destination_jid: Some(chat.to_string()),
            message: MessageField::some(message.clone()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn distribution(chat: &Jid, chain: Vec<u8>) -> wa::Message {
    wa::Message {
        sender_key_distribution_message: MessageField::some(
            wa::message::SenderKeyDistributionMessage {
                group_id: Some(chat.to_string()),
                axolotl_sender_key_distribution_message: Some(chain),
            },
        ),
        ..Default::default()
    }
}
