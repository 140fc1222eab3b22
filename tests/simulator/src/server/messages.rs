//! Messages from clients: decrypted by simulated people, relayed to real devices.

use std::sync::Arc;

use bytes::Bytes;
use wacore_binary::{Jid, Node};
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use super::Hub;
use super::router::{Sender, is_group};
use crate::address::PHONE;
use crate::adv;
use crate::clock;
use crate::fault::Fault;
use crate::locked;
use crate::observe::SentMessage;
use crate::people::group::GroupChat;
use crate::people::person::{Person, ReceiptPolicy};
use crate::signal::content::{self, MessageKind};
use crate::signal::ledger::Spent;
use crate::signal::{EncKind, SignalError};
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza};

/// One message stanza of a client, taken apart.
pub(crate) struct Incoming<'a> {
    pub(crate) sender: &'a Sender,
    pub(crate) node: &'a Node,
    pub(crate) id: String,
    pub(crate) to: Jid,
}

/// One ciphertext of it.
struct Part<'a> {
    /// The device it is for.
    jid: Jid,
    enc: &'a Node,
}

impl Hub {
    /// Takes a message from a client.
    pub(crate) async fn message(self: &Arc<Self>, sender: &Sender, node: &Node) {
        self.counters.messages_in.one();
        let device = Some(&sender.companion.key);
        let (Some(to), Some(id)) = (node.jid("to"), node.text("id")) else {
            let text = "<message> without an addressee or an id";
            self.violations.record(ViolationKind::Malformed, device, text);
            return;
        };
        if !sender.companion.state().active {
            let text = format!("message {id} before <active/>");
            self.violations.record(ViolationKind::TooEarly, device, text);
        }
        let refused = |fault: &Fault| matches!(fault, Fault::ErrorAck { .. });
        if let Some(Fault::ErrorAck { code }) = self.faults.strike(device, refused) {
            sender.link.send(stanza::ack(node).attr("error", code).build());
            return;
        }
        self.check_identity(sender, node);
        let incoming = Incoming { sender, node, id, to };
        // The server's ack says that it has the message, not that anybody has read it.
        let known = self.knows(&incoming);
        let lost = |fault: &Fault| *fault == Fault::LoseAck;
        if !known {
            let text =
                format!("message {} to {}, who is not on WhatsApp", incoming.id, incoming.to);
            self.violations.record(ViolationKind::UnknownUser, device, text);
            sender.link.send(stanza::ack(node).attr("error", 404).build());
            return;
        }
        if self.faults.strike(device, lost).is_none() {
            sender.link.send(stanza::ack(node).build());
        }
        if is_group(&incoming.to) {
            self.group_message(&incoming).await;
        } else {
            self.direct_message(&incoming).await;
        }
    }

    fn knows(&self, incoming: &Incoming<'_>) -> bool {
        if is_group(&incoming.to) {
            let group = self.directory.group(&incoming.to.user);
            return group.is_some_and(|group| group.has(&incoming.sender.person.pn));
        }
        self.directory.lookup(&incoming.to).is_some()
    }

    /// A client that opens a session shows its device identity; it must be the one it signed.
    fn check_identity(&self, sender: &Sender, node: &Node) {
        let Some(identity) = node.child_bytes("device-identity") else { return };
        let account = sender.person.endpoint.identity_public();
        let companion = &sender.companion.registration.identity;
        if let Err(text) = adv::verify(identity, &account, companion) {
            let device = Some(&sender.companion.key);
            self.violations.record(ViolationKind::BadSignature, device, text);
        }
    }

    async fn direct_message(self: &Arc<Self>, incoming: &Incoming<'_>) {
        for part in parts(incoming) {
            self.part(incoming, part, None).await;
        }
    }

    /// Sender keys travel pairwise in front, then one ciphertext is for all members.
    async fn group_message(self: &Arc<Self>, incoming: &Incoming<'_>) {
        let Some(group) = self.directory.group(&incoming.to.user) else { return };
        let (shared, single): (Vec<&Node>, Vec<&Node>) = incoming
            .node
            .nodes()
            .iter()
            .filter(|child| child.tag == "enc")
            .partition(|enc| enc.kind() == "skmsg");
        for part in participants(incoming.node) {
            // Devices get their distribution and the message in one stanza, below.
            if part.jid.device == PHONE {
                self.part(incoming, part, Some(&group)).await;
            }
        }
        // A resend is for one participant and comes under a pairwise session.
        if let (Some(participant), Some(enc)) = (incoming.node.jid("participant"), single.first()) {
            self.part(incoming, Part { jid: participant, enc }, Some(&group)).await;
        }
        for enc in shared {
            self.book(incoming, &incoming.to, enc);
            self.shared_part(incoming, &group, enc).await;
        }
    }

    /// A ciphertext for one device.
    async fn part(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        part: Part<'_>,
        group: Option<&Arc<GroupChat>>,
    ) {
        self.book(incoming, &part.jid, part.enc);
        let from = &incoming.sender.companion.key;
        let Some(person) = self.directory.lookup(&part.jid) else {
            let text = format!("message {} has a part for {}", incoming.id, part.jid);
            self.violations.record(ViolationKind::UnknownUser, Some(from), text);
            return;
        };
        if part.jid.device != PHONE {
            self.relay_part(incoming, &person, part.jid.device, part.enc, None);
            return;
        }
        let Some((kind, bytes)) = ciphertext(part.enc) else {
            let text = format!("message {} has an <enc> of an unknown kind", incoming.id);
            self.violations.record(ViolationKind::Malformed, Some(from), text);
            return;
        };
        let opened = match person.endpoint.open(from, kind, bytes).await {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(incoming, &person, group, &error),
        };
        self.counters.decrypted.one();
        let registered = incoming.sender.companion.registration.identity;
        if opened.identity.is_some_and(|identity| identity != registered) {
            let text = "a session is under another identity than the registered one";
            self.violations.record(ViolationKind::BadSignature, Some(from), text);
        }
        self.read(incoming, &person, group, &opened.plaintext).await;
    }

    /// The ciphertext that is for all members of a group.
    async fn shared_part(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        group: &Arc<GroupChat>,
        enc: &Node,
    ) {
        let from = &incoming.sender.companion.key;
        for pn in group.members() {
            let Some(person) = self.directory.find(&pn) else { continue };
            for companion in person.companions() {
                if companion.key != *from {
                    let own = participants(incoming.node).into_iter().find(|part| {
                        let to = self.directory.lookup(&part.jid);
                        part.jid.device == companion.key.device
                            && to.is_some_and(|to| to.pn == person.pn)
                    });
                    if let Some(own) = &own {
                        self.book(incoming, &own.jid, own.enc);
                    }
                    let pair = (own.map(|own| own.enc), enc);
                    self.relay_group(incoming, group, &companion, pair);
                }
            }
            let Some(bytes) = enc.bytes() else { continue };
            match person.endpoint.open_group(&group.id, from, bytes).await {
                Ok(plaintext) => {
                    self.counters.decrypted.one();
                    self.read(incoming, &person, Some(group), &plaintext).await;
                }
                Err(error) => self.unreadable(incoming, &person, Some(group), &error),
            }
        }
    }

    /// Somebody has decrypted a message, or a sender key, or a copy of their own.
    async fn read(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        person: &Arc<Person>,
        group: Option<&Arc<GroupChat>>,
        plaintext: &[u8],
    ) {
        let from = &incoming.sender.companion.key;
        let decoded =
            content::unpad(plaintext).and_then(|plain| Ok((plain, content::decode(plain)?)));
        let (plain, message) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.unreadable(incoming, person, group, &error),
        };
        if let Some(distribution) = message.sender_key_distribution_message.as_option() {
            let chain = distribution.axolotl_sender_key_distribution_message.as_deref();
            let group_id = &incoming.to.user;
            let learned = person.endpoint.learn_chain(group_id, from, chain.unwrap_or_default());
            if let Err(error) = learned.await {
                return self.unreadable(incoming, person, group, &error);
            }
            let bare = wa::Message {
                sender_key_distribution_message: MessageField::default(),
                message_context_info: MessageField::default(),
                ..message.clone()
            };
            if content::meaning(&bare).kind == MessageKind::Other {
                return;
            }
        }
        if self.pretend_failure(incoming, person, group).await {
            return;
        }
        self.take_in(incoming, person, plain, message).await;
    }

    async fn take_in(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        person: &Arc<Person>,
        plain: &[u8],
        message: wa::Message,
    ) {
        let sender = incoming.sender;
        let own = person.pn == sender.person.pn;
        let (message, copy_of) = content::unwrap_copy(message);
        let meaning = content::meaning(&message);
        let plaintext = match &copy_of {
            Some(_) => Bytes::from(waproto::codec::message_to_vec(&message)),
            None => Bytes::copy_from_slice(plain),
        };
        let sent = SentMessage {
            id: incoming.id.clone(),
            from: sender.companion.key.clone(),
            chat: incoming.to.clone(),
            kind: meaning.kind,
            text: meaning.text,
            target: meaning.target,
            decrypted_by: if own { Vec::new() } else { vec![person.pn.to_string()] },
            copied_to_phone: own,
            retries: retries(incoming.node),
            at: clock::unix_millis(),
            plaintext,
        };
        // The recipient's journal first: whoever sees it sent may send a receipt for it.
        if !own {
            person.journal.push(|entries| &mut entries.received, sent.clone());
        }
        sender.person.journal.sent(&sent);
        if own && copy_of.is_none() {
            match meaning.kind {
                MessageKind::AppStateKeys => self.share_keys_again(sender).await,
                MessageKind::Peer => self.resend_placeholders(sender, &incoming.id, &message).await,
                _ => {}
            }
        }
        if !own && !matches!(sent.kind, MessageKind::AppStateKeys | MessageKind::Peer) {
            let policy = locked(&person.habits).receipts;
            if policy > ReceiptPolicy::None {
                self.acknowledge_as(person, incoming, policy);
            }
        }
    }

    /// Books the counter a ciphertext spends.
    fn book(&self, incoming: &Incoming<'_>, to: &Jid, enc: &Node) {
        let Some((kind, bytes)) = ciphertext(enc) else { return };
        let device = Some(&incoming.sender.companion.key);
        let Some(spent) = Spent::read(kind, bytes) else {
            let text = format!("message {} has a malformed ciphertext for {to}", incoming.id);
            self.violations.record(ViolationKind::Malformed, device, text);
            return;
        };
        if !incoming.sender.companion.spend(to.to_string(), &spent) {
            let counter = spent.counter();
            let text = format!("message {} to {to} spends counter {counter} again", incoming.id);
            self.violations.record(ViolationKind::ReusedCounter, device, text);
        }
    }

    fn unreadable(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        person: &Arc<Person>,
        group: Option<&Arc<GroupChat>>,
        error: &SignalError,
    ) {
        let device = Some(&incoming.sender.companion.key);
        let kind = match error {
            SignalError::Reused { .. } => ViolationKind::ReusedCounter,
            _ => ViolationKind::Undecryptable,
        };
        let text = format!("message {} for {}: {error}", incoming.id, person.pn);
        self.violations.record(kind, device, text);
        // A real phone would ask again, so that a client's recovery can be watched as well.
        if kind == ViolationKind::Undecryptable {
            self.ask_again(incoming, person, group);
        }
    }
}

/// The ciphertexts of a direct message: one per device, or one for all of the addressee.
fn parts<'a>(incoming: &Incoming<'a>) -> Vec<Part<'a>> {
    let mut parts = participants(incoming.node);
    let single = incoming.node.nodes().iter().filter(|child| child.tag == "enc");
    parts.extend(single.map(|enc| Part { jid: incoming.to.clone(), enc }));
    parts
}

fn participants(node: &Node) -> Vec<Part<'_>> {
    let list = node.child("participants").map(Stanza::nodes).unwrap_or_default();
    list.iter().filter_map(|to| Some(Part { jid: to.jid("jid")?, enc: to.child("enc")? })).collect()
}

fn ciphertext(enc: &Node) -> Option<(EncKind, &[u8])> {
    Some((EncKind::parse(&enc.kind())?, enc.bytes()?))
}

/// How often this message has been sent before: the `count` of its ciphertexts.
pub(crate) fn retries(node: &Node) -> u32 {
    let encs = node.nodes().iter().filter(|child| child.tag == "enc");
    encs.filter_map(|enc| enc.text("count")?.parse().ok()).max().unwrap_or_default()
}
