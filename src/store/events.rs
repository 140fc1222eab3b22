//! The one door: what happened is written here, once, with everything that follows from it.
//!
//! [`record_batch`] turns a group of events into a handful of statements, whatever their number: read
//! what is there, decide in memory, write multi-row. It runs inside the writer's transaction, so an
//! event, the message it carries, the session's new status and (later) the deliveries it owes are
//! there together or not at all.

use std::collections::{HashMap, HashSet};

use entity::{
    UnixMillis, event,
    id::{EventId, OrganizationId, SessionKey},
    kind::EventKind,
    message, organization, session,
    state::Direction,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{Error, Patience, Store, secrets};
use crate::{
    event::{Ack, AckLevel, Care, Event, NewMessage, payload, status},
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
}

impl NewEvent {
    /// What makes a repetition recognisable; none for what is true each time it is said.
    fn dedupe_key(&self) -> Option<String> {
        match &self.event {
            Event::Message(message) => Some(message.dedupe_key()),
            Event::Ciphertext(message) => Some(message.dedupe_key()),
            Event::Ack(ack) => Some(ack.dedupe_key()),
            Event::Call(call) => Some(call.dedupe_key()),
            _ => None,
        }
    }

    /// The key of another event which makes this one old news: a message that was read already.
    fn superseding_key(&self) -> Option<String> {
        match &self.event {
            Event::Ciphertext(message) => Some(message.message_key()),
            _ => None,
        }
    }

    /// Whether there is something in it that must not be stored in clear.
    pub(super) fn has_secret(&self) -> bool {
        match &self.event {
            Event::Qr { .. } => true,
            Event::Message(message) => message.raw.is_some(),
            _ => false,
        }
    }

    /// Seals what must not be stored in clear.
    pub(super) fn seal(&mut self, sealer: &Sealer) {
        match &mut self.event {
            Event::Qr { qr, .. } => *qr = secrets::seal_qr(sealer, &self.session_key, qr),
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

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    New {
        seq: i64,
    },
    /// Recorded before. WhatsApp redelivers whatever it was not told we kept.
    Duplicate,
    /// From a run that has been superseded, or a session that has been deleted.
    Stale,
    /// True, but nothing new: an acknowledgement below the level reached, or of no message of ours.
    Ignored,
}

/// How much `last_active_at` must have moved to be worth a statement.
const ACTIVITY_GRAIN_MILLIS: i64 = 1_000;

/// Rows per statement: far below SQLite's 32,766 bound values at twenty columns each.
const CHUNK: usize = 500;

/// Writes a group of events, in order, and says what became of each.
pub(super) async fn record_batch(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    events: &[&NewEvent],
) -> Result<Vec<Recorded>, DbErr> {
    let mut present = Present::read(txn, events).await?;
    let mut plan = Plan::default();

    let decided: Vec<Decided> =
        events.iter().map(|event| decide(event, now, &mut present, &mut plan)).collect();

    let first_seqs = plan.allocate(txn).await?;
    let mut next_seq = first_seqs;
    let mut rows = Vec::new();
    let mut answers = Vec::with_capacity(events.len());
    for (event, decided) in events.iter().zip(decided) {
        answers.push(match decided {
            Decided::Not(answer) => answer,
            Decided::New { dedupe_key } => {
                let seq = next_seq.get_mut(&event.organization_id).map_or(0, |next| {
                    let seq = *next;
                    *next += 1;
                    seq
                });
                let id = EventId::new(now, rand::random());
                let session = present.sessions.get(&event.session_key);
                let own = session.and_then(|session| session.account_jid.as_deref());
                let row = event::Model {
                    dedupe_key: dedupe_key.unwrap_or_else(|| id.to_string()),
                    id,
                    organization_id: event.organization_id.clone(),
                    seq,
                    session_key: event.session_key.clone(),
                    kind: event.event.kind(),
                    payload: payload::data(&event.event, own, event.care.as_ref()).to_string(),
                    occurred_at: event.at,
                    recorded_at: now,
                };
                rows.push(row.into_active_model());
                Recorded::New { seq }
            }
        });
    }
    insert_all(txn, rows).await?;
    plan.write(txn, now, &present).await?;
    Ok(answers)
}

/// What the database already holds of what a group of events is about.
struct Present {
    sessions: HashMap<SessionKey, session::Model>,
    recorded: HashSet<(SessionKey, String)>,
    /// The level that outbound messages have reached, by WhatsApp's id.
    levels: HashMap<(SessionKey, String), i16>,
}

impl Present {
    async fn read(txn: &DatabaseTransaction, events: &[&NewEvent]) -> Result<Self, DbErr> {
        let keys: HashSet<_> = events.iter().map(|event| event.session_key.clone()).collect();
        let sessions = session::Entity::find()
            .filter(session::COLUMN.id.is_in(keys.iter().cloned()))
            .all(txn)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();

        let dedupe_keys: Vec<_> = events
            .iter()
            .flat_map(|event| [event.dedupe_key(), event.superseding_key()])
            .flatten()
            .collect();
        let mut recorded = HashSet::new();
        for chunk in dedupe_keys.chunks(CHUNK) {
            let found: Vec<(SessionKey, String)> = event::Entity::find()
                .select_only()
                .column(event::Column::SessionKey)
                .column(event::Column::DedupeKey)
                .filter(event::COLUMN.session_key.is_in(keys.iter().cloned()))
                .filter(event::COLUMN.dedupe_key.is_in(chunk.iter().cloned()))
                .into_tuple()
                .all(txn)
                .await?;
            recorded.extend(found);
        }

        let acked: Vec<_> = events.iter().filter_map(|event| ack(event)).collect();
        let mut levels = HashMap::new();
        for chunk in acked.chunks(CHUNK) {
            let found: Vec<(SessionKey, String, i16)> = message::Entity::find()
                .select_only()
                .column(message::Column::SessionKey)
                .column(message::Column::WaId)
                .column(message::Column::Ack)
                .filter(message::COLUMN.session_key.is_in(keys.iter().cloned()))
                .filter(message::COLUMN.wa_id.is_in(chunk.iter().map(|ack| ack.wa_id.clone())))
                .filter(message::COLUMN.direction.eq(Direction::Outbound))
                .into_tuple()
                .all(txn)
                .await?;
            levels.extend(found.into_iter().map(|(session, wa_id, ack)| ((session, wa_id), ack)));
        }
        Ok(Self { sessions, recorded, levels })
    }
}

fn ack<'a>(event: &'a &NewEvent) -> Option<&'a Ack> {
    match &event.event {
        Event::Ack(ack) => Some(ack),
        _ => None,
    }
}

/// Whether an event is new, and if not, why.
enum Decided {
    New { dedupe_key: Option<String> },
    Not(Recorded),
}

/// What is to be written, collected while deciding.
#[derive(Default)]
struct Plan {
    /// New events per organization.
    counts: HashMap<OrganizationId, i64>,
    messages: Vec<(OrganizationId, SessionKey, NewMessage)>,
    /// Highest new level per message.
    acks: HashMap<(SessionKey, String), Ack>,
    /// Sessions whose status columns changed.
    statuses: HashSet<SessionKey>,
    /// Sessions of which only the last activity moved.
    active: HashSet<SessionKey>,
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

    match &event.event {
        Event::Message(message) => {
            if message.direction == Direction::Outbound {
                let key = (event.session_key.clone(), message.wa_id.clone());
                present.levels.entry(key).or_insert(0);
            }
            plan.messages.push((
                event.organization_id.clone(),
                event.session_key.clone(),
                NewMessage::clone(message),
            ));
        }
        Event::Ack(ack) => {
            let key = (event.session_key.clone(), ack.wa_id.clone());
            let Some(reached) = present.levels.get_mut(&key) else {
                // Of a message sent elsewhere that we have not seen; it may come yet, so the key
                // is not used up.
                present.recorded.remove(&(event.session_key.clone(), ack.dedupe_key()));
                return Decided::Not(Recorded::Ignored);
            };
            if !advances(*reached, ack.level) {
                return Decided::Not(Recorded::Ignored);
            }
            *reached = ack.level.level();
            plan.acks.insert(key, ack.clone());
        }
        Event::Ciphertext(_) | Event::Call(_) => {}
        _ if event.generation.is_some_and(|generation| generation != row.generation) => {
            return Decided::Not(Recorded::Stale);
        }
        _ => {
            plan.statuses.insert(event.session_key.clone());
        }
    }

    let active_before = row.last_active_at.map_or(i64::MIN, |at| at.0);
    // "Last active" is about when we noticed: an offline message may be days old.
    let at = if event.dedupe_key().is_some() { now } else { event.at };
    status::apply(row, &event.event, at);
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
    *plan.counts.entry(event.organization_id.clone()).or_default() += 1;
    Decided::New { dedupe_key }
}

/// A level never goes down, and an error is one only while nothing better is known.
fn advances(reached: i16, level: AckLevel) -> bool {
    match level {
        AckLevel::Error => reached == 0,
        level => level.level() > reached,
    }
}

impl Plan {
    /// Takes sequence numbers for the new events and says where each organization's begin.
    ///
    /// The organization's row stays locked until the transaction ends, so numbers become visible in
    /// order: a reader that has seen one has seen all before it.
    async fn allocate(
        &self,
        txn: &DatabaseTransaction,
    ) -> Result<HashMap<OrganizationId, i64>, DbErr> {
        // In one order always, or two lanes could wait for each other.
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort();
        let mut first = HashMap::new();
        for (organization, count) in counts {
            let rows = organization::Entity::update_many()
                .col_expr(
                    organization::Column::LastSeq,
                    Expr::col(organization::Column::LastSeq).add(*count),
                )
                .filter(organization::COLUMN.id.eq(organization.clone()))
                .exec_with_returning(txn)
                .await?;
            let last = rows.first().ok_or_else(|| {
                DbErr::RecordNotFound("an event's organization does not exist".to_owned())
            })?;
            first.insert(organization.clone(), last.last_seq - count + 1);
        }
        Ok(first)
    }

    async fn write(
        self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
        present: &Present,
    ) -> Result<(), DbErr> {
        insert_messages(txn, now, self.messages).await?;
        for ((session, wa_id), ack) in self.acks {
            message::Entity::update_many()
                .col_expr(message::Column::Ack, Expr::value(ack.level.level()))
                .col_expr(message::Column::Status, Expr::value(ack.level.status()))
                .col_expr(message::Column::Error, Expr::value(ack.error))
                .col_expr(message::Column::UpdatedAt, Expr::value(now))
                .filter(message::COLUMN.session_key.eq(session))
                .filter(message::COLUMN.wa_id.eq(wa_id))
                .filter(message::COLUMN.direction.eq(Direction::Outbound))
                .exec(txn)
                .await?;
        }
        for key in &self.statuses {
            if let Some(row) = present.sessions.get(key) {
                status_columns(row).update(txn).await?;
            }
        }
        for key in self.active.difference(&self.statuses) {
            if let Some(row) = present.sessions.get(key) {
                session::Entity::update_many()
                    .col_expr(session::Column::LastActiveAt, Expr::value(row.last_active_at))
                    .filter(session::COLUMN.id.eq(key.clone()))
                    .exec(txn)
                    .await?;
            }
        }
        Ok(())
    }
}

/// The columns that [`status::apply`] owns; settings and the desired state belong to the API.
fn status_columns(row: &session::Model) -> session::ActiveModel {
    use sea_orm::ActiveValue::{Set, Unchanged};

    session::ActiveModel {
        id: Unchanged(row.id.clone()),
        phone_number: Set(row.phone_number.clone()),
        push_name: Set(row.push_name.clone()),
        account_jid: Set(row.account_jid.clone()),
        account_lid: Set(row.account_lid.clone()),
        status: Set(row.status),
        status_since: Set(row.status_since),
        message: Set(row.message.clone()),
        reconnecting: Set(row.reconnecting),
        next_attempt_at: Set(row.next_attempt_at),
        loading_percent: Set(row.loading_percent),
        qr: Set(row.qr.clone()),
        qr_issued_at: Set(row.qr_issued_at),
        qr_expires_at: Set(row.qr_expires_at),
        qr_sequence: Set(row.qr_sequence),
        last_qr_at: Set(row.last_qr_at),
        pairing_attempts: Set(row.pairing_attempts),
        pairing_error: Set(row.pairing_error.clone()),
        pairing_error_at: Set(row.pairing_error_at),
        account_changed_at: Set(row.account_changed_at),
        previous_phone_number: Set(row.previous_phone_number.clone()),
        connected_at: Set(row.connected_at),
        last_active_at: Set(row.last_active_at),
        last_disconnect_reason: Set(row.last_disconnect_reason.clone()),
        last_disconnect_code: Set(row.last_disconnect_code),
        last_disconnect_at: Set(row.last_disconnect_at),
        banned_until: Set(row.banned_until),
        dial_failures: Set(row.dial_failures),
        trouble: Set(row.trouble),
        trouble_count: Set(row.trouble_count),
        throttled_until: Set(row.throttled_until),
        updated_at: Set(row.updated_at),
        ..Default::default()
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

/// A message as a row, made at `at`.
pub(super) fn row(
    organization_id: OrganizationId,
    session_key: SessionKey,
    message: NewMessage,
    at: UnixMillis,
) -> message::Model {
    message::Model {
        dedupe_key: message.dedupe_key(),
        id: message.id,
        organization_id,
        session_key,
        wa_id: message.wa_id,
        chat: message.chat,
        sender: message.sender,
        direction: message.direction,
        kind: message.kind,
        body: message.body,
        target_wa_id: message.target_wa_id,
        raw: message.raw,
        push_name: message.push_name,
        sent_at: message.sent_at,
        offline: message.offline,
        history: false,
        status: message.status,
        ack: 0,
        error: None,
        created_at: at,
        updated_at: at,
    }
}

/// Inserts messages. One that is there already is our own, stored before it was sent, or one of the
/// past: it is live from now on.
async fn insert_messages(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    messages: Vec<(OrganizationId, SessionKey, NewMessage)>,
) -> Result<(), DbErr> {
    let mut rows: Vec<message::ActiveModel> = messages
        .into_iter()
        .map(|(organization_id, session_key, message)| {
            row(organization_id, session_key, message, now).into_active_model()
        })
        .collect();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(CHUNK));
        message::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([message::Column::SessionKey, message::Column::DedupeKey])
                    .update_column(message::Column::History)
                    .to_owned(),
            )
            .exec_without_returning(txn)
            .await?;
        rows = rest;
    }
    Ok(())
}

/// Reading what happened.
#[derive(Clone, Debug)]
pub struct Events {
    store: Store,
}

impl Events {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Up to `limit` events after `after_seq`, oldest first, of one session or of all.
    pub async fn page(
        &self,
        organization: &OrganizationId,
        session: Option<&SessionKey>,
        after_seq: i64,
        limit: u64,
    ) -> Result<Vec<event::Model>, Error> {
        let mut query = event::Entity::find()
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .filter(event::COLUMN.seq.gt(after_seq))
            .order_by_asc(event::COLUMN.seq)
            .limit(limit);
        if let Some(session) = session {
            query = query.filter(event::COLUMN.session_key.eq(session.clone()));
        }
        let mut rows = query.all(self.store.reader()).await?;
        if rows.iter().any(|row| row.kind == EventKind::Qr) {
            let sealer = self.store.sealer(organization, Patience::Fail).await?;
            for row in &mut rows {
                secrets::open_event(&sealer, row);
            }
        }
        Ok(rows)
    }

    /// The sequence number of the organization's newest event; 0 before the first.
    pub async fn last_seq(&self, organization: &OrganizationId) -> Result<i64, Error> {
        let row =
            organization::Entity::find_by_id(organization.clone()).one(self.store.reader()).await?;
        Ok(row.map_or(0, |row| row.last_seq))
    }

    /// The highest sequence number of the organization that retention has deleted; 0 before the first.
    pub async fn retired_seq(&self, organization: &OrganizationId) -> Result<i64, Error> {
        let row =
            organization::Entity::find_by_id(organization.clone()).one(self.store.reader()).await?;
        Ok(row.map_or(0, |row| row.retired_seq))
    }
}
