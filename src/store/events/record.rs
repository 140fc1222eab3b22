//! Deciding what became of each event of a group.

use std::collections::{BTreeSet, HashMap};

use entity::{
    UnixMillis, event,
    id::{EndpointId, EventId, OrganizationId, SessionKey},
    organization, session,
    state::{Direction, Origin, SessionStatus},
};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel};

use super::{
    CHUNK, Mark, NewEvent, Recorded,
    plan::{Allocated, Plan},
    present::Present,
    tell::to_tell,
};
use crate::{
    event::{Ack, AckLevel, Event, NewMessage, payload, status},
    store::{
        handover,
        webhooks::{self, Known},
    },
};

/// How much `last_active_at` must have moved to be worth a statement.
const ACTIVITY_GRAIN_MILLIS: i64 = 1_000;

/// Writes a group of events, in order, and says what became of each, and which webhook endpoints are owed
/// some.
pub(in crate::store) async fn record_batch(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    events: &[&NewEvent],
) -> Result<(Vec<Recorded>, BTreeSet<EndpointId>), DbErr> {
    let mut present = Present::read(txn, events).await?;
    let mut plan = Plan::default();

    let decided: Vec<Decided> =
        events.iter().map(|event| decide(event, now, &mut present, &mut plan)).collect();

    let Allocated { mut next_seq, mut versions } = plan.allocate(txn).await?;
    let mut told = Vec::new();
    let mut rows = Vec::new();
    let mut answers = Vec::with_capacity(events.len());
    for (event, decided) in events.iter().zip(decided) {
        answers.push(match decided {
            Decided::Not(answer) => answer,
            Decided::New { dedupe_key, sent_before } => {
                let mut next_seq = || {
                    next_seq.get_mut(&event.organization_id).map_or(0, |next| {
                        let seq = *next;
                        *next += 1;
                        seq
                    })
                };
                let session = present.sessions.get(&event.session_key);
                let own = session.and_then(|session| session.account_jid.as_deref());
                let channel = session.map_or(Origin::Embedded, |session| session.origin);
                let mut write = |event: &NewEvent, dedupe_key: Option<String>, seq| {
                    let id = EventId::new(now, rand::random());
                    let known =
                        payload::Known { own, channel, message: present.acknowledged(event) };
                    let data = payload::data(&event.event, known, event.care.as_ref());
                    let row = event::Model {
                        dedupe_key: dedupe_key.unwrap_or_else(|| id.to_string()),
                        id,
                        organization_id: event.organization_id.clone(),
                        seq,
                        session_key: event.session_key.clone(),
                        kind: event.event.kind(),
                        payload: data.to_string(),
                        occurred_at: event.at,
                        recorded_at: now,
                    };
                    if versions.get(&event.organization_id).is_some_and(|version| *version != 0) {
                        told.push(to_tell(event, &row, &data, &present));
                    }
                    rows.push(row.into_active_model());
                };
                if let Some(sent) = sent_before {
                    let sent = NewEvent { event: Event::Ack(sent), ..NewEvent::clone(event) };
                    write(&sent, None, next_seq());
                }
                let seq = next_seq();
                write(event, dedupe_key, seq);
                Recorded::New { seq }
            }
        });
    }
    insert_all(txn, rows).await?;
    let ready = std::mem::take(&mut plan.ready);
    plan.write(txn, now, &present).await?;
    let mut touched = BTreeSet::new();
    if !ready.is_empty() {
        // Boxed: rare, and large beside what every event needs.
        touched = Box::pin(hand_over(txn, known, now, &present, ready, &mut versions)).await?;
    }
    touched.extend(webhooks::owe(txn, known, now, &versions, told).await?);
    Ok((answers, touched))
}

/// Has idle sessions hand over to those that have become connected, and are still. What endpoints choose may
/// change with it, and counts for these events.
async fn hand_over(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    present: &Present,
    ready: BTreeSet<SessionKey>,
    versions: &mut HashMap<OrganizationId, i64>,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let mut touched = BTreeSet::new();
    let rows = ready.iter().filter_map(|key| present.sessions.get(key));
    for row in rows.filter(|row| row.status == SessionStatus::SessionConnected) {
        let Some(owed) = handover::at_ready(txn, known, now, row).await? else { continue };
        let organization = organization::Entity::find_by_id(row.organization_id.clone());
        if let Some(organization) = organization.one(txn).await? {
            versions.insert(organization.id, organization.webhook_version);
        }
        touched.extend(owed);
    }
    Ok(touched)
}

/// Whether an event is new, and if not, why.
enum Decided {
    New {
        dedupe_key: Option<String>,
        /// What must have been before, and is told first.
        sent_before: Option<Ack>,
    },
    Not(Recorded),
}

fn decide(event: &NewEvent, now: UnixMillis, present: &mut Present, plan: &mut Plan) -> Decided {
    let Some(row) = present.sessions.get_mut(&event.session_key) else {
        return Decided::Not(Recorded::Stale);
    };
    if let Some(key) = event.superseding_key()
        && present.recorded.contains(&(event.session_key.clone(), key))
    {
        return Decided::Not(Recorded::Duplicate);
    }
    let dedupe_key = event.dedupe_key();
    if let Some(key) = &dedupe_key
        && !present.recorded.insert((event.session_key.clone(), key.clone()))
    {
        return Decided::Not(Recorded::Duplicate);
    }

    let mut sent_before = None;
    match &event.event {
        Event::Message(message) => {
            if message.direction == Direction::Outbound {
                let key = (event.session_key.clone(), message.wa_id.clone());
                let reached = present.levels.entry(key).or_default();
                reached.id.get_or_insert_with(|| message.id.clone());
                reached.chat.get_or_insert_with(|| message.chat.clone());
            }
            plan.messages.push((
                event.organization_id.clone(),
                event.session_key.clone(),
                NewMessage::clone(message),
            ));
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
                present.recorded.remove(&(event.session_key.clone(), ack.dedupe_key()));
                return Decided::Not(Recorded::Ignored);
            };
            if !advances(reached.level, ack.level) {
                return Decided::Not(Recorded::Ignored);
            }
            reached.level = ack.level.level();
            // Whoever has a message has it from the server, whose word for that was lost, or comes late.
            if reached.unsent && reached.level > AckLevel::Sent.level() {
                sent_before = Some(Ack { level: AckLevel::Sent, ..ack.clone() });
            }
            reached.unsent &= reached.level <= 0;
            plan.acks.insert(key, ack.clone());
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
                if row.observed_at.is_some_and(|observed_at| event.at < observed_at) {
                    if status::learn(row, &event.event) {
                        plan.statuses.insert(event.session_key.clone());
                        if is_connected_with_number(row) {
                            plan.became_connected(event);
                        }
                    }
                    forget(present, event, dedupe_key.as_ref());
                    return Decided::Not(Recorded::Stale);
                }
                if matches!(event.posted, Some(Mark::Latest(_)))
                    && row.observed_mark.as_deref() == Some(mark)
                {
                    return Decided::Not(Recorded::Duplicate);
                }
                row.observed_at = Some(event.at);
                row.observed_mark = Some(mark.to_owned());
            }
            plan.statuses.insert(event.session_key.clone());
        }
    }

    let active_before = row.last_active_at.map_or(i64::MIN, |at| at.0);
    // "Last active" is about when we noticed: an offline message may be days old.
    let at = if status::is_about_status(&event.event) { event.at } else { now };
    let before = is_connected_with_number(row);
    status::apply(row, &event.event, at);
    // A client elsewhere has more than one word for it.
    let has_become_so = !before || matches!(event.event, Event::Ready(_));
    if has_become_so && is_connected_with_number(row) && status::is_about_status(&event.event) {
        plan.became_connected(event);
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
    let count = 1 + i64::from(sent_before.is_some());
    *plan.counts.entry(event.organization_id.clone()).or_default() += count;
    Decided::New { dedupe_key, sent_before }
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

/// A level never goes down, and an error is one only while nothing better is known.
fn advances(reached: i16, level: AckLevel) -> bool {
    match level {
        AckLevel::Error => reached == 0,
        level => level.level() > reached,
    }
}

async fn insert_all(
    txn: &DatabaseTransaction,
    mut rows: Vec<event::ActiveModel>,
) -> Result<(), DbErr> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(CHUNK));
        event::Entity::insert_many(rows).exec_without_returning(txn).await?;
        rows = rest;
    }
    Ok(())
}
