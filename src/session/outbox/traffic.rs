//! What of a session's messages is on its way to WhatsApp, and what has to wait for that.
//!
//! - In one conversation, a message is sent when WhatsApp has answered to the one before it, so that
//!   their order is kept whatever becomes of one. Different conversations do not wait for each other.
//! - A conversation whose message was refused for the moment waits until that is sent again.
//! - A session whose messages are refused one after another sends nothing for a while, and then one, to
//!   see. The first that is taken opens it again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use entity::{UnixMillis, id::MessageId, message};

use super::retry::{Refusal, Tries};
use crate::store::messages::PutOff;

/// How many messages may be on their way at a time.
const MOST: usize = 64;

/// How often one looks whether an acknowledgement is overdue.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// After how many looks it is. Counted, not timed: a clock that jumps loses no acknowledgement.
const LOOKS: u8 = 4;

/// A message that WhatsApp has not answered to yet.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) row: message::Model,
    /// Looks since it was written to the socket; none while it is being written.
    looks: Option<u8>,
}

/// The state of one session's sending. Lives as long as the session's run, over its connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// By WhatsApp's id.
    flights: HashMap<String, Flight>,
    /// How often in a row a message was not answered to, by WhatsApp's id.
    unanswered: HashMap<String, u8>,
    /// Conversations that wait for a message of theirs to be sent again.
    held: HashMap<String, UnixMillis>,
    /// Refusals since something was taken.
    refusals: u32,
    /// The one that is being written to the socket.
    current: Option<MessageId>,
    /// Nothing is sent before, and why.
    pause: Option<(UnixMillis, Refusal)>,
}

impl Traffic {
    /// A new connection: what was on its way on the last one is sent again. `put_off`: what is to be sent
    /// later, as the table has it.
    pub(super) fn reopen(&mut self, put_off: Vec<message::Model>) {
        self.flights.clear();
        self.current = None;
        self.held =
            put_off.into_iter().filter_map(|row| Some((row.chat, row.next_attempt_at?))).collect();
        if !self.held.is_empty() {
            // Another process may have been refused.
            self.refusals = self.refusals.max(1);
        }
    }

    /// Until when nothing is sent at all, and why, if so.
    pub(super) fn pause(&self, now: UnixMillis) -> Option<(UnixMillis, Refusal)> {
        self.pause.filter(|(until, _)| now < *until)
    }

    /// How many messages may be sent at the moment.
    pub(super) fn room(&self, now: UnixMillis) -> usize {
        let most = match self.refusals {
            _ if self.pause(now).is_some() => 0,
            0 => MOST,
            _ => 1,
        };
        most.saturating_sub(self.flights.len())
    }

    /// Conversations to which nothing is sent at the moment.
    pub(super) fn busy(&mut self, now: UnixMillis) -> HashSet<String> {
        self.held.retain(|_, until| now < *until);
        let flights = self.flights.values().map(|flight| flight.row.chat.clone());
        flights.chain(self.held.keys().cloned()).collect()
    }

    /// When something changes by itself, if so.
    pub(super) fn next_change(&self, now: UnixMillis) -> Option<UnixMillis> {
        let pause = self.pause(now).map(|(until, _)| until);
        self.held.values().copied().chain(pause).filter(|at| now < *at).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A message is about to be written to the socket.
    pub(super) fn depart(&mut self, row: message::Model) {
        self.current = Some(row.id.clone());
        self.flights.insert(row.wa_id.clone(), Flight { row, looks: None });
    }

    /// Whether a message has begun to be sent, and whoever sends it will say what came of it.
    pub(super) fn is_current(&self, id: &MessageId) -> bool {
        self.current.as_ref() == Some(id)
    }

    /// Nothing is being written any more.
    pub(super) fn departed(&mut self) {
        self.current = None;
    }

    /// It has been written.
    pub(super) fn written(&mut self, wa_id: &str) {
        if let Some(flight) = self.flights.get_mut(wa_id) {
            flight.looks = Some(0);
        }
    }

    /// It is not on its way (any more), and nothing is known of it.
    pub(super) fn forget(&mut self, id: &MessageId) {
        self.flights.retain(|_, flight| flight.row.id != *id);
    }

    /// WhatsApp has it, or has refused it for good.
    pub(super) fn settled(&mut self, wa_id: &str, taken: bool) {
        self.flights.remove(wa_id);
        self.unanswered.remove(wa_id);
        if taken {
            self.refusals = 0;
            self.pause = None;
        }
    }

    /// WhatsApp has refused a message for the moment: which, and when it is sent again, if it is. None
    /// when it is none of those on their way.
    pub(super) fn refused(
        &mut self,
        wa_id: &str,
        why: Refusal,
        now: UnixMillis,
    ) -> Option<(Flight, Option<PutOff>)> {
        let flight = self.flights.remove(wa_id)?;
        self.unanswered.remove(wa_id);
        // Several that were on their way together are one refusal.
        if self.pause(now).is_none() {
            self.refusals += 1;
            self.pause = Some((now + why.wait(self.refusals, rand::random()), why));
        }
        let put_off = Tries::of(&flight.row).refused(why, now, rand::random());
        if let Some(at) = put_off.as_ref().and_then(|put_off| put_off.next_attempt_at) {
            self.held.insert(flight.row.chat.clone(), at);
        }
        Some((flight, put_off))
    }

    /// Looks for acknowledgements that are overdue: of which, and whether it is sent again.
    pub(super) fn look(&mut self) -> Vec<(Flight, Option<PutOff>)> {
        for flight in self.flights.values_mut() {
            flight.looks = flight.looks.map(|looks| looks + 1);
        }
        let overdue =
            self.flights.extract_if(|_, flight| flight.looks.is_some_and(|looks| looks >= LOOKS));
        let mut late = Vec::new();
        for (wa_id, flight) in overdue {
            let times = self.unanswered.entry(wa_id.clone()).or_default();
            *times += 1;
            let put_off = Tries::of(&flight.row).unanswered(*times);
            if put_off.is_none() {
                self.unanswered.remove(&wa_id);
            }
            late.push((flight, put_off));
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use entity::{
        id::{OrganizationId, SessionKey},
        kind::MessageKind,
        state::{Direction, MessageStatus},
    };

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const BUSY: Refusal = Refusal { code: 503, after: None };
    const HOUR: Duration = Duration::from_hours(1);

    fn message(wa_id: &str, chat: &str) -> message::Model {
        message::Model {
            id: MessageId::new(NOW, rand::random()),
            organization_id: OrganizationId::new(NOW, rand::random()),
            session_key: SessionKey::new(NOW, rand::random()),
            dedupe_key: wa_id.to_owned(),
            wa_id: wa_id.to_owned(),
            chat: chat.to_owned(),
            sender: String::new(),
            recipient: None,
            direction: Direction::Outbound,
            kind: MessageKind::Text,
            body: None,
            target_wa_id: None,
            interaction: None,
            raw: None,
            media_path: None,
            push_name: None,
            sent_at: NOW,
            offline: false,
            history: false,
            status: MessageStatus::Sending,
            ack: 0,
            error: None,
            failed_attempts: 0,
            put_off_since: None,
            next_attempt_at: None,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn what_follows_in_a_conversation_waits_for_the_answer() {
        let mut traffic = Traffic::default();
        traffic.depart(message("1", "bob"));
        assert!(traffic.busy(NOW).contains("bob"));
        assert_eq!(traffic.room(NOW), MOST - 1);
        traffic.settled("1", true);
        assert!(traffic.busy(NOW).is_empty());
        assert_eq!(traffic.room(NOW), MOST);
    }

    #[test]
    fn refusals_hold_the_session_up_and_the_first_that_is_taken_opens_it() {
        let mut traffic = Traffic::default();
        for (wa_id, chat) in [("1", "bob"), ("2", "carol")] {
            traffic.depart(message(wa_id, chat));
        }
        assert!(traffic.refused("1", BUSY, NOW).unwrap().1.is_some());
        let (until, _) = traffic.pause(NOW).expect("nothing is sent");
        assert!(traffic.refused("2", BUSY, NOW).is_some());
        assert_eq!(traffic.pause(NOW).unwrap().0, until, "one refusal");
        assert_eq!(traffic.room(NOW), 0);
        assert_eq!(traffic.busy(NOW).len(), 2);
        assert!(traffic.next_change(NOW).is_some());

        // One is sent to see.
        let later = NOW + HOUR;
        assert_eq!((traffic.room(later), traffic.busy(later).len()), (1, 0));
        traffic.depart(message("1", "bob"));
        assert_eq!(traffic.room(later), 0);
        traffic.refused("1", BUSY, later);
        let wait = traffic.pause(later).unwrap().0.since(later);
        assert!(wait >= Duration::from_secs(15), "it grows: {wait:?}");

        let last = later + HOUR;
        traffic.depart(message("1", "bob"));
        traffic.settled("1", true);
        assert_eq!(traffic.room(last), MOST);
        assert!(traffic.refused("9", BUSY, last).is_none(), "not ours");
    }

    #[test]
    fn another_process_s_refusals_are_taken_over() {
        let mut put_off = message("1", "bob");
        put_off.next_attempt_at = Some(NOW + HOUR);
        let mut traffic = Traffic::default();
        traffic.reopen(vec![put_off]);
        assert!(traffic.busy(NOW).contains("bob"));
        assert_eq!(traffic.room(NOW), 1);
    }

    #[test]
    fn an_acknowledgement_is_overdue_after_some_looks_and_given_up_after_some_times() {
        let mut traffic = Traffic::default();
        for times in 1..=3 {
            traffic.depart(message("1", "bob"));
            for _ in 0..2 * LOOKS {
                assert!(traffic.look().is_empty(), "it is being written");
            }
            traffic.written("1");
            for _ in 1..LOOKS {
                assert!(traffic.look().is_empty());
            }
            let (_, put_off) = traffic.look().remove(0);
            assert_eq!(put_off.is_some(), times < 3);
            assert!(traffic.is_empty());
        }
    }
}
