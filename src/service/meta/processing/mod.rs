//! Carries out what Meta told: looks, takes, reads, writes.
//!
//! - `translate.rs`: from Meta's words to ours; pure. `bodies.rs`: what was taken, with what stands in its body.
//!   `lanes.rs`: what of it is of one conversation.
//!
//! A conversation's things are carried out one after another, and different conversations' side by side. What fails is tried again
//! by a schedule, and holds up its own conversation; what cannot be read is failed at once, and holds up nobody. Whoever
//! dies in between has written all of a thing or nothing of it, and what he had taken is taken again.

mod bodies;
mod lanes;
mod translate;

use std::{sync::Arc, time::Duration};

use entity::meta::event;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::{Meta, crowd::Crowd, figures::Figures, threads::Threads, turn::Turn};
use crate::store::{
    self, Store,
    meta::{Carried, PARTLY_UNWRITTEN, Steps, Whose, Work},
};

/// How long it is until somebody looks, whoever rings.
const CHECK: Duration = Duration::from_secs(1);

/// The most that is taken at a time, of all organizations and, if there are many, at least of each.
const ROUND: u64 = 256;
const LEAST: u64 = 16;

/// From when on what was taken may be taken by another daemon.
const LEASE: Duration = Duration::from_mins(1);

/// Conversations of an organization that are carried out side by side.
const SIDE_BY_SIDE: usize = 64;

/// Parts of something large that are carried out at a time: so many people of an address book, and then it is another
/// organization's turn.
const PARTS: usize = 32;

/// The waits between tries. After the last one it is failed.
const SCHEDULE: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(2),
];

/// What is wrong with something whose writing failed again and again.
const NOT_WRITTEN: &str = "not_written";

/// Carries out what Meta told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Processor {
    store: Store,
    /// What this daemon is called by claims.
    me: String,
    figures: Arc<Figures>,
    crowd: Crowd,
    threads: Threads,
    turn: Turn,
}

/// Something taken, as it is to be carried out; or why it cannot be.
struct Taken {
    row: event::Model,
    work: Result<Work, &'static str>,
}

impl Meta {
    /// A processor of what is told, for the daemon called `me`. It stands still until it is run.
    pub fn processor(&self, me: &str) -> Processor {
        Processor {
            store: self.store.clone(),
            me: me.to_owned(),
            figures: self.figures.clone(),
            crowd: self.crowd.clone(),
            threads: Threads::default(),
            turn: Turn::default(),
        }
    }
}

impl Processor {
    /// Carries out what there is, until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut bell = self.store.writer().bell();
        if let Err(error) = self.recover().await {
            complain(&error);
        }
        while !stop.is_cancelled() {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                taken = self.round() => taken,
            };
            if taken.unwrap_or_else(|error| {
                complain(&error);
                0
            }) > 0
            {
                continue;
            }
            let clock = self.store.clock();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = bell.changed() => {}
                () = clock.sleep_until_monotonic(clock.monotonic() + CHECK) => {}
            }
        }
    }

    /// Carries out all there is to be carried out at this moment. For tests.
    pub async fn drive(&self) -> Result<(), store::Error> {
        while self.round().await? > 0 {}
        Ok(())
    }

    /// Lets go of what this daemon had taken when it last ended.
    pub async fn recover(&self) -> Result<(), store::Error> {
        self.store.meta().let_go(Whose::Daemon(self.me.clone())).await?;
        Ok(())
    }

    /// One turn for every organization that has something due. How much was taken.
    pub async fn round(&self) -> Result<usize, store::Error> {
        let meta = self.store.meta();
        let waiting = meta.waiting(self.turn.last().as_ref()).await?;
        self.turn.was_of(waiting.last());
        let share = (ROUND / (waiting.len().max(1) as u64)).max(LEAST);
        let (mut count, mut failed) = (0, None);
        for organization in waiting {
            let turn = async {
                let rows = meta.claim(&organization, &self.me, share, LEASE).await?;
                let taken = rows.len();
                self.carry_out(rows).await.map(|()| taken)
            };
            // One organization's trouble is not that of those after it.
            match turn.await {
                Ok(taken) => count += taken,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(count), Err)
    }

    async fn carry_out(&self, rows: Vec<event::Model>) -> Result<(), store::Error> {
        let Some(claim) = rows.first().and_then(|row| row.claim) else { return Ok(()) };
        let read = match bodies::read(&self.store, &self.threads, rows).await {
            Ok(read) => read,
            Err(error) => {
                self.store.meta().let_go(Whose::Claim(claim)).await?;
                return Err(error);
            }
        };
        let conversations = match self.in_their_turn(claim, read).await {
            Ok(conversations) => conversations,
            Err(error) => {
                self.store.meta().let_go(Whose::Claim(claim)).await?;
                return Err(error);
            }
        };
        let lanes = conversations.into_iter().map(|lane| self.in_order(lane));
        let ends: Vec<_> = stream::iter(lanes).buffer_unordered(SIDE_BY_SIDE).collect().await;
        let is_whole = ends.iter().all(|end| matches!(end, Ok(true)));
        if !is_whole {
            // What stands behind something that is tried again later.
            self.store.meta().let_go(Whose::Claim(claim)).await?;
        }
        ends.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// What was taken, by conversation, without what has something before it that somebody else has in hand, or that is tried again
    /// later, in another lane of whoever it is with. That stands behind it until somebody looks again.
    async fn in_their_turn(
        &self,
        claim: i64,
        taken: Vec<Taken>,
    ) -> Result<Vec<Vec<Taken>>, store::Error> {
        let meta = self.store.meta();
        let Some(organization) = taken.first().map(|it| it.row.organization_id.clone()) else {
            return Ok(Vec::new());
        };
        let aliases = meta.aliases(&organization, &lanes::names(&taken)).await?;
        let mut conversations = lanes::joined(taken, &aliases);
        let elsewhere: Vec<_> =
            conversations.iter().map(|it| lanes::elsewhere(it, &aliases)).collect();
        let all = elsewhere.iter().flatten().cloned().collect();
        let waiting = meta.first_waiting(&organization, &all, claim).await?;
        let mut behind = Vec::new();
        for (conversation, lanes) in conversations.iter_mut().zip(&elsewhere) {
            let Some(first) = lanes.iter().filter_map(|lane| waiting.get(lane)).min() else {
                continue;
            };
            let before = conversation.iter().take_while(|it| it.row.id < *first).count();
            behind.extend(conversation.split_off(before).into_iter().map(|it| it.row.id));
        }
        if !behind.is_empty() {
            meta.stand_behind(&organization, (claim, behind), CHECK).await?;
        }
        Ok(conversations)
    }

    /// Carries out what is of one conversation. False if not all of it.
    async fn in_order(&self, lane: Vec<Taken>) -> Result<bool, store::Error> {
        for Taken { row, work } in lane {
            let is_over = match work {
                Ok(work) => self.one(&row, work).await?,
                Err(why) => self.give_up(&row, why).await?,
            };
            if !is_over {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Carries one thing out. False if it, or what is left of it, is tried again later.
    async fn one(&self, row: &event::Model, mut work: Work) -> Result<bool, store::Error> {
        let meta = self.store.meta();
        work.steps = Steps::of(row);
        let _place = self.crowd.give_way().await;
        let mut ended = meta.carry_out(&work, LEASE).await;
        for _ in 1..PARTS {
            match &ended {
                Ok(Carried::Part(progress)) if work.steps.is_over(*progress, &work.effect) => break,
                Ok(Carried::Part(progress)) => {
                    work.event.progress = *progress;
                    work.steps.went(*progress);
                }
                Err(store::Error::Database(_) | store::Error::TooLong)
                    if work.steps.failed(&work.effect) => {}
                Ok(_) | Err(_) => break,
            }
            ended = meta.carry_out(&work, LEASE).await;
        }
        match ended {
            Ok(Carried::Done) => Figures::count(&self.figures.processed),
            Ok(Carried::Refused) => Figures::count(&self.figures.failed),
            Ok(Carried::Fenced) => {}
            Ok(Carried::Part(progress)) if work.steps.is_over(progress, &work.effect) => {
                return self.again(row, PARTLY_UNWRITTEN).await;
            }
            Ok(Carried::Part(_)) => return Ok(false),
            Err(error @ (store::Error::Database(_) | store::Error::TooLong)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    meta.event = %row.id,
                    "Something that Meta told could not be written"
                );
                // What was passed over before is to be tried again with it.
                let why = if work.steps.has_gap() { PARTLY_UNWRITTEN } else { NOT_WRITTEN };
                return self.again(row, why).await;
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Has something be tried again later, or gives it up. False if it is tried again.
    async fn again(&self, row: &event::Model, why: &str) -> Result<bool, store::Error> {
        let tries = usize::try_from(row.attempts).unwrap_or(usize::MAX);
        let Some(wait) = SCHEDULE.get(tries) else { return self.give_up(row, why).await };
        self.store.meta().put_off(row, why, Some(*wait)).await?;
        Figures::count(&self.figures.put_off);
        Ok(false)
    }

    async fn give_up(&self, row: &event::Model, why: &str) -> Result<bool, store::Error> {
        if self.store.meta().put_off(row, why, None).await? {
            Figures::count(&self.figures.failed);
            tracing::warn!(meta.event = %row.id, why, "Something that Meta told is given up");
        }
        Ok(true)
    }
}

fn complain(error: &store::Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "What Meta told has to wait for the database"
    );
}
