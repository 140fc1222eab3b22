//! A handle to a contact: somebody who writes to the accounts under test and reads their messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wacore_binary::builder::NodeBuilder;
use waproto::buffa::MessageField;
use waproto::whatsapp::{self as wa, message::protocol_message::Type as ProtocolType};

use super::media::{MediaFile, SentMedia};
use super::person::{Addressing, Person, ReceiptPolicy};
use super::phone::{Phone, key};
use crate::clock::unix_seconds;
use crate::observe::{Receipt, ReceiptKind, SentMessage};
use crate::server::{Hub, Recipient};
use crate::{Error, locked};

/// Somebody an account under test talks to.
#[derive(Clone, Debug)]
pub struct Contact {
    pub(crate) hub: Arc<Hub>,
    pub(crate) person: Arc<Person>,
}

/// What a typing notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypingState {
    /// Writing.
    Composing,
    /// Recording a voice message.
    Recording,
    /// Stopped.
    Paused,
}

impl Contact {
    /// The phone number, digits only.
    pub fn number(&self) -> &str {
        &self.person.pn
    }

    /// The LID, whether or not the server tells it to others.
    pub fn lid(&self) -> &str {
        self.person.hidden_lid()
    }

    /// Chooses the name shown to those this contact writes to.
    pub fn set_name(&self, name: &str) {
        name.clone_into(&mut locked(&self.person.habits).name);
    }

    /// Chooses what this contact's phone does with messages by itself.
    pub fn set_receipts(&self, policy: ReceiptPolicy) {
        locked(&self.person.habits).receipts = policy;
    }

    /// Chooses the namespace this contact writes from.
    pub fn set_addressing(&self, addressing: Addressing) {
        locked(&self.person.habits).addressing = addressing;
    }

    /// Hides the LID from others, or reveals it.
    pub fn set_lid_known(&self, known: bool) {
        locked(&self.person.habits).lid_known = known;
    }

    /// The next `count` messages cannot be read: each is asked for again, with new keys.
    pub fn fail_next(&self, count: u32) {
        locked(&self.person.habits).failing = count;
    }

    /// Writes a text to an account; returns the message id once it is in the queues.
    pub async fn send_text(&self, to: &str, text: &str) -> Result<String, Error> {
        self.send(to, crate::text(text)).await
    }

    /// Sends a file to an account.
    pub async fn send_media(&self, to: &str, file: MediaFile) -> Result<SentMedia, Error> {
        let to = Recipient::Person(self.hub.existing(to)?);
        self.hub.send_media(&self.person, &to, file).await
    }

    /// Sends a file to a group.
    pub async fn send_group_media(&self, group: &str, file: MediaFile) -> Result<SentMedia, Error> {
        let to = Recipient::Group(self.hub.group(group)?);
        self.hub.send_media(&self.person, &to, file).await
    }

    /// Writes any message to an account.
    pub async fn send(&self, to: &str, message: wa::Message) -> Result<String, Error> {
        self.send_with_id(to, message, None).await
    }

    /// Writes a message under an id of one's own choosing.
    pub async fn send_with_id(
        &self,
        to: &str,
        message: wa::Message,
        id: Option<String>,
    ) -> Result<String, Error> {
        let to = Recipient::Person(self.hub.existing(to)?);
        self.write(&to, message, id).await
    }

    /// Writes `count` texts, `"{text} {number}"`, one after another; returns the ids.
    pub async fn send_many(
        &self,
        to: &str,
        text: &str,
        count: usize,
    ) -> Result<Vec<String>, Error> {
        let to = Recipient::Person(self.hub.existing(to)?);
        let mut ids = Vec::with_capacity(count);
        for number in 0..count {
            ids.push(self.write(&to, crate::text(&format!("{text} {number}")), None).await?);
            // Encrypting never waits; let the connections have the thread now and then.
            tokio::task::coop::consume_budget().await;
        }
        Ok(ids)
    }

    /// Writes a text to a group.
    pub async fn send_group(&self, group: &str, text: &str) -> Result<String, Error> {
        self.send_group_message(group, crate::text(text)).await
    }

    /// Writes any message to a group.
    pub async fn send_group_message(
        &self,
        group: &str,
        message: wa::Message,
    ) -> Result<String, Error> {
        let to = Recipient::Group(self.hub.group(group)?);
        self.write(&to, message, None).await
    }

    /// Shows an account a status update.
    pub async fn show_status(&self, to: &str, text: &str) -> Result<String, Error> {
        let to = self.hub.existing(to)?;
        self.hub.show_status(&self.person, &to, crate::text(text)).await
    }

    /// Puts an emoji on a message of the account's; an empty one takes it back.
    pub async fn react(&self, to: &str, id: &str, emoji: &str) -> Result<String, Error> {
        let message = wa::Message {
            reaction_message: MessageField::some(wa::message::ReactionMessage {
                key: key(&self.person.pn_jid().to_string(), id, false),
                text: Some(emoji.to_owned()),
                sender_timestamp_ms: i64::try_from(crate::clock::unix_millis()).ok(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.send(to, message).await
    }

    /// Changes the text of a message this contact sent.
    pub async fn edit(&self, to: &str, id: &str, text: &str) -> Result<String, Error> {
        let edited = MessageField::some(crate::text(text));
        self.protocol(to, id, ProtocolType::MessageEdit, edited).await
    }

    /// Deletes a message this contact sent, for everyone.
    pub async fn revoke(&self, to: &str, id: &str) -> Result<String, Error> {
        self.protocol(to, id, ProtocolType::Revoke, MessageField::default()).await
    }

    async fn protocol(
        &self,
        to: &str,
        id: &str,
        kind: ProtocolType,
        edited_message: MessageField<wa::Message>,
    ) -> Result<String, Error> {
        let chat = self.hub.existing(to)?.pn_jid().to_string();
        let message = wa::Message {
            protocol_message: MessageField::some(wa::message::ProtocolMessage {
                key: key(&chat, id, true),
                r#type: Some(kind),
                edited_message,
                timestamp_ms: i64::try_from(crate::clock::unix_millis()).ok(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.send(to, message).await
    }

    /// Sends a receipt for messages of an account.
    pub fn receipt(&self, to: &str, ids: &[String], kind: &ReceiptKind) -> Result<(), Error> {
        let account = self.hub.existing(to)?;
        let first = ids.first().ok_or_else(|| Error::UnknownMessage(String::new()))?;
        let chat = self.person.journal.read(|entries| {
            let message = entries.received.iter().rev().find(|it| it.id == *first)?;
            Some(message.chat.clone())
        });
        let chat = chat.ok_or_else(|| Error::UnknownMessage(first.clone()))?;
        self.hub.send_receipt(&self.person, &account, &chat, kind, ids);
        Ok(())
    }

    /// Shows an account that this contact is typing, if it is connected.
    pub fn typing(&self, to: &str, state: TypingState) -> Result<(), Error> {
        let account = self.hub.existing(to)?;
        let child = match state {
            TypingState::Composing => NodeBuilder::new("composing"),
            TypingState::Recording => NodeBuilder::new("composing").attr("media", "audio"),
            TypingState::Paused => NodeBuilder::new("paused"),
        };
        let node = NodeBuilder::new("chatstate")
            .attr("from", self.person.address())
            .children([child.build()])
            .build();
        for companion in account.companions() {
            companion.mention(node.clone());
        }
        Ok(())
    }

    /// Rings an account, and answers the call's id.
    pub fn call(&self, to: &str) -> Result<String, Error> {
        let id = format!("CALL{}", self.hub.number());
        self.signal(to, &id, "offer").map(|()| id)
    }

    /// Ends a call.
    pub fn hang_up(&self, to: &str, call: &str) -> Result<(), Error> {
        self.signal(to, call, "terminate")
    }

    fn signal(&self, to: &str, call: &str, action: &'static str) -> Result<(), Error> {
        let account = self.hub.existing(to)?;
        let mut child = NodeBuilder::new(action)
            .attr("call-id", call)
            .attr("call-creator", self.person.address());
        if action == "offer" {
            child = child.children([NodeBuilder::new("audio")
                .attr("enc", "opus")
                .attr("rate", 16_000)
                .build()]);
        }
        let node = NodeBuilder::new("call")
            .attr("from", self.person.address())
            .attr("id", format!("call-{}", self.hub.number()))
            .attr("t", unix_seconds())
            .children([child.build()])
            .build();
        for companion in account.companions() {
            self.hub.deliver(&companion, node.clone());
        }
        Ok(())
    }

    /// Messages this contact has decrypted.
    pub fn received(&self) -> Vec<SentMessage> {
        self.person.journal.read(|entries| entries.received.iter().cloned().collect())
    }

    /// Receipts clients sent for this contact's messages.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.person.journal.read(|entries| entries.acknowledged.iter().cloned().collect())
    }

    /// Waits for a message, among those received and those to come.
    pub async fn wait_for_received(
        &self,
        wanted: impl Fn(&SentMessage) -> bool + Send + Sync,
    ) -> Result<SentMessage, Error> {
        let what = format!("a message to {}", self.person.pn);
        let look = |entries: &crate::observe::Entries| {
            entries.received.iter().find(|it| wanted(it)).cloned()
        };
        self.person.journal.until(self.hub.options.deadline, &what, look).await
    }

    /// Waits for a receipt for one of this contact's messages; an inactive device's delivery counts.
    pub async fn wait_for_receipt(&self, id: &str, kind: ReceiptKind) -> Result<Receipt, Error> {
        let what = format!("{kind:?} of {id} to {}", self.person.pn);
        let look = |entries: &crate::observe::Entries| {
            let wanted = |it: &&Receipt| {
                it.kind.says(&kind) && it.ids.iter().any(|receipted| receipted == id)
            };
            entries.acknowledged.iter().find(wanted).cloned()
        };
        self.person.journal.until(self.hub.options.deadline, &what, look).await
    }

    /// This contact's phone: to link clients to it as well.
    pub fn as_phone(&self) -> Phone {
        Phone { hub: Arc::clone(&self.hub), person: Arc::clone(&self.person) }
    }

    async fn write(
        &self,
        to: &Recipient,
        message: wa::Message,
        id: Option<String>,
    ) -> Result<String, Error> {
        self.hub.counters.metered(self.hub.write(&self.person, to, message, id)).await
    }
}
