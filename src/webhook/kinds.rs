//! The types of events that endpoints can be told of.
//!
//! Every one of them happens: there is no type here that nothing emits. A name is dotted, as Standard
//! Webhooks wants it; streams use the shorter word of [`EventKind`], which filters take as well.

use entity::kind::EventKind;

use crate::event::{AckLevel, Event};

macro_rules! types {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal,)+) => {
        /// A type of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType {
            $(#[doc = $doc] $variant,)+
        }

        impl EventType {
            /// All types, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The dotted name: part of the contract.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it is, in one sentence.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii_start(),)+
                }
            }

            /// What a dotted name stands for.
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

types! {
    /// A message to the account.
    MessageReceived = "message.received",
    /// A message from the account: sent here, on the phone or on another linked device.
    MessageCreated = "message.created",
    /// WhatsApp's server has a message that was sent here. Told once for each.
    MessageSent = "message.sent",
    /// A message of ours came further than that, or failed.
    MessageAck = "message.ack",
    /// A voice or video call.
    Call = "call",
    /// Somebody came into a group.
    GroupJoined = "group.joined",
    /// Somebody left a group, or was removed from it.
    GroupLeft = "group.left",
    /// A group has another name, picture or other settings.
    GroupUpdated = "group.updated",
    /// A client that runs elsewhere, or Meta, has told something that has no name here.
    Unknown = "unknown",
    /// A pairing QR code.
    SessionQr = "session.qr",
    /// The phone accepted the pairing.
    SessionAuthenticated = "session.authenticated",
    /// Progress before it is ready.
    SessionLoadingScreen = "session.loading_screen",
    /// Connected and logged in.
    SessionReady = "session.ready",
    /// The connection changed without ending for good.
    SessionChangeState = "session.change_state",
    /// An end that will not mend by itself.
    SessionDisconnected = "session.disconnected",
    /// WhatsApp refused the pairing, the credentials or the client.
    SessionAuthFailure = "session.auth_failure",
    /// A pairing code was given, to be typed on the phone.
    SessionPairingCode = "session.pairing_code",
    /// A try to pair did not come about.
    SessionPairingFailed = "session.pairing_failed",
    /// WhatsApp asks for a passkey.
    SessionPasskeyRequested = "session.passkey_requested",
    /// The session belongs to another account than before.
    SessionAccountChanged = "session.account_changed",
    /// A session was made.
    SessionCreated = "session.created",
    /// A session was deleted, with all that was kept of it.
    SessionDeleted = "session.deleted",
    /// Another session of the account has taken over, or another daemon runs the session from now on.
    SessionMigrated = "session.migrated",
    /// Of a number at Meta's that was told of something every day, nothing was told for a while.
    MetaAccountSilent = "meta.account.silent",
    /// Of a number at Meta's that had fallen silent, something is told again.
    MetaAccountRecovered = "meta.account.recovered",
    /// An endpoint fails again and again.
    EndpointFailing = "webhook.endpoint.failing",
    /// An endpoint that was failing answers again.
    EndpointRecovered = "webhook.endpoint.recovered",
    /// An endpoint was disabled: it is owed nothing any more.
    EndpointDisabled = "webhook.endpoint.disabled",
    /// Deliveries to an endpoint were given up.
    DeliveryExhausted = "webhook.delivery.exhausted",
}

impl EventType {
    /// What endpoints are told of endpoints. It holds an address, which is sealed.
    pub const OF_ENDPOINTS: [Self; 4] = [
        Self::EndpointFailing,
        Self::EndpointRecovered,
        Self::EndpointDisabled,
        Self::DeliveryExhausted,
    ];

    /// The type under which endpoints are told of an event.
    pub fn of(event: &Event) -> Self {
        let sent = matches!(event, Event::Ack(ack) if ack.level == AckLevel::Sent);
        Self::of_kind(event.kind(), sent)
    }

    /// The same of one that was recorded; `payload` is its `data`.
    pub fn of_recorded(kind: EventKind, payload: &str) -> Self {
        let level = || {
            let data: serde_json::Value = serde_json::from_str(payload).ok()?;
            data.get("ack")?.as_i64()
        };
        let sent = i64::from(AckLevel::Sent.level());
        Self::of_kind(kind, kind == EventKind::MessageAck && level() == Some(sent))
    }

    const fn of_kind(kind: EventKind, sent: bool) -> Self {
        if sent {
            Self::MessageSent
        } else {
            match kind {
                EventKind::Qr => Self::SessionQr,
                EventKind::Authenticated => Self::SessionAuthenticated,
                EventKind::LoadingScreen => Self::SessionLoadingScreen,
                EventKind::Ready => Self::SessionReady,
                EventKind::ChangeState => Self::SessionChangeState,
                EventKind::Disconnected => Self::SessionDisconnected,
                EventKind::AuthFailure => Self::SessionAuthFailure,
                EventKind::PairingCode => Self::SessionPairingCode,
                EventKind::PairingFailed => Self::SessionPairingFailed,
                EventKind::PasskeyRequested => Self::SessionPasskeyRequested,
                EventKind::AccountChanged => Self::SessionAccountChanged,
                EventKind::Message | EventKind::MessageCiphertext => Self::MessageReceived,
                EventKind::MessageCreate => Self::MessageCreated,
                EventKind::MessageAck => Self::MessageAck,
                EventKind::Call => Self::Call,
                EventKind::GroupJoin => Self::GroupJoined,
                EventKind::GroupLeave => Self::GroupLeft,
                EventKind::GroupUpdate => Self::GroupUpdated,
                EventKind::Unknown => Self::Unknown,
            }
        }
    }

    /// What streams call it: the types that such a word stands for in a filter.
    pub fn of_stream_word(word: &str) -> &'static [Self] {
        match word {
            "qr" => &[Self::SessionQr],
            "authenticated" => &[Self::SessionAuthenticated],
            "loading_screen" => &[Self::SessionLoadingScreen],
            "ready" => &[Self::SessionReady],
            "change_state" => &[Self::SessionChangeState],
            "disconnected" => &[Self::SessionDisconnected],
            "auth_failure" => &[Self::SessionAuthFailure],
            "pairing_code" => &[Self::SessionPairingCode],
            "pairing_failed" => &[Self::SessionPairingFailed],
            "passkey_requested" => &[Self::SessionPasskeyRequested],
            "account_changed" => &[Self::SessionAccountChanged],
            "message" => &[Self::MessageReceived],
            "message_create" => &[Self::MessageCreated],
            "group_join" => &[Self::GroupJoined],
            "group_leave" => &[Self::GroupLeft],
            "group_update" => &[Self::GroupUpdated],
            "message_ack" => &[Self::MessageSent, Self::MessageAck],
            _ => &[],
        }
    }

    /// Whether it announces a message, so that the flat format has a place for all of it.
    pub const fn is_message(self) -> bool {
        matches!(self, Self::MessageReceived | Self::MessageCreated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_are_what_standard_webhooks_allows() {
        for kind in EventType::ALL {
            assert_eq!(EventType::of_name(kind.name()), Some(*kind));
            let groups = kind.name().split('.');
            for group in groups {
                assert!(!group.is_empty());
                assert!(group.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{group}");
            }
        }
    }
}
