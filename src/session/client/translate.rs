//! From the library's types to ours: pure functions.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    kind::MessageKind,
    message,
    state::{Direction, MessageStatus},
};
use wacore::{
    chrono::{DateTime, Utc},
    pair_code::PairCodeRejection,
    proto_helpers::{MessageBuilderExt as _, MessageExt as _},
    store::Device,
    types::{
        call::{CallAction, IncomingCall},
        events::{
            ConnectFailureReason, Event, InboundMessage, LoggedOut, Receipt, ServerAck,
            UndecryptableMessage,
        },
        message::{MessageCategory, MessageInfo},
        presence::ReceiptType,
    },
};
use wacore_binary::{Jid, NodeRef, Server};
use waproto::{
    codec,
    whatsapp::{self as wa, message::protocol_message::Type as ProtocolType},
};
use whatsapp_rust::request::IqError;

use super::{
    PairError,
    signal::{QrCode, Signal},
};
use crate::{
    event::{
        Account, Ack, AckLevel, AuthFailure, Call, Ciphertext, Disconnect, Loss, NewMessage,
        PairingFailure,
    },
    session::outbox,
};

/// What an event of the library means to a session; nothing for most.
pub(super) fn signals(event: &Event) -> Vec<Signal> {
    let one = match event {
        Event::PairingQrCode(qr) => {
            Signal::Qr(QrCode { code: qr.code.clone(), valid_for: qr.timeout })
        }
        Event::PairingQrCodesExhausted(exhausted) => {
            Signal::QrCodesExhausted { goes_on: !exhausted.disconnected }
        }
        Event::PairingCodeRefresh(_) => Signal::PairingCodeFailed(PairingFailure::CodeWithdrawn),
        Event::PairingCodeError(_) => Signal::PairingCodeFailed(PairingFailure::CodeRefused),
        Event::PairPasskeyRequest(_) => Signal::PasskeyRequested,
        Event::PairPasskeyError(_) => Signal::PasskeyFailed,
        Event::PairSuccess(_) => Signal::Paired,
        Event::PairError(error) => {
            Signal::Refused(AuthFailure::PairingRefused { detail: error.error.clone(), code: None })
        }
        Event::QrScannedWithoutMultidevice(_) => {
            Signal::Refused(AuthFailure::MultideviceUnavailable)
        }
        Event::OfflineSyncPreview(preview) => {
            Signal::Backlog { total: u32::try_from(preview.total).unwrap_or(0) }
        }
        Event::Connected(_) => Signal::Connected,
        Event::RawNode(node) => match stanza(node.get()) {
            Some(signal) => signal,
            None => return Vec::new(),
        },
        Event::Disconnected(_) => Signal::Lost(Loss::ConnectionLost),
        Event::StreamReplaced(_) => Signal::Ended(Disconnect::Replaced),
        Event::LoggedOut(logged_out) => logged_out_signal(logged_out),
        Event::TemporaryBan(ban) => {
            Signal::Banned { code: ban.code.code(), lasts: ban.expire.to_std().unwrap_or_default() }
        }
        Event::ClientOutdated(_) => Signal::Refused(AuthFailure::ClientOutdated),
        Event::ConnectFailure(failure) => connect_failure(failure.reason.code()),
        // What the hook has committed is there already.
        Event::Messages(batch) if batch.hook_committed => return Vec::new(),
        Event::Messages(batch) => {
            let now = UnixMillis(wacore::time::now_millis());
            Signal::Messages(batch.iter().filter_map(|message| inbound(message, now)).collect())
        }
        Event::UndecryptableMessage(message) => match ciphertext(message) {
            Some(message) => Signal::Undecryptable(message),
            None => return Vec::new(),
        },
        Event::Receipt(receipt) => return receipts(receipt).map(Signal::Ack).collect(),
        Event::ServerAck(ack) => match server_ack(ack) {
            Some(ack) => acknowledged(ack),
            None => return Vec::new(),
        },
        Event::IncomingCall(call) => match incoming_call(call) {
            Some(call) => Signal::Call(call),
            None => return Vec::new(),
        },
        Event::MissedCall(call) => {
            Signal::Call(ended_call(&call.call_id, &call.from, "missed", call.timestamp))
        }
        Event::CallEndedElsewhere(call) => {
            Signal::Call(ended_call(&call.call_id, &call.from, "ended_elsewhere", call.timestamp))
        }
        _ => return Vec::new(),
    };
    vec![one]
}

/// What is read from a stanza itself, as the library has no event for it.
fn stanza(node: &NodeRef<'_>) -> Option<Signal> {
    match node.tag.as_ref() {
        "success" => Some(Signal::LoggedIn),
        // In the place of references for a code, as an answer to nothing that was asked. Most such stanzas are answers.
        "iq" if is_refusal(node) => {
            let error = node.get_optional_child("error")?;
            let of = |name: &str| error.get_attr(name).map(|value| value.as_str().into_owned());
            let code = of("code")?.parse().ok()?;
            let detail = of("text").unwrap_or_else(|| format!("error {code}"));
            Some(Signal::Denied { code, detail })
        }
        // A conflict has events of its own, and so have the end of a pairing (515) and of a device.
        "stream:error" if node.get_optional_child("conflict").is_none() => {
            let code = node.get_attr("code").and_then(|code| code.as_str().parse().ok());
            match code {
                Some(401 | 409 | 515 | 516) => None,
                code => Some(Signal::StreamError { code }),
            }
        }
        _ => None,
    }
}

/// Whether the server itself refuses something.
fn is_refusal(node: &NodeRef<'_>) -> bool {
    let from = node.get_attr("from").map(|from| from.as_str());
    let of_server = from.is_some_and(|from| from.trim_start_matches('@') == Server::Pn.as_str());
    of_server && node.get_attr("type").is_some_and(|it| it.as_str() == "error")
}

/// A login refused for a reason that the library has no event of its own for.
fn connect_failure(code: i32) -> Signal {
    match code {
        429 => Signal::Lost(Loss::RateLimited),
        // These the library would dial again for, too.
        500 | 503 => Signal::Lost(Loss::ServerUnavailable { code }),
        _ => Signal::Refused(AuthFailure::ConnectRefused { code }),
    }
}

fn logged_out_signal(logged_out: &LoggedOut) -> Signal {
    let code = logged_out.reason.code();
    match logged_out.reason {
        ConnectFailureReason::AccountLocked => Signal::Refused(AuthFailure::AccountLocked),
        _ if logged_out.on_connect => Signal::Refused(AuthFailure::CredentialsRefused { code }),
        _ => Signal::Ended(Disconnect::LoggedOut { code: Some(code) }),
    }
}

/// A decrypted message as ours; none for what only concerns the linked devices among themselves.
pub(super) fn inbound(received: &InboundMessage, now: UnixMillis) -> Option<NewMessage> {
    let InboundMessage { message, info, .. } = received;
    if info.category == MessageCategory::Peer {
        return None;
    }
    let source = &info.source;
    let content = read(message)?;
    let (direction, status) = if source.is_from_me {
        // Sent on the phone or on another linked device: the server has it.
        (Direction::Outbound, MessageStatus::Sent)
    } else {
        (Direction::Inbound, MessageStatus::Received)
    };
    Some(NewMessage {
        id: MessageId::new(now, in_order(rand::random())),
        wa_id: info.id.clone(),
        chat: chat(info),
        sender: known_by_number(&source.sender, source.sender_alt.as_ref()),
        direction,
        kind: content.kind,
        body: content.body.map(clean),
        target_wa_id: content.target,
        interaction: None,
        raw: Some(codec::message_to_vec(message)),
        push_name: Some(info.push_name.clone()).filter(|name| !name.is_empty()).map(clean),
        sent_at: millis(info.timestamp),
        is_group: source.is_group,
        offline: info.is_offline,
        status,
    })
}

/// What is known of a message that could not be decrypted; none for what only concerns the linked
/// devices among themselves.
fn ciphertext(message: &UndecryptableMessage) -> Option<Ciphertext> {
    let info = &message.info;
    if info.category == MessageCategory::Peer {
        return None;
    }
    let source = &info.source;
    Some(Ciphertext {
        wa_id: info.id.clone(),
        chat: chat(info),
        sender: known_by_number(&source.sender, source.sender_alt.as_ref()),
        direction: if source.is_from_me { Direction::Outbound } else { Direction::Inbound },
        sent_at: millis(info.timestamp),
        is_group: source.is_group,
        offline: info.is_offline,
        unavailable: message.is_unavailable,
    })
}

/// The conversation that a message belongs to.
fn chat(info: &MessageInfo) -> String {
    let source = &info.source;
    if source.is_group {
        return source.chat.to_non_ad_string();
    }
    // In a conversation of two, the chat is the other one, and so is its other address.
    let other = if source.is_from_me { &source.recipient_alt } else { &source.sender_alt };
    known_by_number(&source.chat, other.as_ref())
}

/// A person has two addresses, a number and a hidden identity. The number is the one that callers
/// know, so it is preferred where the stanza names both.
fn known_by_number(jid: &Jid, other: Option<&Jid>) -> String {
    match other {
        Some(number) if jid.is_lid() && number.is_pn() => number.to_non_ad_string(),
        _ => jid.to_non_ad_string(),
    }
}

/// What a message says, as far as we read it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: MessageKind,
    pub(super) body: Option<String>,
    /// WhatsApp's id of the message that this one is about.
    pub(super) target: Option<String>,
}

/// What a message says. None for protocol messages that are no part of a conversation.
pub(super) fn read(message: &wa::Message) -> Option<Content> {
    let base = message.get_base_message();
    let of =
        |kind, body: Option<String>, target: Option<String>| Some(Content { kind, body, target });
    if let Some(protocol) = base.protocol_message.as_option() {
        let target = protocol.key.as_option().and_then(|key| key.id.clone());
        return match protocol.r#type {
            Some(ProtocolType::REVOKE) => of(MessageKind::Revoke, None, target),
            Some(ProtocolType::MESSAGE_EDIT) => {
                let text = protocol
                    .edited_message
                    .as_option()
                    .and_then(|edited| text(edited.get_base_message()));
                of(MessageKind::Edit, text, target)
            }
            _ => None,
        };
    }
    if let Some(reaction) = base.reaction_message.as_option() {
        let target = reaction.key.as_option().and_then(|key| key.id.clone());
        return of(MessageKind::Reaction, reaction.text.clone(), target);
    }
    if let Some(vote) = base.poll_update_message.as_option() {
        let target = vote.poll_creation_message_key.as_option().and_then(|key| key.id.clone());
        return of(MessageKind::PollVote, None, target);
    }
    let quoted = quoted(base);
    let caption = || base.get_caption().map(str::to_owned);
    let media = [
        (base.image_message.is_set(), MessageKind::Image),
        (base.video_message.is_set(), MessageKind::Video),
        (base.audio_message.is_set(), MessageKind::Audio),
        (base.document_message.is_set(), MessageKind::Document),
        (base.sticker_message.is_set(), MessageKind::Sticker),
    ];
    if let Some((_, kind)) = media.into_iter().find(|(there, _)| *there) {
        return of(kind, caption(), quoted);
    }
    if let Some(location) = base.location_message.as_option() {
        return of(MessageKind::Location, location.name.clone(), quoted);
    }
    if let Some(contact) = base.contact_message.as_option() {
        return of(MessageKind::Contact, contact.display_name.clone(), quoted);
    }
    let polls = [
        &base.poll_creation_message,
        &base.poll_creation_message_v2,
        &base.poll_creation_message_v3,
    ];
    if let Some(poll) = polls.into_iter().find_map(|poll| poll.as_option()) {
        return of(MessageKind::Poll, poll.name.clone(), quoted);
    }
    if let Some(text) = text(base) {
        return of(MessageKind::Text, Some(text), quoted);
    }
    // Only the keys for later group messages: nothing that anybody wrote.
    let only_keys = base.sender_key_distribution_message.is_set()
        && codec::message_to_vec(&wa::Message {
            sender_key_distribution_message: waproto::buffa::MessageField::none(),
            message_context_info: waproto::buffa::MessageField::none(),
            ..base.clone()
        })
        .is_empty();
    if only_keys { None } else { of(MessageKind::Unsupported, None, None) }
}

fn text(base: &wa::Message) -> Option<String> {
    base.text_content().map(str::to_owned)
}

/// WhatsApp's id of the message that this one replies to.
fn quoted(base: &wa::Message) -> Option<String> {
    base.extended_text_message
        .as_option()
        .and_then(|text| text.context_info.as_option())
        .and_then(|context| context.stanza_id.clone())
}

/// PostgreSQL stores no NUL in text; it carries nothing, and the original stays in `raw`.
pub(super) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

fn receipts(receipt: &Receipt) -> impl Iterator<Item = Ack> + '_ {
    let level = match receipt.r#type {
        // Receipts of our own other devices say nothing about the recipient.
        _ if receipt.source.is_from_me => None,
        ReceiptType::Delivered | ReceiptType::Inactive => Some(AckLevel::Delivered),
        ReceiptType::Read => Some(AckLevel::Read),
        ReceiptType::Played => Some(AckLevel::Played),
        ReceiptType::ServerError => Some(AckLevel::Error),
        _ => None,
    };
    let source = &receipt.source;
    receipt.message_ids.iter().filter_map(move |id| {
        Some(Ack {
            wa_id: id.clone(),
            chat: known_by_number(&source.chat, source.sender_alt.as_ref()),
            by: known_by_number(&source.sender, source.sender_alt.as_ref()),
            level: level?,
            error: (level == Some(AckLevel::Error)).then(|| "server_error".to_owned()),
            at: millis(receipt.timestamp),
        })
    })
}

/// The server acknowledges receipts and calls in the same way: only messages are ours to follow.
fn server_ack(ack: &ServerAck) -> Option<Ack> {
    if ack.class.as_deref() != Some("message") {
        return None;
    }
    let chat = ack.from.as_ref().map(Jid::to_non_ad_string).unwrap_or_default();
    Some(Ack {
        wa_id: ack.id.clone(),
        by: chat.clone(),
        chat,
        level: if ack.error.is_some() { AckLevel::Error } else { AckLevel::Sent },
        error: ack.error.clone(),
        at: ack.timestamp.map_or_else(|| UnixMillis(wacore::time::now_millis()), millis),
    })
}

fn acknowledged(ack: Ack) -> Signal {
    let code = ack.error.as_deref().and_then(|code| code.parse().ok());
    match code.filter(|code| outbox::passes(*code)) {
        Some(code) => Signal::PutOff { code, refused: ack },
        None => Signal::Ack(ack),
    }
}

fn incoming_call(call: &IncomingCall) -> Option<Call> {
    let (stage, video, group) = match &call.action {
        CallAction::Offer { is_video, group_jid, .. } => ("offer", *is_video, group_jid.is_some()),
        CallAction::OfferNotice { is_video, is_group, .. } => ("offer", *is_video, *is_group),
        CallAction::Accept { .. } => ("accept", false, false),
        CallAction::Reject { .. } => ("reject", false, false),
        CallAction::Terminate { .. } => ("terminate", false, false),
        _ => return None,
    };
    let mut ended = ended_call(call.action.call_id(), &call.from, stage, call.timestamp);
    (ended.video, ended.group) = (video, group);
    Some(ended)
}

fn ended_call(id: &str, from: &Jid, stage: &'static str, at: DateTime<Utc>) -> Call {
    Call {
        id: id.to_owned(),
        from: from.to_non_ad_string(),
        video: false,
        group: false,
        stage,
        at: millis(at),
    }
}

/// The protobuf message of a row of ours.
pub(super) fn outbound(row: &message::Model) -> wa::Message {
    wa::Message::text(row.body.clone().unwrap_or_default())
}

/// When to come back for a pairing code if WhatsApp does not say. Its limits last for minutes.
const SOME_TIME: Duration = Duration::from_mins(1);

/// Whether asking again later may help.
fn passes(rejection: PairCodeRejection) -> bool {
    rejection.is_throttled() || rejection == PairCodeRejection::InternalServerError
}

fn refusal(rejection: PairCodeRejection) -> PairingFailure {
    match rejection {
        PairCodeRejection::BadRequest => PairingFailure::BadRequest,
        PairCodeRejection::Forbidden => PairingFailure::Forbidden,
        PairCodeRejection::RateOverlimit => PairingFailure::RateLimited,
        PairCodeRejection::FeatureNotAvailable => PairingFailure::NotAvailable,
        PairCodeRejection::InternalServerError => PairingFailure::ServerError,
        PairCodeRejection::Unknown(code) => PairingFailure::Refused { code },
    }
}

/// The account that a device is linked to, as far as it is.
pub(super) fn account(device: &Device) -> Account {
    Account {
        phone_number: device.pn.as_ref().map(|pn| pn.user.to_string()),
        push_name: Some(device.push_name.clone()).filter(|name| !name.is_empty()),
        jid: device.pn.as_ref().map(Jid::to_non_ad_string),
        lid: device.lid.as_ref().map(Jid::to_non_ad_string),
    }
}

pub(super) fn pair_error(error: &whatsapp_rust::pair_code::PairError) -> PairError {
    use wacore::pair_code::PairCodeError;
    use whatsapp_rust::pair_code::PairError as Theirs;

    match error {
        Theirs::PairCode(PairCodeError::CodeAlreadyOutstanding { remaining }) => {
            PairError::Outstanding { remaining: *remaining }
        }
        Theirs::PairCode(
            PairCodeError::PhoneNumberRequired
            | PairCodeError::PhoneNumberTooShort
            | PairCodeError::PhoneNumberNotInternational,
        ) => PairError::InvalidPhoneNumber,
        _ => match error.rejection() {
            Some(rejection) => PairError::Refused {
                failure: refusal(rejection),
                retry_after: error.backoff().or(passes(rejection).then_some(SOME_TIME)),
            },
            None => match error {
                // Refused with a code and a text that do not go together.
                Theirs::RequestFailed(IqError::ServerError { code, .. }) => PairError::Refused {
                    failure: PairingFailure::Refused { code: i32::from(*code) },
                    retry_after: error.backoff(),
                },
                _ => PairError::Unreachable,
            },
        },
    }
}

fn millis(at: DateTime<Utc>) -> UnixMillis {
    UnixMillis(at.timestamp_millis())
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
