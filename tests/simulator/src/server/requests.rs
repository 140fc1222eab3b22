//! What a companion asks its phone for, in messages between an account's own devices.

use std::sync::Arc;

use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::peer_data_operation_request_response_message::PeerDataOperationResult;
use waproto::whatsapp::message::peer_data_operation_request_response_message::peer_data_operation_result::PlaceholderMessageResendResponse;
use waproto::whatsapp::message::{
    PeerDataOperationRequestResponseMessage, PeerDataOperationRequestType, protocol_message,
};

use super::Hub;
use super::router::{Sender, is_group};
use super::writing::enc;
use crate::clock::unix_seconds;
use crate::locked;
use crate::people::outbox::Written;
use crate::violation::ViolationKind;

impl Hub {
    /// The phone hands a companion what it wrote itself and the companion could not read.
    ///
    /// A phone that has been told to leave requests unanswered does, and so does one that does not
    /// remember the message.
    pub(crate) async fn resend_placeholders(
        self: &Arc<Self>,
        sender: &Sender,
        id: &str,
        message: &wa::Message,
    ) {
        let Some(request) = message
            .protocol_message
            .as_option()
            .and_then(|protocol| protocol.peer_data_operation_request_message.as_option())
        else {
            return;
        };
        let Sender { person, companion, .. } = sender;
        let kind = PeerDataOperationRequestType::PLACEHOLDER_MESSAGE_RESEND;
        if request.peer_data_operation_request_type != Some(kind) {
            return;
        }
        let asked = request.placeholder_message_resend_request.iter();
        let keys: Vec<&wa::MessageKey> =
            asked.filter_map(|request| request.message_key.as_option()).collect();
        {
            let mut habits = locked(&person.habits);
            habits.asked.extend(keys.iter().filter_map(|key| key.id.clone()));
            if !habits.resends {
                person.journal.touch();
                return;
            }
        }
        person.journal.touch();
        let found: Vec<_> = keys.into_iter().filter_map(|key| self.copy_of(sender, key)).collect();
        if found.is_empty() {
            return;
        }
        let answer = wa::Message {
            protocol_message: MessageField::some(wa::message::ProtocolMessage {
                r#type: Some(protocol_message::Type::PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE),
                peer_data_operation_request_response_message: MessageField::some(
                    PeerDataOperationRequestResponseMessage {
                        peer_data_operation_request_type: Some(kind),
                        stanza_id: Some(id.to_owned()),
                        peer_data_operation_result: found,
                    },
                ),
                ..Default::default()
            }),
            ..Default::default()
        };
        let id = self.message_id();
        let written = Written { message: Arc::new(answer), chat: person.pn_jid(), peer: true };
        person.outbox.remember(&id, written.clone());
        match self.seal(person, companion, &written.message).await {
            Ok(sealed) => {
                let envelope = self.envelope(person, person, &written, &id);
                let part = enc(&sealed, &written.message);
                self.deliver(companion, envelope.children([part]).build());
            }
            Err(error) => {
                let text = format!("the phone cannot answer its companion: {error}");
                self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
            }
        }
    }

    /// A message of the phone's own as it hands it over: under the number of whom it is to.
    fn copy_of(&self, sender: &Sender, key: &wa::MessageKey) -> Option<PeerDataOperationResult> {
        let id = key.id.as_deref()?;
        let written = sender.person.outbox.find(id).filter(|_| key.from_me == Some(true))?;
        let chat = if is_group(&written.chat) {
            written.chat.clone()
        } else {
            self.directory.lookup(&written.chat)?.pn_jid()
        };
        let info = wa::WebMessageInfo {
            key: MessageField::some(wa::MessageKey {
                remote_jid: Some(chat.to_string()),
                from_me: Some(true),
                id: Some(id.to_owned()),
                ..Default::default()
            }),
            message: MessageField::some(wa::Message::clone(&written.message)),
            message_timestamp: u64::try_from(unix_seconds()).ok(),
            ..Default::default()
        };
        Some(PeerDataOperationResult {
            placeholder_message_resend_response: MessageField::some(
                PlaceholderMessageResendResponse {
                    web_message_info_bytes: Some(info.encode_to_vec()),
                },
            ),
            ..Default::default()
        })
    }
}
