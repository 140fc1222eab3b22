//! What a client reports, in our words.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};

use super::{translate, unrecorded::Unrecorded};
use crate::event::{
    Ack, AuthFailure, Call, Ciphertext, Disconnect, Loss, NewMessage, PairingFailure,
};

/// A pairing code as the library issues it.
#[derive(Clone)]
pub(in crate::session) struct QrCode {
    pub(in crate::session) code: String,
    pub(in crate::session) valid_for: Duration,
}

/// The code is a secret of the pairing: never printed.
impl std::fmt::Debug for QrCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QrCode").field("valid_for", &self.valid_for).finish_non_exhaustive()
    }
}

/// Something that the runner of a session has to know.
#[derive(Debug)]
pub(in crate::session) enum Signal {
    Qr(QrCode),
    /// There will be no more codes. `goes_on`: the client stays, as a pairing code is still good.
    QrCodesExhausted {
        goes_on: bool,
    },
    /// A pairing code that was given is not good any more, or asking for one failed.
    PairingCodeFailed(PairingFailure),
    /// WhatsApp asks for the account owner's passkey.
    PasskeyRequested,
    PasskeyFailed,
    Paired,
    /// The server has this many things for us that came while we were away.
    Backlog {
        total: u32,
    },
    /// WhatsApp has let us in.
    LoggedIn,
    Connected,
    /// The server has ended the stream with an error that the library keeps to itself. The socket may
    /// still be there.
    StreamError {
        code: Option<i32>,
    },
    /// The socket is gone, for a reason that may pass.
    Lost(Loss),
    /// It ended for good.
    Ended(Disconnect),
    /// WhatsApp refuses us for good.
    Refused(AuthFailure),
    /// WhatsApp refuses us for a while; the time counts from now.
    Banned {
        code: i32,
        lasts: Duration,
    },
    /// The server refuses something with an `<iq>`: the pairing, where nothing was asked.
    Denied {
        code: i32,
        detail: String,
    },
    /// A message could not be decrypted. It may come again.
    Undecryptable(Ciphertext),
    Ack(Ack),
    /// WhatsApp does not take a message for the moment.
    PutOff {
        code: u16,
        refused: Ack,
    },
    Call(Call),
    /// Messages that did not pass the durability hook: channels, and recovered placeholders.
    Messages(Vec<NewMessage>),
}

/// Receives the library's events. Called inline by its receive pipeline, so it only translates and
/// queues.
///
/// The queue has no bound of its own: the socket is not read while too much of it is unrecorded.
pub(super) struct Signals {
    sender: mpsc::UnboundedSender<Signal>,
    unrecorded: Unrecorded,
}

impl Signals {
    pub(super) fn channel(unrecorded: Unrecorded) -> (Self, mpsc::UnboundedReceiver<Signal>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, unrecorded }, receiver)
    }
}

impl Signal {
    /// How many facts this is: what is true whatever becomes of the connection. The rest is about
    /// the connection.
    pub(in crate::session) fn facts(&self) -> usize {
        match self {
            Self::Undecryptable(_) | Self::Ack(_) | Self::Call(_) => 1,
            Self::Messages(messages) => messages.len(),
            _ => 0,
        }
    }
}

/// The events that mean something to us; the library does not even build the others.
const WANTED: [EventKind; 25] = [
    // For three stanzas: the library says nothing of a login, and of some errors.
    EventKind::RawNode,
    EventKind::PairingQrCode,
    EventKind::PairingQrCodesExhausted,
    EventKind::PairingCodeRefresh,
    EventKind::PairingCodeError,
    EventKind::PairPasskeyRequest,
    EventKind::PairPasskeyError,
    EventKind::PairSuccess,
    EventKind::PairError,
    EventKind::QrScannedWithoutMultidevice,
    EventKind::OfflineSyncPreview,
    EventKind::Connected,
    EventKind::Disconnected,
    EventKind::LoggedOut,
    EventKind::StreamReplaced,
    EventKind::TemporaryBan,
    EventKind::ClientOutdated,
    EventKind::ConnectFailure,
    EventKind::Messages,
    EventKind::UndecryptableMessage,
    EventKind::Receipt,
    EventKind::ServerAck,
    EventKind::IncomingCall,
    EventKind::MissedCall,
    EventKind::CallEndedElsewhere,
];

impl EventHandler for Signals {
    fn handle_event(&self, event: Arc<Event>) {
        let signals = translate::signals(&event);
        // The library acknowledges all of them but the server's own acknowledgements.
        let owed = !matches!(&*event, Event::ServerAck(_));
        self.unrecorded.report(signals.iter().map(Signal::facts).sum(), owed);
        for signal in signals {
            // Nobody listens any more when the session has ended.
            self.sender.send(signal).ok();
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&WANTED)
    }
}
