//! The worker that sends: takes what may go out, asks Meta, writes down what came of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entity::{
    UnixMillis,
    id::{MetaAccountId, OrganizationId},
    meta::{account, outbox, state::MetaStatus},
    state::MessageStatus,
};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    super::{figures::Figures, turn::Turn},
    Meta,
    reasons::{ACCOUNT_GONE, DISABLED, NO_TOKEN, OUTCOME_UNKNOWN, UNREACHABLE, UNREADABLE},
};
use crate::{
    graph::{self, Graph, Scope},
    store::{self, Store, meta::Outcome},
};

/// How long it is until somebody looks, whoever rings.
const CHECK: Duration = Duration::from_secs(1);

/// Messages under way at a time: of everybody, and of one organization.
const MOST: usize = 128;
const MOST_OF_ONE: usize = 32;

/// From when on what was taken may be taken by another daemon: longer than Meta is waited for.
const LEASE: Duration = Duration::from_mins(2);

/// The waits between tries. After the last one it is failed.
const SCHEDULE: [Duration; 7] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(2),
];

/// Sends what was taken. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    store: Store,
    graph: Graph,
    /// What this daemon is called by claims.
    me: String,
    figures: Arc<Figures>,
    /// Accounts of which Meta wants nothing for a while.
    paused: Arc<Mutex<HashMap<MetaAccountId, UnixMillis>>>,
    turn: Turn,
}

/// What came of a try.
enum Tried {
    Outcome(Outcome),
    /// Somebody else has it.
    NotOurs,
}

impl Meta {
    /// A sender of what is taken, for the daemon called `me`. It stands still until it is run.
    pub fn sender(&self, me: &str) -> Sender {
        Sender {
            store: self.store.clone(),
            graph: self.graph.clone(),
            me: me.to_owned(),
            figures: self.figures.clone(),
            paused: Arc::default(),
            turn: Turn::default(),
        }
    }
}

impl Sender {
    /// Sends what there is, until it is stopped. What is under way then is waited for.
    pub async fn run(self, stop: CancellationToken) {
        let mut bell = self.store.writer().bell();
        if let Err(error) = self.recover().await {
            complain(&error);
        }
        let mut under_way = UnderWay::default();
        while !stop.is_cancelled() {
            if let Err(error) = self.begin(&mut under_way).await {
                complain(&error);
            }
            let clock = self.store.clock();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = under_way.ended() => {}
                _ = bell.changed() => {}
                () = clock.sleep_until_monotonic(clock.monotonic() + CHECK) => {}
            }
        }
        while under_way.ended().await.is_some() {}
    }

    /// Sends all there is to be sent at this moment. For tests.
    pub async fn drive(&self) -> Result<(), store::Error> {
        let mut under_way = UnderWay::default();
        while self.begin(&mut under_way).await? > 0 {
            while under_way.ended().await.is_some() {}
        }
        Ok(())
    }

    /// Lets go of what this daemon had taken when it last ended. What it was sending then is failed in its turn.
    pub async fn recover(&self) -> Result<(), store::Error> {
        self.store.meta().let_go_outgoing(&self.me).await
    }

    /// Takes what may be sent and begins to send it. How many messages.
    async fn begin(&self, under_way: &mut UnderWay) -> Result<usize, store::Error> {
        let meta = self.store.meta();
        let (mut begun, mut failed) = (0, None);
        let resting = self.resting();
        let last = self.turn.last();
        let waiting = meta.with_outgoing(&resting, last.as_ref()).await?;
        self.turn.was_of(waiting.last());
        for organization in waiting {
            let room = under_way.room(&organization);
            if room == 0 {
                continue;
            }
            let limit = (u64::try_from(room).unwrap_or(0), LEASE);
            match meta.claim_outgoing(&organization, &self.me, resting.clone(), limit).await {
                Ok(places) => {
                    begun += places.len();
                    for place in places {
                        let (this, of) = (self.clone(), organization.clone());
                        under_way.add(of, async move { this.one(&place).await });
                    }
                }
                // One organization's trouble is not that of those after it.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(begun), Err)
    }

    /// Sends one message, whatever comes of it.
    async fn one(&self, place: &outbox::Model) {
        let settled = async {
            match self.attempt(place).await? {
                Tried::NotOurs => Ok(()),
                Tried::Outcome(outcome) => {
                    self.count(&outcome);
                    self.store.meta().settle_outgoing(place, outcome).await
                }
            }
        };
        if let Err(error) = settled.await {
            // Nobody has it when its time is over: it is looked at again then.
            complain(&error);
        }
    }

    async fn attempt(&self, place: &outbox::Model) -> Result<Tried, store::Error> {
        let (meta, messages) = (self.store.meta(), self.store.messages());
        let Some(row) = messages.find_by_id(&place.message_id).await? else {
            return Ok(Tried::Outcome(Outcome::Gone));
        };
        match row.status {
            MessageStatus::Queued => {}
            // Whoever was sending it has died.
            MessageStatus::Sending => return Ok(failed(OUTCOME_UNKNOWN)),
            _ => return Ok(Tried::Outcome(Outcome::Gone)),
        }
        let account = meta.account(&place.organization_id, &place.account_id).await?;
        // One that has another number by now sends nothing that was for the old one.
        let is_same = |it: &account::Model| it.session_key.as_ref() == Some(&place.session_key);
        let Some(account) = account.filter(is_same) else { return Ok(failed(ACCOUNT_GONE)) };
        if account.status == MetaStatus::Disabled {
            return Ok(failed(DISABLED));
        }
        let Some(token) = meta.access_token(&account).await? else { return Ok(failed(NO_TOKEN)) };
        let raw = self.store.raw(&row).await?;
        let request = raw.and_then(|raw| serde_json::from_slice(&raw).ok());
        let Some(request) = request else { return Ok(failed(UNREADABLE)) };
        if !meta.begin_outgoing(place, LEASE).await? {
            return Ok(Tried::NotOurs);
        }
        let sent = self.graph.send(token.expose(), &account.phone_number_id, &request).await;
        Ok(Tried::Outcome(self.judge(place, sent)))
    }

    /// What an answer of Meta's means for the message.
    fn judge(&self, place: &outbox::Model, sent: Result<graph::Taken, graph::Error>) -> Outcome {
        let error = match sent {
            Ok(graph::Taken { wa_id, word }) => return Outcome::Taken { wa_id, word },
            Err(error) => error,
        };
        let refusal =
            if let graph::Error::Refused(refusal) = &error { Some(refusal) } else { None };
        tracing::info!(
            error = &error as &dyn std::error::Error,
            message.id = %place.message_id,
            meta.account = %place.account_id,
            meta.trace = refusal.and_then(|it| it.trace.as_deref()),
            "Meta has not taken a message"
        );
        let why = match (&error, refusal) {
            (_, Some(refusal)) => refusal.code.to_string(),
            (error, _) if error.is_unknown() => OUTCOME_UNKNOWN.to_owned(),
            _ => UNREACHABLE.to_owned(),
        };
        let tries = usize::try_from(place.attempts).unwrap_or(usize::MAX);
        let Some(wait) = SCHEDULE.get(tries).filter(|_| error.is_passing()) else {
            return Outcome::Failed(why);
        };
        let wait = refusal.and_then(|it| it.after).map_or(*wait, |after| after.max(*wait));
        if refusal.is_some_and(|it| it.scope() == Scope::Account) {
            let until = self.store.clock().now() + wait;
            self.paused().insert(place.account_id.clone(), until);
        }
        Outcome::PutOff { wait, why }
    }

    /// Accounts that are left alone at this moment.
    fn resting(&self) -> Vec<MetaAccountId> {
        let now = self.store.clock().now();
        let mut paused = self.paused();
        paused.retain(|_, until| *until > now);
        paused.keys().cloned().collect()
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<MetaAccountId, UnixMillis>> {
        // Nothing panics while it holds this lock.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Taken { .. } => &self.figures.sent,
            Outcome::Failed(why) if why == OUTCOME_UNKNOWN => &self.figures.unknown,
            Outcome::Failed(_) => &self.figures.refused,
            Outcome::PutOff { .. } | Outcome::Gone => return,
        };
        Figures::count(counter);
    }
}

fn failed(why: &str) -> Tried {
    Tried::Outcome(Outcome::Failed(why.to_owned()))
}

/// What is being sent.
#[derive(Debug, Default)]
struct UnderWay {
    tasks: JoinSet<()>,
    /// Whose each is.
    of: HashMap<task::Id, OrganizationId>,
}

impl UnderWay {
    /// How many more may be sent of this organization's.
    fn room(&self, organization: &OrganizationId) -> usize {
        let own = self.of.values().filter(|it| *it == organization).count();
        let own = MOST_OF_ONE.saturating_sub(own);
        own.min(MOST.saturating_sub(self.tasks.len()))
    }

    fn add(&mut self, of: OrganizationId, send: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(send.in_current_span());
        self.of.insert(task.id(), of);
    }

    /// Waits for the end of one; none if there is none.
    async fn ended(&mut self) -> Option<()> {
        let id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(panicked) => panicked.id(),
        };
        self.of.remove(&id);
        Some(())
    }
}

fn complain(error: &store::Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "What is to be sent through Meta has to wait for the database"
    );
}
