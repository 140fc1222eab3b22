//! Retries: asking a client to send again, and sending again what a client could not read.

use std::sync::Arc;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::Hub;
use super::messages::Incoming;
use super::router::{Sender, is_group};
use super::writing::enc;
use crate::clock::unix_seconds;
use crate::locked;
use crate::people::group::GroupChat;
use crate::people::person::Person;
use crate::signal::bundle::Bundle;
use crate::violation::ViolationKind;
use crate::wire::stanza::{Stanza, node_with_bytes};

/// A client that asks more often than this gets no answer, as from a real phone.
const MOST_RETRIES: u32 = 5;

impl Hub {
    /// A contact cannot (or pretends it cannot) read a message: it asks for it again.
    ///
    /// It throws its session away first and sends its keys along, so the message must come back
    /// under a session of its own; decrypting that proves the client's recovery.
    pub(crate) fn ask_again(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        person: &Arc<Person>,
        group: Option<&Arc<GroupChat>>,
    ) {
        let companion = Arc::clone(&incoming.sender.companion);
        let keys = person.endpoint.publish();
        let count = super::messages::retries(incoming.node) + 1;
        let retry = NodeBuilder::new("retry")
            .attr("v", "1")
            .attr("id", incoming.id.as_str())
            .attr("t", unix_seconds())
            .attr("count", count)
            .build();
        let registration = node_with_bytes("registration", keys.registration_id.to_be_bytes());
        let mut receipt = NodeBuilder::new("receipt")
            .attr("id", incoming.id.as_str())
            .attr("type", "retry")
            .attr("t", unix_seconds());
        receipt = match group {
            Some(group) => receipt
                .attr("from", group.jid())
                .attr("participant", self.member_address(person, &group.jid())),
            None => receipt.attr("from", incoming.to.to_non_ad()),
        };
        let receipt = receipt.children([retry, registration, keys.to_keys_node()]).build();
        self.deliver(&companion, receipt);
    }

    /// Fails on purpose, if a test wants this contact to.
    pub(crate) async fn pretend_failure(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        person: &Arc<Person>,
        group: Option<&Arc<GroupChat>>,
    ) -> bool {
        let fails = {
            let mut habits = locked(&person.habits);
            let fails = habits.failing > 0 && person.pn != incoming.sender.person.pn;
            habits.failing -= u32::from(fails);
            fails
        };
        if fails {
            let device = &incoming.sender.companion.key;
            person.endpoint.forget(device).await;
            if let Some(group) = group {
                person.endpoint.forget_chain(&group.id, device).await;
            }
            self.ask_again(incoming, person, group);
        }
        fails
    }

    /// A client could not read a message of ours: it is encrypted anew, for that device only.
    pub(crate) async fn send_again(
        self: &Arc<Self>,
        sender: &Sender,
        author: &Arc<Person>,
        receipt: &Node,
    ) {
        let device = &sender.companion.key;
        let Some(retry) = receipt.child("retry") else {
            let text = "a retry receipt without <retry>";
            self.violations.record(ViolationKind::Malformed, Some(device), text);
            return;
        };
        let count = retry.text("count").and_then(|it| it.parse().ok()).unwrap_or(1);
        let id = retry.text("id").unwrap_or_else(|| receipt.id());
        if count > MOST_RETRIES {
            return;
        }
        if let Some(device) = receipt.jid("to").filter(|to| to.device != 0 && !is_group(to)) {
            // The author is a real device: it re-encrypts itself.
            self.relay_retry(sender, author, device.device, receipt);
            return;
        }
        let Some(written) = author.outbox.find(&id) else {
            tracing::debug!(id, "asked again for what nobody remembers");
            return;
        };
        let bundle = Bundle::from_retry(receipt);
        if let Some(bundle) = &bundle {
            self.check_retry_keys(sender, bundle);
        }
        let companion = Arc::clone(&sender.companion);
        let bundle = bundle.unwrap_or_else(|| companion.take_bundle());
        let renewed = author.endpoint.renew(device, &bundle).await;
        let group = is_group(&written.chat).then(|| self.directory.group(&written.chat.user));
        let message = match group.flatten() {
            // The chain is sent along: the client may have lost that instead of the session.
            Some(group) => {
                group.undistribute(&author.pn, device);
                self.with_chain(author, &group, &written.message).await
            }
            None => Ok(waproto::whatsapp::Message::clone(&written.message)),
        };
        let sealed = match (renewed, message) {
            (Ok(()), Ok(message)) => author.endpoint.seal(device, &message, || None).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match sealed {
            Ok(sealed) => {
                self.counters.encrypted.one();
                let mut part = enc(&sealed, &written.message);
                part.attrs.push("count", count.to_string());
                let envelope = self.envelope(author, &sender.person, &written, &id);
                self.deliver(&sender.companion, envelope.children([part]).build());
            }
            Err(error) => {
                let text = format!("cannot send {id} again: {error}");
                self.violations.record(ViolationKind::BadSignature, Some(device), text);
            }
        }
    }

    fn check_retry_keys(&self, sender: &Sender, bundle: &Bundle) {
        let companion = &sender.companion;
        if bundle.identity != companion.registration.identity
            || bundle.registration_id != companion.registration.number
            || !bundle.signed.is_signed_by(&bundle.identity)
        {
            let text = "the keys of a retry receipt are not the registered device's";
            self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
        }
    }

    /// Passes a retry receipt on to the real device that wrote the message.
    fn relay_retry(&self, sender: &Sender, author: &Person, device: u16, receipt: &Node) {
        let Some(companion) = author.companion(device) else { return };
        let mut node = receipt.clone();
        let by_lid = receipt.jid("to").is_some_and(|to| to.is_lid());
        let number = sender.companion.key.device;
        let lid = sender.person.lid().filter(|_| by_lid);
        let from = lid.map_or_else(
            || sender.companion.key.jid(),
            |lid| wacore_binary::Jid::lid_device(lid, number),
        );
        node.attrs.0.retain(|(key, _)| key != "to");
        node.attrs.push("from", from);
        node.attrs.push("t", unix_seconds().to_string());
        self.deliver(&companion, node);
    }
}
