//! Carrying out what Meta told: each thing alone, in one transaction with all that follows from it.
//!
//! - `place.rs`: whose it is by now. `session.rs`: the session that a number's messages are kept under. `message.rs`: messages, live and of the past.
//!   `renaming.rs`: notices that somebody is called otherwise.
//!   `status.rs`: how far those have come that went out. `sent.rs`: what became of those that we have sent.
//!   `steps.rs`: what is large, a part at a time.
//!
//! The row of what was told is settled first, and by whoever has its token alone; so whatever was carried out was carried
//! out once. Then everything is what it would be, had the same been told before: it may be carried out again at any time.

mod message;
mod place;
mod renaming;
mod sent;
mod session;
mod status;
mod steps;

use std::{collections::BTreeSet, time::Duration};

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    meta::event,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use self::place::Place;
pub use self::steps::{PARTLY_UNWRITTEN, Steps};
pub(in crate::store::meta) use self::{
    message::Door,
    sent::{accepted, failed, is_nameless},
    session::{name as session_name, of_account, own},
};
use super::{Meta, closed};
use crate::{
    event::{Call, Event, NewMessage},
    store::{
        Error, Patience,
        contacts::{self, Person, Told},
        events::{Mark, NewEvent, Posted, once_key, record_batch},
        organizations,
        statuses::NewStatus,
    },
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
    /// The phone number's id that it names, if it names one.
    pub number: Option<String>,
    /// The business account's.
    pub waba: Option<String>,
    /// The number itself, in digits.
    pub own: Option<String>,
    /// What is wrong with it though it is carried out, in a stable word.
    pub flaw: Option<&'static str>,
    /// How it is divided.
    pub steps: Steps,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    Done,
    /// So much of it is done; the rest is for another call.
    Part(i32),
    /// Somebody else has it, or had it.
    Fenced,
    /// Its account takes nothing; it was refused before.
    Refused,
}

impl Meta {
    /// Carries something out, or its next part. Nothing of it is there if that fails; what is left of it is ours for
    /// another `lease`.
    pub async fn carry_out(&self, work: &Work, lease: Duration) -> Result<Carried, Error> {
        let (work, progress) = steps::next(work);
        let (told, body) = (work.event.id.clone(), work.event.body_id.clone());
        let store = self.store.clone();
        let organization = work.event.organization_id.clone();
        let sealer = self.store.sealer(&organization, Patience::Wait).await?;
        let (now, known) = (self.store.clock().now(), self.store.writer().known().clone());
        let unit = self.store.writer().run(organization.as_str(), Patience::Wait, move |txn| {
            let (work, sealer, known) = (work.clone(), sealer.clone(), known.clone());
            let store = store.clone();
            Box::pin(async move {
                // First, as by every event: whoever comes second sees all that the first has done.
                organizations::lock(txn, &work.event.organization_id).await?;
                let is_ours = match progress {
                    None => settle(txn, &work.event, work.flaw, now).await?,
                    Some(reached) => steps::advance(&store, txn, &work, reached, lease).await?,
                };
                if !is_ours {
                    return Ok((Carried::Fenced, BTreeSet::new(), Vec::new()));
                }
                let mut door = Door::new(txn, &sealer, &known, now);
                door.waba.clone_from(&work.waba);
                let carried = match Box::pin(follow(&mut door, work)).await? {
                    Some(()) => progress.map_or(Carried::Done, Carried::Part),
                    None => Carried::Refused,
                };
                Ok((carried, door.touched, door.recorded))
            })
        });
        let (carried, touched, recorded) = unit.await?;
        for id in recorded {
            tracing::debug!(event.id = %id, meta.event = %told, meta.body = %body, "Recorded an event");
        }
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
    flaw: Option<&str>,
    now: UnixMillis,
) -> Result<bool, DbErr> {
    let settle = "UPDATE meta_event SET state = 'processed', processed = $1, processed_at = $2, \
                  error = $3, next_at = 0, claim = NULL, claimed_by = NULL, lease_until = 0 \
                  WHERE id = $4 AND claim = $5 AND state = 'waiting'";
    let values = [true.into(), now.0.into(), flaw.into(), row.id.as_str().into(), row.claim.into()];
    let settle = Statement::from_sql_and_values(txn.get_database_backend(), settle, values);
    Ok(txn.execute_raw(settle).await?.rows_affected() > 0)
}

/// Everything that follows. Where nobody has the number that is nothing. None if it is refused.
async fn follow(door: &mut Door<'_>, work: Work) -> Result<Option<()>, DbErr> {
    if matches!(work.effect, Effect::Nothing) {
        return Ok(Some(()));
    }
    let session = match place::of(door, &work).await? {
        Place::Under(session) => *session,
        Place::Nowhere => return Ok(Some(())),
        Place::Refused(why) => {
            closed::refuse(door.txn, &work.event.id, why).await?;
            return Ok(None);
        }
    };
    let Work { event, effect, .. } = work;
    match effect {
        Effect::Nothing => {}
        Effect::Message(message) => message::live(door, &session, *message).await?,
        Effect::Past(messages) => message::past(door, &session, messages).await?,
        Effect::Status { status, person, group, ours } => {
            let of = (&person, group.as_deref(), ours.as_ref());
            status::told(door, &session, &status, of).await?;
        }
        Effect::Call { mut call, person } => {
            let organization = &session.organization_id;
            call.from = contacts::answerable(door.txn, organization, &person).await?;
            let at = call.at;
            door.record(&session, Event::Call(call), at, None).await?;
        }
        Effect::People(people) => {
            // Who has left the address book has still written what they wrote.
            for (mut person, _) in people.into_iter().filter(|(_, is_removed)| !is_removed) {
                let organization = &event.organization_id;
                let (waba, at) = (door.waba.as_deref(), event.event_ts.min(door.now));
                let told = Told { organization, waba, at };
                contacts::resolve(door.txn, told, &mut person, door.now).await?;
            }
        }
        Effect::Note { name, data } => note(door, &session, &event, (name, data)).await?,
    }
    Ok(Some(()))
}

/// Tells something that has no name here, once: also if it is another session that would tell it now.
async fn note(
    door: &mut Door<'_>,
    session: &entity::session::Model,
    event: &event::Model,
    (name, data): (String, serde_json::Value),
) -> Result<(), DbErr> {
    let mark = Mark::Once(event.dedup_key.clone());
    let posted = Posted {
        mark,
        until: event.event_ts,
        came: door.now,
        to: None,
        says_whose: false,
        request: None,
    };
    let ask = "SELECT 1 FROM session s JOIN event e ON e.session_key = s.id AND e.dedupe_key = $1 \
               WHERE s.organization_id = $2 AND s.origin = 'cloud' AND s.deleted_at IS NULL LIMIT 1";
    let values = [once_key(&event.dedup_key).into(), event.organization_id.as_str().into()];
    let ask = Statement::from_sql_and_values(door.txn.get_database_backend(), ask, values);
    if door.txn.query_one_raw(ask).await?.is_some() {
        return Ok(());
    }
    door.record(session, Event::Unknown { name, data }, event.event_ts, Some(posted)).await
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
        let (recorded, touched) = record_batch(self.txn, self.known, self.now, &[&event]).await?;
        self.recorded.extend(recorded.iter().flat_map(|it| it.events().iter().cloned()));
        self.touched.extend(touched);
        Ok(())
    }
}
