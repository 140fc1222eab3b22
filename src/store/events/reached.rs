//! How far an outbound message has come, and what makes it come further.

use entity::id::MessageId;

use crate::event::{Ack, AckLevel};

/// How far an outbound message has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// The message's own id.
    pub(super) id: Option<MessageId>,
    /// Its conversation, as the message has it.
    pub(super) chat: Option<String>,
    pub(super) level: i16,
    /// It was sent here, and nobody was told yet that WhatsApp has it.
    pub(super) unsent: bool,
}

impl Reached {
    /// Adds what another session has of this message; `own` is the one that was told. An error is one only
    /// while nothing better is known.
    pub(super) fn join(&mut self, other: &Self, own: bool) {
        self.level = match (self.level, other.level) {
            (-1, level @ 1..) | (level @ 1.., -1) => level,
            (-1, _) | (_, -1) => -1,
            (one, another) => one.max(another),
        };
        self.unsent &= other.unsent;
        if own {
            self.id.clone_from(&other.id);
            self.chat.clone_from(&other.chat);
        }
    }

    /// Raises the level that is reached; none if it is not raised.
    pub(super) fn raise(&mut self, ack: &Ack) -> Option<Raised> {
        if !advances(self.level, ack.level) {
            return None;
        }
        self.level = ack.level.level();
        // Whoever has a message has it from the server, whose word for that was lost, or comes late.
        let sent_before = (self.unsent && self.level > AckLevel::Sent.level())
            .then(|| Ack { level: AckLevel::Sent, ..ack.clone() });
        self.unsent &= self.level <= 0;
        Some(Raised { sent_before })
    }
}

/// A level that was raised.
pub(super) struct Raised {
    /// What must have been before, if that was not told.
    pub(super) sent_before: Option<Ack>,
}

/// A level never goes down, and an error is one only while nothing better is known.
fn advances(reached: i16, level: AckLevel) -> bool {
    match level {
        AckLevel::Pending => false,
        AckLevel::Error => reached == 0,
        level => level.level() > reached,
    }
}
