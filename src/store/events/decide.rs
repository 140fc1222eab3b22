//! Deciding what becomes of each event of a group: pure, over what is there (`present.rs`) and what is to be written
//! (`plan.rs`).

use std::{borrow::Cow, collections::hash_map::Entry, time::Duration};

use entity::{
    UnixMillis,
    id::SessionKey,
    idempotency, session,
    state::{Direction, Origin, SessionStatus},
};

use super::{
    NewEvent, Recorded, SECOND, early::Early, families::Families, messages::Arrived, own::Known,
    plan::Plan, present::Present, reached::Reached,
};
use crate::event::{Ack, Event, NewMessage, status, whose};

/// How much `last_active_at` must have moved to be worth a statement.
const ACTIVITY_GRAIN_MILLIS: i64 = 1_000;

/// What comes no later than this after it happened has happened just now: clocks differ.
const LATE: Duration = Duration::from_mins(1);

/// Whether an event is new, and if not, why.
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once")]
pub(super) enum Decided {
    New {
        dedupe_key: Option<String>,
        /// What must have been before, and is told first.
        sent_before: Option<Ack>,
        /// What was told before it, and is news with it.
        ack_after: Option<Ack>,
    },
    Not(Recorded),
}

pub(super) fn decide(
    event: &NewEvent,
    now: UnixMillis,
    present: &mut Present,
    plan: &mut Plan,
) -> Decided {
    if !present.sessions.contains_key(&event.session_key) {
        return Decided::Not(Recorded::Stale);
    }
    if !is_of_its_key(event, now, present, plan) {
        return Decided::Not(Recorded::KeyReused);
    }
    let is_admitted = present.admits(event);
    let Some(row) = present.sessions.get_mut(&event.session_key) else {
        return Decided::Not(Recorded::Stale);
    };
    if let Some(key) = event.superseding_key()
        && present.recorded.contains_key(&(event.session_key.clone(), key))
    {
        return Decided::Not(Recorded::Duplicate);
    }
    let known = match &event.event {
        Event::Message(message) => {
            present.own.knows(event, message, &mut present.levels, &mut plan.turned)
        }
        _ => Known::No,
    };
    if known == Known::Before {
        return Decided::Not(Recorded::Duplicate);
    }
    let mut dedupe_key = event.dedupe_key();
    if let Some(key) = &dedupe_key {
        match present.recorded.entry((event.session_key.clone(), key.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(now);
            }
            Entry::Occupied(first)
                if known != Known::Turned && !is_so_again(row, event, *first.get()) =>
            {
                return Decided::Not(Recorded::Duplicate);
            }
            // The key is the first one's.
            Entry::Occupied(_) => dedupe_key = None,
        }
    }

    let (mut sent_before, mut ack_after) = (None, None);
    match &event.event {
        Event::Message(message) => {
            let there = present.own.row_of(event, message).cloned();
            if message.direction == Direction::Outbound {
                let key = (event.session_key.clone(), message.wa_id.clone());
                let reached = present.levels.entry(key.clone()).or_default();
                let id = there.as_ref().unwrap_or(&message.id);
                reached.id.get_or_insert_with(|| id.clone());
                reached.chat.get_or_insert_with(|| message.chat.clone());
                let waiting = (&present.families, &mut present.early);
                ack_after = waited(key, reached, waiting, plan);
            }
            // What is there is not written twice, be it under another key (`own::write`).
            if there.is_none() {
                let arrived = Arrived {
                    organization_id: event.organization_id.clone(),
                    session_key: event.session_key.clone(),
                    message: NewMessage::clone(message),
                    own: event.own(row).map(Cow::into_owned),
                };
                present.own.note(event, &arrived);
                plan.messages.push(arrived);
            }
            if learn_from(row, event, message) {
                plan.statuses.insert(event.session_key.clone());
                // What has ended since it is connected was at work beside it.
                plan.became_connected(event, row.connected_at);
            }
        }
        // Meta tells of every message that went out, wherever it was sent, and whoever records it has looked at all
        // that was told (`store::statuses`).
        Event::Ack(ack) if row.origin == Origin::Cloud => {
            plan.acks.insert((event.session_key.clone(), ack.wa_id.clone()), ack.clone());
        }
        Event::Ack(ack) => {
            let key = (event.session_key.clone(), ack.wa_id.clone());
            let Some(reached) = present.levels.get_mut(&key) else {
                // Of a message sent elsewhere that we have not seen; it may come yet, so the key
                // is not used up.
                let origin = row.origin;
                forget(present, event, dedupe_key.as_ref());
                let key = (present.families.head(&key.0).clone(), key.1);
                return Decided::Not(match origin {
                    Origin::External => wait(ack, key, present, plan),
                    Origin::Embedded | Origin::Cloud => Recorded::Ignored,
                });
            };
            let Some(raised) = reached.raise(ack) else {
                return Decided::Not(Recorded::Ignored);
            };
            sent_before = raised.sent_before;
            plan.acks.insert(key.clone(), ack.clone());
            // It waited while its message counted as somebody else's.
            ack_after = waited(key, reached, (&present.families, &mut present.early), plan);
        }
        Event::Ciphertext(_) => {
            *plan.undecryptable.entry(event.session_key.clone()).or_default() += 1;
        }
        event if !status::is_about_status(event) => {}
        _ if event.generation.is_some_and(|generation| generation != row.generation) => {
            return Decided::Not(Recorded::Stale);
        }
        _ => {
            if let Some(mark) = event.latest() {
                // It was true then, and something else has been since.
                if row.observed_at.is_some_and(|observed_at| event.until() < observed_at) {
                    if whose::learn(row, &event.event, event.at) {
                        plan.statuses.insert(event.session_key.clone());
                        if is_connected_with_number(row) {
                            // What has ended since it is connected was at work beside it.
                            plan.became_connected(event, row.connected_at.or(Some(event.until())));
                        }
                    }
                    forget(present, event, dedupe_key.as_ref());
                    return Decided::Not(Recorded::Stale);
                }
                if row.observed_mark.as_deref() == Some(mark) {
                    forget(present, event, dedupe_key.as_ref());
                    return Decided::Not(Recorded::Duplicate);
                }
                if is_admitted {
                    // What is known to the second may be older than what is known better: time goes on.
                    row.observed_at = row.observed_at.max(Some(event.at));
                    row.observed_mark = Some(mark.to_owned());
                }
            }
            if !is_admitted {
                forget(present, event, dedupe_key.as_ref());
                return Decided::Not(Recorded::Full);
            }
            plan.statuses.insert(event.session_key.clone());
        }
    }

    let active_before = row.last_active_at.map_or(i64::MIN, |at| at.0);
    // "Last active" is about when we noticed: an offline message may be days old.
    let at = match row.observed_at {
        _ if !status::is_about_status(&event.event) => now,
        Some(observed_at) if event.posted.is_some() => observed_at.max(event.at),
        _ => event.at,
    };
    let before = row.status;
    status::apply(row, &event.event, at);
    present.room.moved(row, before);
    let becomes = before != row.status && (is_known_by_number(row) || whose::is_given(row));
    if (says_whose_it_is(&event.event) || becomes) && is_connected_with_number(row) {
        let is_late = event.came() > event.until() + LATE;
        plan.became_connected(event, is_late.then(|| event.until()));
    }
    if let Some(care) = &event.care {
        care.write(row);
    }
    if row
        .last_active_at
        .is_some_and(|at| at.0.saturating_sub(active_before) >= ACTIVITY_GRAIN_MILLIS)
    {
        plan.active.insert(event.session_key.clone());
    } else {
        row.last_active_at = (active_before != i64::MIN).then_some(UnixMillis(active_before));
    }
    let count = 1 + i64::from(sent_before.is_some()) + i64::from(ack_after.is_some());
    *plan.counts.entry(event.organization_id.clone()).or_default() += count;
    Decided::New { dedupe_key, sent_before, ack_after }
}

/// Whether what an event's request is called is its own: if it is new, it is from now on.
fn is_of_its_key(
    event: &NewEvent,
    now: UnixMillis,
    present: &mut Present,
    plan: &mut Plan,
) -> bool {
    let Some((key, fingerprint)) = event.request() else { return true };
    if let Some(known) = present.requests.get(&key) {
        return known == fingerprint;
    }
    present.requests.insert(key.clone(), fingerprint.to_owned());
    plan.requests.push(idempotency::Model {
        organization_id: event.organization_id.clone(),
        key,
        fingerprint: fingerprint.to_owned(),
        resource_id: event.session_key.to_string(),
        created_at: now,
    });
    true
}

/// Whether what was said before, recorded `first` at that time, is said of another moment of the same second: something
/// else was, in between, and all of it came as quickly. However long it has waited for the database since.
fn is_so_again(row: &session::Model, event: &NewEvent, first: UnixMillis) -> bool {
    event.is_of_a_second()
        && event.came() <= first + SECOND
        && row.observed_mark.as_deref() != event.latest()
        && row.observed_at.is_some_and(|observed_at| observed_at <= event.until())
}

/// Whether somebody other than the caller says that a session is connected, and with which number. A number that is
/// only known from before, or that was typed in since it was made, may be another account's by now.
fn says_whose_it_is(event: &Event) -> bool {
    matches!(event, Event::Ready(account) if account.phone_number.is_some())
}

/// Whether the number of a session is that which its account has said, of which nothing has made it anybody's since: it
/// need not be said again when a connection that was lost is back.
fn is_known_by_number(row: &session::Model) -> bool {
    let number = row.account_jid.as_deref().and_then(|jid| jid.strip_suffix("@s.whatsapp.net"));
    number.is_some() && number == row.phone_number.as_deref()
}

/// Learns whose a session is from a message of it, if that says so. Whether that was not known.
fn learn_from(row: &mut session::Model, event: &NewEvent, message: &NewMessage) -> bool {
    let said = event.posted.as_ref().filter(|_| event.says_whose());
    said.is_some_and(|posted| whose::learn_from(row, message, posted.to.as_deref()))
}

/// Whether a session is one that others may hand over to.
fn is_connected_with_number(row: &session::Model) -> bool {
    row.status == SessionStatus::SessionConnected && row.phone_number.is_some()
}

/// Uses a key up no more: what it stands for was not recorded.
fn forget(present: &mut Present, event: &NewEvent, dedupe_key: Option<&String>) {
    if let Some(key) = dedupe_key {
        present.recorded.remove(&(event.session_key.clone(), key.clone()));
    }
}

/// The acknowledgement that has waited for a message which is there now, if it is more than is known.
fn waited(
    key: (SessionKey, String),
    reached: &mut Reached,
    (families, early): (&Families, &mut Early),
    plan: &mut Plan,
) -> Option<Ack> {
    let waiting = (families.head(&key.0).clone(), key.1.clone());
    let ack = early.remove(&waiting)?;
    plan.early.remove(&waiting);
    plan.arrived.insert(waiting);
    reached.raise(&ack)?;
    plan.acks.insert(key, ack.clone());
    Some(ack)
}

/// Has an acknowledgement wait for its message.
fn wait(ack: &Ack, key: (SessionKey, String), present: &mut Present, plan: &mut Plan) -> Recorded {
    // That it has not left is the least, then an error, which counts only while nothing better is known.
    if present.early.get(&key).is_some_and(|waiting| waiting.level >= ack.level) {
        return Recorded::Duplicate;
    }
    present.early.insert(key.clone(), ack.clone());
    plan.early.insert(key, ack.clone());
    Recorded::Waiting
}
