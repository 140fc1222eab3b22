//! The one door: what happened is written here, once, with everything that follows from it.
//!
//! [`record_batch`] turns a group of events into a handful of statements, whatever their number: read
//! what is there (`present.rs`), decide in memory (`decide.rs`), write multi-row (`plan.rs`,
//! `messages.rs`). It runs inside the writer's transaction, so an event, the message it carries, the
//! session's new status and the deliveries it owes to webhook endpoints (`tell.rs`) are there together or
//! not at all. `alone.rs` has whom a group waits for first, `columns.rs` what of a session is written, `early.rs`
//! acknowledgements that come before their message, `families.rs` which sessions are one account's, `own.rs` what was told
//! of as somebody else's and is the account's own, `reached.rs` how far a message has come, `room.rs` whether one that has
//! handed over may come back. `read.rs` finds events again, `unread.rs` those that tell of a message nobody could read.

mod alone;
mod columns;
mod decide;
mod early;
mod families;
mod messages;
mod own;
mod plan;
mod present;
mod reached;
mod read;
mod record;
mod room;
mod tell;
mod unread;

use std::{borrow::Cow, time::Duration};

use entity::{
    UnixMillis,
    id::{EventId, OrganizationId, SessionKey},
    session,
};

pub(super) use self::{messages::row, record::record_batch};
pub use self::{
    read::{Entry, Events, Stretch, Wanted},
    unread::Unread,
};
use super::{secrets, sessions::own_address};
use crate::{
    event::{Care, Event},
    vault::Sealer,
};

/// Something to record about one session.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub organization_id: OrganizationId,
    pub session_key: SessionKey,
    /// The run that saw it. A status from a run that is not the newest any more changes nothing;
    /// messages and acknowledgements are true whoever saw them.
    pub generation: Option<i64>,
    pub event: Event,
    /// When it happened.
    pub at: UnixMillis,
    /// What is to be remembered of the session's troubles with it; none to leave that as it is.
    pub care: Option<Care>,
    /// How it was posted to us; none of what a run of ours has seen.
    pub posted: Option<Posted>,
}

/// How an event was posted to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub mark: Mark,
    /// The last moment at which it may have happened: the end of a second where only that is known, or else
    /// [`NewEvent::at`].
    pub until: UnixMillis,
    /// When it came here.
    pub came: UnixMillis,
    /// To whom it says that somebody else's message is: the account, as its client has its address.
    pub to: Option<String>,
    /// Whether it says whose message it tells of: by itself, or by the address that it is from. Or else it is said of
    /// all that comes so.
    pub says_whose: bool,
    /// What its client calls the request, if that is for one request alone.
    pub request: Option<Request>,
}

/// A request as its client has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is called, as short as a hash.
    pub key: String,
    /// SHA-256 of what it says, in hexadecimal.
    pub fingerprint: String,
}

/// What makes an event that was posted to us recognisable when it is posted again.
///
/// Messages, acknowledgements and calls are called by WhatsApp, whoever tells of them; this is for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing else is ever called so.
    Once(String),
    /// What it says of the session's state, at a time that is known to the second. It may be so again within that
    /// second: it is a repetition for as long as nothing else is said, when the second is over, and when it comes
    /// later than a second after it was first told ([`SECOND`]).
    Second(String),
    /// What it says. It may be so again later: what says the same within some minutes is a repetition.
    Lately(String),
    /// What it says of the session's state: it is a repetition for as long as nothing else is said of it.
    Latest(String),
    /// It came along with what is told of it. It is news only if the message is not known, be it of a session that has
    /// handed over.
    Carried,
}

/// The least time for which an event with [`Mark::Lately`] is recognised, and half of the most.
const LATELY: Duration = Duration::from_mins(10);

/// Within one second the order of arrival is all that is known: what comes last counts. But what happened twice in a
/// second is told twice in about a second, and what a client sends again, as it was not answered, comes later: so what
/// was told before is told of another moment only if it comes within so long of the first time.
const SECOND: Duration = Duration::from_secs(1);

/// What makes recognisable what is posted with [`Mark::Once`].
pub(in crate::store) fn once_key(mark: &str) -> String {
    format!("p:{mark}")
}

impl NewEvent {
    /// What makes a repetition recognisable; none for what is true each time it is said.
    fn dedupe_key(&self) -> Option<String> {
        match &self.event {
            Event::Message(message) => Some(message.dedupe_key()),
            Event::Ciphertext(message) => Some(message.dedupe_key()),
            Event::Ack(ack) => Some(ack.dedupe_key()),
            Event::Call(call) => Some(call.dedupe_key()),
            Event::Group(change) => change.dedupe_key().or_else(|| self.mark_key()),
            _ => self.mark_key(),
        }
    }

    /// The key that follows from how it was posted.
    fn mark_key(&self) -> Option<String> {
        match self.mark()? {
            Mark::Once(mark) | Mark::Second(mark) => Some(once_key(mark)),
            Mark::Lately(mark) => Some(lately(mark, self.at, 0)),
            Mark::Latest(_) | Mark::Carried => None,
        }
    }

    /// What its session remembers of it, so that the same is not recorded twice in a row.
    fn latest(&self) -> Option<&str> {
        match self.mark()? {
            Mark::Once(mark) | Mark::Second(mark) | Mark::Lately(mark) | Mark::Latest(mark) => {
                Some(mark)
            }
            Mark::Carried => None,
        }
    }

    fn mark(&self) -> Option<&Mark> {
        self.posted.as_ref().map(|posted| &posted.mark)
    }

    /// The address of the account that its session, as it is in `row`, belongs to: as it says, or as far as it is known.
    fn own<'a>(&'a self, row: &'a session::Model) -> Option<Cow<'a, str>> {
        let said = self.posted.as_ref().and_then(|posted| posted.to.as_deref());
        // An address that hides the number says less than the number.
        let said = said.filter(|to| !to.ends_with("@lid")).map(Cow::Borrowed);
        said.or_else(|| own_address(row))
    }

    /// Whether it is known for sure whose message it tells of.
    fn says_whose(&self) -> bool {
        self.is_carried() || self.posted.as_ref().is_some_and(|posted| posted.says_whose)
    }

    /// Whether its client says no more of the time than the second.
    fn is_of_a_second(&self) -> bool {
        matches!(self.mark(), Some(Mark::Second(_)))
    }

    /// Whether it came along with what is told of it.
    fn is_carried(&self) -> bool {
        self.mark() == Some(&Mark::Carried)
    }

    /// The last moment at which it may have happened.
    fn until(&self) -> UnixMillis {
        self.posted.as_ref().map_or(self.at, |posted| posted.until.max(self.at))
    }

    /// When it came here.
    fn came(&self) -> UnixMillis {
        self.posted.as_ref().map_or(self.at, |posted| posted.came)
    }

    /// The row of the key that its client has given the request, and what it says in short. A key is for its
    /// session alone: two clients may count alike.
    fn request(&self) -> Option<(String, &str)> {
        let request = self.posted.as_ref()?.request.as_ref()?;
        Some((format!("e:{}:{}", self.session_key, request.key), &request.fingerprint))
    }

    /// The key of another event which makes this one old news: a message that was read already.
    fn superseding_key(&self) -> Option<String> {
        match &self.event {
            Event::Ciphertext(message) => Some(message.message_key()),
            _ => match self.mark()? {
                Mark::Lately(mark) => Some(lately(mark, self.at, 1)),
                Mark::Once(_) | Mark::Second(_) | Mark::Latest(_) | Mark::Carried => None,
            },
        }
    }

    /// Whether there is something in it that must not be stored in clear.
    pub(super) fn has_secret(&self) -> bool {
        match &self.event {
            // What a client elsewhere calls otherwise may be a pairing code.
            Event::Qr { .. } | Event::Unknown { .. } => true,
            Event::Message(message) => message.raw.is_some(),
            _ => false,
        }
    }

    /// Seals what must not be stored in clear.
    pub(super) fn seal(&mut self, sealer: &Sealer) {
        match &mut self.event {
            Event::Qr { qr, .. } => *qr = secrets::seal_qr(sealer, &self.session_key, qr),
            Event::Unknown { data, .. } => secrets::seal_told(sealer, &self.session_key, data),
            Event::Message(message) => {
                let dedupe_key = message.dedupe_key();
                if let Some(raw) = &mut message.raw {
                    *raw = secrets::seal_raw(sealer, &self.session_key, &dedupe_key, raw);
                }
            }
            _ => {}
        }
    }
}

/// The key of what says this, in the stretch of time that `at` is in, or so many before.
fn lately(mark: &str, at: UnixMillis, before: i64) -> String {
    let stretch = i64::try_from(LATELY.as_millis()).unwrap_or(i64::MAX);
    format!("l:{mark}:{}", at.0.div_euclid(stretch) - before)
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    New {
        seq: i64,
        /// All that was recorded of it, in order: itself, and acknowledgements that stand before and after it.
        events: Vec<EventId>,
    },
    /// Recorded before. WhatsApp redelivers whatever it was not told we kept.
    Duplicate,
    /// From a run that has been superseded, or a session that has been deleted. Of what was posted: older than
    /// what is known of the session.
    Stale,
    /// True, but nothing new: an acknowledgement below the level reached, or of no message of ours.
    Ignored,
    /// An acknowledgement of a message that has yet to be told of, as may come from elsewhere: it waits for that.
    Waiting,
    /// Its client has called another request so. Nothing was recorded.
    KeyReused,
    /// The session has handed over, and its organization has no place for it to be at work again. Nothing was recorded.
    Full,
}

impl Recorded {
    /// What was recorded; nothing of what was not new.
    pub fn events(&self) -> &[EventId] {
        match self {
            Self::New { events, .. } => events,
            _ => &[],
        }
    }
}

/// Rows per statement: far below SQLite's 32,766 bound values at twenty columns each.
const CHUNK: usize = 500;
