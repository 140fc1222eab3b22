//! What becomes of WhatsApp's groups that an account is in.

use entity::{UnixMillis, kind::EventKind};

/// What has become of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupTurn {
    /// Somebody came in.
    Joined,
    /// Somebody left, or was removed.
    Left,
    /// Its name, its picture or its settings are others.
    Updated,
}

/// A group was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange {
    pub turn: GroupTurn,
    /// WhatsApp's id of the notice, where there is one.
    pub id: Option<String>,
    /// The group's address.
    pub chat: String,
    /// Who has done it, where that is known.
    pub author: Option<String>,
    /// Whom it was done to.
    pub participants: Vec<String>,
    /// What it was in WhatsApp's word: `add`, `invite`, `remove`, `subject`.
    pub kind: Option<String>,
    /// The new name, for example.
    pub body: Option<String>,
    pub at: UnixMillis,
}

impl GroupTurn {
    pub(super) const fn event_kind(self) -> EventKind {
        match self {
            Self::Joined => EventKind::GroupJoin,
            Self::Left => EventKind::GroupLeave,
            Self::Updated => EventKind::GroupUpdate,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Updated => "updated",
        }
    }
}

impl GroupChange {
    /// The same notice twice is one event; one without an id is known by what it says.
    pub fn dedupe_key(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("g:{}:{}:{id}", self.turn.word(), self.chat))
    }
}
