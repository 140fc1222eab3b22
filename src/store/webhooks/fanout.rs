//! Who is owed an event: decided and written in the event's own transaction.
//!
//! What endpoints want is kept in memory. Whether that is still true is told by a number in the
//! organization's row, which the transaction reads (and locks) anyway to give the event its sequence
//! number: every change of an endpoint changes it in its own transaction, in whichever process. So an
//! organization without endpoints costs an event nothing, one with endpoints two inserts, and a change is
//! in force for the first event after its commit.
//!
//! The number is random, not counted: what a transaction that was rolled back had read is then never
//! taken for what another has written.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{DeliveryId, EndpointId, EventId, OrganizationId, SessionKey, in_order},
    webhook::{
        delivery, endpoint, event,
        state::{Cause, DeliveryState, EndpointState, Format, Ordering},
    },
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};

use crate::webhook::{EventType, Filter};

/// Rows per statement: far below SQLite's 32,766 bound values at twenty columns each.
const CHUNK: usize = 500;

/// An event that may be owed to somebody.
#[derive(Clone, Debug)]
pub(in crate::store) struct Told {
    pub(in crate::store) id: EventId,
    pub(in crate::store) organization_id: OrganizationId,
    pub(in crate::store) seq: i64,
    pub(in crate::store) kind: EventType,
    pub(in crate::store) session_key: Option<SessionKey>,
    pub(in crate::store) session_id: Option<String>,
    pub(in crate::store) phone_number: Option<String>,
    pub(in crate::store) conversation: String,
    pub(in crate::store) payload: String,
    pub(in crate::store) occurred_at: UnixMillis,
    /// The endpoint that it is about, and which is not told of it.
    pub(in crate::store) about: Option<EndpointId>,
    /// It is kept for the feed, whether any endpoint wants it or not.
    pub(in crate::store) in_feed: bool,
    /// It is of a message that could not be read, and so is none yet.
    pub(in crate::store) unreadable: bool,
}

/// What one endpoint wants.
#[derive(Clone, Debug)]
struct Listener {
    id: EndpointId,
    format: Format,
    filter: Filter,
    ordering: Ordering,
    max_age: Duration,
}

/// What all endpoints of an organization want, as of one version of them.
type Listeners = (i64, Arc<[Listener]>);

/// What this process knows of endpoints.
#[derive(Debug, Default)]
pub(in crate::store) struct Known {
    listeners: Mutex<HashMap<OrganizationId, Listeners>>,
    /// Owed something by a transaction that is committed.
    touched: Mutex<BTreeSet<EndpointId>>,
}

impl Known {
    /// Takes note of whom a transaction that is committed owes something.
    pub(in crate::store) fn publish(&self, endpoints: BTreeSet<EndpointId>) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).extend(endpoints);
    }

    pub(super) fn take_touched(&self) -> BTreeSet<EndpointId> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn listeners(
        &self,
        txn: &DatabaseTransaction,
        organization: &OrganizationId,
        version: i64,
    ) -> Result<Arc<[Listener]>, DbErr> {
        let known = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.get(organization).filter(|(of, _)| *of == version).map(|(_, it)| it.clone())
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let rows = endpoint::Entity::find()
            .filter(endpoint::COLUMN.organization_id.eq(organization.clone()))
            .filter(endpoint::Column::State.is_in([EndpointState::Active, EndpointState::Paused]))
            .order_by_asc(endpoint::COLUMN.id)
            .all(txn)
            .await?;
        let read: Arc<[Listener]> = rows.iter().map(Listener::of).collect();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.insert(organization.clone(), (version, read.clone()));
        Ok(read)
    }
}

impl Listener {
    fn of(row: &endpoint::Model) -> Self {
        Self {
            id: row.id.clone(),
            format: row.format,
            filter: filter(row),
            ordering: row.ordering,
            max_age: Duration::from_millis(u64::try_from(row.max_age_ms).unwrap_or(0)),
        }
    }
}

/// Whether a format has a place for it. A flat body is a message, and what cannot be read is none yet: when it can be,
/// it is told of.
pub(super) fn has_place(format: Format, is_unreadable: impl FnOnce() -> bool) -> bool {
    matches!(format, Format::Envelope) || !is_unreadable()
}

/// What an endpoint's row says that it wants.
pub(super) fn filter(row: &endpoint::Model) -> Filter {
    let list = |json: &str| serde_json::from_str::<Vec<String>>(json).unwrap_or_default();
    Filter::new(&list(&row.event_types), list(&row.session_ids), list(&row.phone_numbers))
}

/// Writes what is owed for these events, and returns to whom. `versions` is what the transaction has
/// read in the rows of their organizations.
pub(in crate::store) async fn owe(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    versions: &HashMap<OrganizationId, i64>,
    told: Vec<Told>,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    let mut touched = BTreeSet::new();
    for told in told {
        let version = versions.get(&told.organization_id).copied().unwrap_or(0);
        if version == 0 && !told.in_feed {
            continue;
        }
        let listeners = match version {
            0 => Arc::default(),
            version => known.listeners(txn, &told.organization_id, version).await?,
        };
        let before = deliveries.len();
        for listener in listeners.iter() {
            let (session, number) = (told.session_id.as_deref(), told.phone_number.as_deref());
            if told.about.as_ref() != Some(&listener.id)
                && has_place(listener.format, || told.unreadable)
                && listener.filter.wants(told.kind, session, number)
            {
                deliveries.push(owed(&told, listener, now).into_active_model());
                touched.insert(listener.id.clone());
            }
        }
        if deliveries.len() > before || told.in_feed {
            events.push(row(told).into_active_model());
        }
    }
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(CHUNK));
        event::Entity::insert_many(events).exec_without_returning(txn).await?;
        events = rest;
    }
    while !deliveries.is_empty() {
        let rest = deliveries.split_off(deliveries.len().min(CHUNK));
        delivery::Entity::insert_many(deliveries).exec_without_returning(txn).await?;
        deliveries = rest;
    }
    Ok(touched)
}

/// The event as a row.
fn row(told: Told) -> event::Model {
    event::Model {
        id: told.id,
        organization_id: told.organization_id,
        seq: told.seq,
        event_type: told.kind.name().to_owned(),
        session_key: told.session_key,
        session_id: told.session_id,
        conversation: told.conversation,
        payload: told.payload,
        occurred_at: told.occurred_at,
        in_feed: told.in_feed,
    }
}

fn owed(told: &Told, to: &Listener, now: UnixMillis) -> delivery::Model {
    delivery::Model {
        id: DeliveryId::new(now, in_order(rand::random())),
        organization_id: told.organization_id.clone(),
        endpoint_id: to.id.clone(),
        event_id: told.id.clone(),
        event_type: told.kind.name().to_owned(),
        seq: told.seq,
        order_key: order_key(to.ordering, &told.conversation),
        replay_id: String::new(),
        cause: Cause::Event,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: 0,
        expires_at: now + to.max_age,
        claim: None,
        claimed_by: None,
        lease_until: None,
        last_status: None,
        last_error: None,
        created_at: now,
        finished_at: None,
    }
}

/// Among which deliveries this one keeps its order.
pub(super) fn order_key(ordering: Ordering, conversation: &str) -> Option<String> {
    match ordering {
        Ordering::None => None,
        Ordering::ByConversation => Some(conversation.to_owned()),
        Ordering::Strict => Some(STRICT.to_owned()),
    }
}

/// The order key of an endpoint's only queue.
pub(super) const STRICT: &str = "";
