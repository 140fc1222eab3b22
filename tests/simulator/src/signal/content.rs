//! From plaintext to what a message means.

use std::fmt;

use serde::{Deserialize, Serialize};
use waproto::whatsapp::{self as wa, message::protocol_message::Type as ProtocolType};

use super::SignalError;

/// Padding is one to sixteen bytes, each the length of all of it.
const PADDING: std::ops::RangeInclusive<usize> = 1..=16;

/// What a message is, as far as tests and scripts tell messages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Plain or extended text.
    Text,
    /// An emoji on another message; empty text takes it back.
    Reaction,
    /// A new text for an earlier message.
    Edit,
    /// An earlier message deleted for everyone.
    Revoke,
    /// Image, video, audio, document or sticker.
    Media,
    /// A poll or a vote.
    Poll,
    /// The keys of app state, or the request for them: between an account's own devices.
    AppStateKeys,
    /// Another message between an account's own devices.
    Peer,
    /// Anything else.
    Other,
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A message's meaning in three fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) kind: MessageKind,
    pub(crate) text: Option<String>,
    /// The message this one reacts to, edits or revokes.
    pub(crate) target: Option<String>,
}

/// Says what a message means.
pub(crate) fn meaning(message: &wa::Message) -> Meaning {
    let of = |kind, text: Option<&String>, target: Option<&String>| Meaning {
        kind,
        text: text.cloned(),
        target: target.cloned(),
    };
    if let Some(protocol) = message.protocol_message.as_option() {
        let target = protocol.key.as_option().and_then(|key| key.id.as_ref());
        let kind = protocol.r#type;
        return match kind {
            Some(ProtocolType::Revoke) => of(MessageKind::Revoke, None, target),
            Some(ProtocolType::MessageEdit) => {
                let edited = protocol.edited_message.as_option().and_then(text);
                Meaning { text: edited, ..of(MessageKind::Edit, None, target) }
            }
            Some(ProtocolType::AppStateSyncKeyShare | ProtocolType::AppStateSyncKeyRequest) => {
                of(MessageKind::AppStateKeys, None, None)
            }
            _ => of(MessageKind::Peer, None, None),
        };
    }
    if let Some(reaction) = message.reaction_message.as_option() {
        let target = reaction.key.as_option().and_then(|key| key.id.as_ref());
        return of(MessageKind::Reaction, reaction.text.as_ref(), target);
    }
    if let Some(text) = text(message) {
        return of(MessageKind::Text, Some(&text), None);
    }
    if message.image_message.is_set()
        || message.video_message.is_set()
        || message.audio_message.is_set()
        || message.document_message.is_set()
        || message.sticker_message.is_set()
    {
        let caption = message.image_message.as_option().and_then(|image| image.caption.as_ref());
        return of(MessageKind::Media, caption, None);
    }
    if message.poll_creation_message_v3.is_set()
        || message.poll_creation_message.is_set()
        || message.poll_update_message.is_set()
    {
        return of(MessageKind::Poll, None, None);
    }
    of(MessageKind::Other, None, None)
}

fn text(message: &wa::Message) -> Option<String> {
    let extended = message.extended_text_message.as_option().and_then(|text| text.text.clone());
    message.conversation.clone().or(extended)
}

/// Takes the padding off.
pub(crate) fn unpad(plaintext: &[u8]) -> Result<&[u8], SignalError> {
    let padding = usize::from(*plaintext.last().ok_or(SignalError::Padding)?);
    if !PADDING.contains(&padding) {
        return Err(SignalError::Padding);
    }
    plaintext.len().checked_sub(padding).map(|end| &plaintext[..end]).ok_or(SignalError::Padding)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<wa::Message, SignalError> {
    waproto::codec::message_decode(bytes).map_err(|error| SignalError::Content(error.to_string()))
}

/// The message as its recipient shows it, and whether it came wrapped as an own device's copy.
pub(crate) fn unwrap_copy(message: wa::Message) -> (wa::Message, Option<String>) {
    if !message.device_sent_message.is_set() {
        return (message, None);
    }
    let copy = message.device_sent_message.into_option().unwrap_or_default();
    let chat = copy.destination_jid.clone().unwrap_or_default();
    (copy.message.into_option().unwrap_or_default(), Some(chat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_comes_off_only_if_it_is_padding() {
        assert_eq!(unpad(&[1, 2, 3, 2, 2]).unwrap(), &[1, 2, 3]);
        assert!(unpad(&[]).is_err());
        assert!(unpad(&[1, 0]).is_err());
        assert!(unpad(&[1, 17]).is_err());
        assert!(unpad(&[9, 9]).is_err());
    }

    #[test]
    fn a_text_is_a_text_in_both_spellings() {
        let plain = wa::Message { conversation: Some("a".to_owned()), ..Default::default() };
        assert_eq!(meaning(&plain).text.as_deref(), Some("a"));
        assert_eq!(meaning(&plain).kind, MessageKind::Text);
        assert_eq!(meaning(&wa::Message::default()).kind, MessageKind::Other);
    }
}
