//! Carrying out what Meta told: each thing alone, in one transaction with all that follows from it.
//!
//! - `session.rs`: the session that a number's messages are kept under. `message.rs`: messages, live and of the past.
//!   `status.rs`: how far those have come that went out. `sent.rs`: what became of those that we have sent.
//!   `steps.rs`: what is large, a part at a time.
//!
//! The row of what was told is settled first, and by whoever has its token alone; so whatever was carried out was carried
//! out once. Then everything is what it would be, had the same been told before: it may be carried out again at any time.

mod message;
mod sent;
mod session;
mod status;
mod steps;

use std::{collections::BTreeSet, time::Duration};

use entity::{
    UnixMillis,
    id::{EndpointId, MessageId, SessionKey},
    meta::{account, event},
    organization,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QuerySelect, Statement, sea_query::LockType,
};

pub(in crate::store::meta) use self::{
    message::Door,
    sent::{accepted, failed, is_nameless},
    session::of_account,
};
use super::Meta;
use crate::{
    event::{Call, Event, NewMessage},
    store::{
        Error, Patience,
        contacts::{self, Person},
        events::{Mark, NewEvent, Posted, record_batch},
        statuses::NewStatus,
        webhooks::Known,
    },
    vault::Sealer,
};

/// A message, with whom it is exchanged. Its `chat` and its `sender` are known only when it is written.
#[derive(Clone, Debug)]
pub struct Exchanged {
    pub message: NewMessage,
    pub person: Person,
    pub group: Option<String>,
    /// What the person is called by from now on, and what no longer.
    pub renamed: Option<(Person, Person)>,
    /// Of one of the past: how far it had come.
    pub level: i16,
}

/// What follows from something that Meta told.
#[derive(Clone, Debug)]
pub enum Effect {
    Message(Box<Exchanged>),
    /// Nobody is told of these.
    Past(Vec<Exchanged>),
    Status {
        status: Box<NewStatus>,
        person: Person,
        group: Option<String>,
        /// Our own id of the message, if it was sent here.
        ours: Option<MessageId>,
    },
    Call {
        call: Call,
        person: Person,
    },
    /// The phone's address book.
    People(Vec<(Person, bool)>),
    /// Something that has no name here is told as it is.
    Note {
        name: String,
        data: serde_json::Value,
    },
    /// It is in the log, and that is all.
    Nothing,
}

/// Something to be carried out.
#[derive(Clone, Debug)]
pub struct Work {
    /// With the token of whoever has it.
    pub event: event::Model,
    pub effect: Effect,
    /// The phone number's id that it names: of what names nobody's number so far, somebody may have set it up since.
    pub number: Option<String>,
    /// The number itself, in digits.
    pub own: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    Done,
    /// So much of it is done; the rest is for another call.
    Part(i32),
    /// Somebody else has it, or had it.
    Fenced,
}

impl Meta {
    /// Carries something out, or its next part. Nothing of it is there if that fails; what is left of it is ours for
    /// another `lease`.
    pub async fn carry_out(&self, work: &Work, lease: Duration) -> Result<Carried, Error> {
        let (work, progress) = steps::next(work);
        let store = self.store.clone();
        let organization = work.event.organization_id.clone();
        let sealer = self.store.sealer(&organization, Patience::Wait).await?;
        let (now, known) = (self.store.clock().now(), self.store.writer().known().clone());
        let unit = self.store.writer().run(organization.as_str(), Patience::Wait, move |txn| {
            let (mut work, sealer, known) = (work.clone(), sealer.clone(), known.clone());
            let store = store.clone();
            Box::pin(async move {
                // First, as by every event: whoever comes second sees all that the first has done.
                organization::Entity::find_by_id(work.event.organization_id.clone())
                    .lock(LockType::NoKeyUpdate)
                    .one(txn)
                    .await?;
                let is_ours = match progress {
                    None => settle(txn, &work.event, now).await?,
                    Some(reached) => {
                        steps::advance(&store, txn, &work.event, reached, lease).await?
                    }
                };
                if !is_ours {
                    return Ok((Carried::Fenced, BTreeSet::new()));
                }
                route(txn, &mut work).await?;
                let touched = Box::pin(follow(txn, &sealer, &known, now, work)).await?;
                Ok((progress.map_or(Carried::Done, Carried::Part), touched))
            })
        });
        let (carried, touched) = unit.await?;
        if carried != Carried::Fenced {
            self.store.webhooks().touch(touched);
        }
        Ok(carried)
    }
}

/// Settles the row, if it is still whose token it has.
async fn settle(
    txn: &DatabaseTransaction,
    row: &event::Model,
    now: UnixMillis,
) -> Result<bool, DbErr> {
    let settle = "UPDATE meta_event SET state = 'processed', processed = $1, processed_at = $2, \
                  error = NULL, next_at = 0, claim = NULL, claimed_by = NULL, lease_until = 0 \
                  WHERE id = $3 AND claim = $4 AND state = 'waiting'";
    let values = [true.into(), now.0.into(), row.id.as_str().into(), row.claim.into()];
    let settle = Statement::from_sql_and_values(txn.get_database_backend(), settle, values);
    Ok(txn.execute_raw(settle).await?.rows_affected() > 0)
}

/// Looks whether the number of something that was nobody's is the organization's by now.
async fn route(txn: &DatabaseTransaction, work: &mut Work) -> Result<(), DbErr> {
    let Some(number) = work.number.as_ref().filter(|_| work.event.is_unrouted) else {
        return Ok(());
    };
    let found = account::Entity::find()
        .filter(account::COLUMN.organization_id.eq(work.event.organization_id.clone()))
        .filter(account::COLUMN.phone_number_id.eq(number.as_str()))
        .one(txn)
        .await?;
    let Some(account) = found else { return Ok(()) };
    let write = "UPDATE meta_event SET is_unrouted = $1, account_id = $2 WHERE id = $3";
    let values = [false.into(), account.id.as_str().into(), work.event.id.as_str().into()];
    let write = Statement::from_sql_and_values(txn.get_database_backend(), write, values);
    txn.execute_raw(write).await?;
    (work.event.is_unrouted, work.event.account_id) = (false, Some(account.id));
    Ok(())
}

/// Everything that follows. Without an account that is nothing: there is nobody whose it could be.
async fn follow(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    known: &Known,
    now: UnixMillis,
    work: Work,
) -> Result<BTreeSet<EndpointId>, DbErr> {
    let Work { event, effect, own, .. } = work;
    let mut door = Door::new(txn, sealer, known, now);
    let Some(account) = event.account_id.as_ref().filter(|_| !matches!(effect, Effect::Nothing))
    else {
        return Ok(door.touched);
    };
    let found = account::Entity::find_by_id(account.clone())
        .filter(account::COLUMN.organization_id.eq(event.organization_id.clone()))
        .one(txn)
        .await?;
    let Some(account) = found else { return Ok(door.touched) };
    let session = of_account(&mut door, &account, own.as_deref()).await?;
    match effect {
        Effect::Nothing => {}
        Effect::Message(message) => message::live(&mut door, &session, *message).await?,
        Effect::Past(messages) => message::past(&mut door, &session, messages).await?,
        Effect::Status { status, person, group, ours } => {
            let of = (&person, group.as_deref(), ours.as_ref());
            status::told(&mut door, &session, &status, of).await?;
        }
        Effect::Call { mut call, person } => {
            let organization = &session.organization_id;
            let chat = contacts::known_address(txn, organization, &session.id, &person).await?;
            call.from = chat.unwrap_or_else(|| contacts::address_of(&person));
            let at = call.at;
            door.record(&session, Event::Call(call), at, None).await?;
        }
        Effect::People(people) => {
            // Who has left the address book has still written what they wrote.
            for (person, _) in people.iter().filter(|(_, is_removed)| !is_removed) {
                contacts::resolve(txn, &event.organization_id, person, now).await?;
            }
        }
        Effect::Note { name, data } => {
            let mark = Mark::Once(event.dedup_key.clone());
            let note = Event::Unknown { name, data };
            let posted = Posted { mark, until: event.event_ts, came: now, to: None, request: None };
            door.record(&session, note, event.event_ts, Some(posted)).await?;
        }
    }
    Ok(door.touched)
}

impl Door<'_> {
    /// Records an event by the one door.
    async fn record(
        &mut self,
        session: &entity::session::Model,
        event: Event,
        at: UnixMillis,
        posted: Option<Posted>,
    ) -> Result<(), DbErr> {
        let key: SessionKey = session.id.clone();
        let mut event = NewEvent {
            organization_id: session.organization_id.clone(),
            session_key: key,
            generation: None,
            event: event.storable(),
            at,
            care: None,
            posted,
        };
        if event.has_secret() {
            event.seal(self.sealer);
        }
        let (_, touched) = record_batch(self.txn, self.known, self.now, &[&event]).await?;
        self.touched.extend(touched);
        Ok(())
    }
}
