//! Writing a group of events, in order: what became of each (`decide.rs`), and what follows from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{
    UnixMillis, event,
    id::{EndpointId, EventId, OrganizationId, SessionKey},
    organization,
    state::{Origin, SessionStatus},
};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel};

use super::{
    CHUNK, NewEvent, Recorded,
    alone::one_at_a_time,
    decide::{Decided, decide},
    plan::{Allocated, Plan},
    present::Present,
    tell::to_tell,
};
use crate::{
    event::{Event, payload},
    store::{
        handover,
        webhooks::{self, Known},
    },
};

/// Writes a group of events, in order, and says what became of each, and which webhook endpoints are owed
/// some.
pub(in crate::store) async fn record_batch(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    events: &[&NewEvent],
) -> Result<(Vec<Recorded>, BTreeSet<EndpointId>), DbErr> {
    one_at_a_time(txn, events).await?;
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
            Decided::New { dedupe_key, sent_before, ack_after } => {
                let mut next_seq = || {
                    next_seq.get_mut(&event.organization_id).map_or(0, |next| {
                        let seq = *next;
                        *next += 1;
                        seq
                    })
                };
                let mut events = Vec::with_capacity(1);
                let session = present.sessions.get(&event.session_key);
                let own = session.and_then(|session| event.own(session));
                let channel = session.map_or(Origin::Embedded, |session| session.origin);
                let mut write = |event: &NewEvent, dedupe_key: Option<String>, seq| {
                    let id = EventId::new(now, rand::random());
                    events.push(id.clone());
                    let known = payload::Known {
                        own: own.as_deref(),
                        channel,
                        message: present.message_of(event),
                    };
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
                if let Some(ack) = ack_after {
                    let at = ack.at;
                    let late = NewEvent { event: Event::Ack(ack), at, ..NewEvent::clone(event) };
                    write(&late, None, next_seq());
                }
                Recorded::New { seq, events }
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
    ready: BTreeMap<SessionKey, Option<UnixMillis>>,
    versions: &mut HashMap<OrganizationId, i64>,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let mut touched = BTreeSet::new();
    let rows = ready.into_iter().filter_map(|(key, by)| Some((present.sessions.get(&key)?, by)));
    for (row, by) in rows.filter(|(row, _)| row.status == SessionStatus::SessionConnected) {
        let Some(owed) = handover::at_ready(txn, known, now, row, by).await? else { continue };
        let organization = organization::Entity::find_by_id(row.organization_id.clone());
        if let Some(organization) = organization.one(txn).await? {
            versions.insert(organization.id, organization.webhook_version);
        }
        touched.extend(owed);
    }
    Ok(touched)
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
