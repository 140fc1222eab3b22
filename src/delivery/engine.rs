//! The loop: look, take, send.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering as Atomic},
    },
    time::Duration,
};

use entity::{UnixMillis, id::EndpointId, webhook::event};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use super::{
    Options, Reply, STOP_GRACE,
    attempt::{attempt, postpone, release, send},
    client::Client,
    fair::{Want, allot},
    jumps::Jumps,
    lanes::Lanes,
    replays, settler,
};
use crate::{
    clock::Clock,
    store::{
        self, Store,
        webhooks::{Claiming, Settled, Settlement, Target, Waiting},
    },
    webhook::{
        body::body,
        health::{Alert, Breaker, breaker},
    },
};

/// All endpoints are looked at this often, whether anybody rang or not: it may have been in another
/// process.
const CHECK: Duration = Duration::from_secs(1);

/// How often what nobody asks for is done.
const UPKEEP: Duration = Duration::from_secs(30);

/// Deliveries taken by one statement.
const ROUND: usize = 256;

/// From when on a delivery that was taken may be sent by another daemon: the longest time limit that an
/// endpoint can have, and as much again for writing down what came of it.
const LEASE: Duration = Duration::from_mins(1);

/// What was done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tries, by how they ended: `success`, or a stable word.
    pub attempts: BTreeMap<&'static str, u64>,
    /// Deliveries given up.
    pub exhausted: u64,
    /// Results that came too late to count.
    pub fenced: u64,
    /// Deliveries that somebody who died had taken.
    pub reclaimed: u64,
    /// Endpoints disabled for failing, or for being gone.
    pub disabled: u64,
    /// Endpoints that began to fail, and that answered again.
    pub failing: u64,
    pub recovered: u64,
    /// Requests under way.
    pub in_flight: usize,
}

/// Sends what is owed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deliveries {
    shared: Arc<Shared>,
    ended: mpsc::UnboundedSender<Settled>,
    tries: TaskTracker,
}

/// What the loop, its tries and the settler share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) options: Options,
    pub(super) freed: Notify,
    client: Client,
    clock: Clock,
    lanes: Mutex<Lanes>,
    jumps: Mutex<Jumps>,
    attempts: Mutex<BTreeMap<&'static str, u64>>,
    exhausted: AtomicU64,
    fenced: AtomicU64,
    reclaimed: AtomicU64,
    disabled: AtomicU64,
    failing: AtomicU64,
    recovered: AtomicU64,
    /// Ends tries that are under way.
    cut: CancellationToken,
}

impl Shared {
    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jumps(&self) -> MutexGuard<'_, Jumps> {
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, settled: &Settled) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        *attempts.entry(settler::word(settled)).or_default() += 1;
    }

    pub(super) fn note(&self, settlement: &Settlement) {
        self.exhausted.fetch_add(settlement.exhausted, Atomic::Relaxed);
        self.fenced.fetch_add(settlement.fenced, Atomic::Relaxed);
        self.disabled.fetch_add(settlement.disabled.len() as u64, Atomic::Relaxed);
        for alert in &settlement.alerts {
            match alert {
                Alert::Failing => self.failing.fetch_add(1, Atomic::Relaxed),
                Alert::Recovered => self.recovered.fetch_add(1, Atomic::Relaxed),
                Alert::Exhausted => continue,
            };
        }
        for endpoint in &settlement.disabled {
            tracing::warn!(webhook.endpoint = %endpoint, "A webhook endpoint was disabled");
        }
    }
}

/// What one look came to.
#[derive(Debug, Default)]
struct Looked {
    taken: usize,
    /// When there will be something to do that nobody rings for.
    wake: Option<UnixMillis>,
}

impl Looked {
    fn wakes_at(&mut self, at: UnixMillis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

impl Deliveries {
    /// An engine that stands still until [`Self::run`]. What comes of tries is written down by a task on
    /// `tracker`, which ends when the engine is gone.
    pub fn new(store: Store, options: Options, client: Client, tracker: &TaskTracker) -> Self {
        let (ended, receiver) = mpsc::unbounded_channel();
        let jumps = Mutex::new(Jumps::new(store.clock()));
        let shared = Arc::new(Shared {
            clock: store.clock().clone(),
            store,
            options,
            freed: Notify::new(),
            client,
            lanes: Mutex::default(),
            jumps,
            // All there from the start.
            attempts: Mutex::new(settler::WORDS.map(|word| (word, 0)).into()),
            exhausted: AtomicU64::default(),
            fenced: AtomicU64::default(),
            reclaimed: AtomicU64::default(),
            disabled: AtomicU64::default(),
            failing: AtomicU64::default(),
            recovered: AtomicU64::default(),
            cut: CancellationToken::new(),
        });
        let settler = settler::run(shared.clone(), receiver);
        tracker.spawn(settler.instrument(tracing::info_span!("delivery.settler")));
        Self { shared, ended, tries: TaskTracker::new() }
    }

    /// The client that calls endpoints.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// What was done since the start.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            attempts: shared.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            exhausted: shared.exhausted.load(Atomic::Relaxed),
            fenced: shared.fenced.load(Atomic::Relaxed),
            reclaimed: shared.reclaimed.load(Atomic::Relaxed),
            disabled: shared.disabled.load(Atomic::Relaxed),
            failing: shared.failing.load(Atomic::Relaxed),
            recovered: shared.recovered.load(Atomic::Relaxed),
            in_flight: shared.lanes().in_flight(),
        }
    }

    /// Sends what is owed, until it is stopped; then lets requests in progress come to their end.
    pub async fn run(self, stop: CancellationToken) {
        let mut bell = self.shared.store.writer().bell();
        if let Err(error) = self.recover().await {
            complain(&error);
        }
        self.tries.spawn(replays::run(self.shared.store.clone(), stop.clone()));
        let (mut check_at, mut upkeep_at) = (Duration::ZERO, Duration::ZERO);
        while !stop.is_cancelled() {
            let time = self.shared.clock.monotonic();
            if time >= upkeep_at {
                upkeep_at = time + UPKEEP;
                self.upkeep().await.unwrap_or_else(|error| complain(&error));
            }
            let all = time >= check_at;
            if all {
                check_at = time + CHECK;
            }
            let looked = self.look(all).await.unwrap_or_else(|error| {
                complain(&error);
                // A database that is away is asked again soon enough.
                Looked::default()
            });
            if looked.taken >= ROUND {
                continue;
            }
            let now = self.shared.clock.now();
            let wait = looked.wake.map_or(CHECK, |at| at.since(now).min(CHECK));
            let wait = wait.max(Duration::from_millis(5));
            if looked.wake.is_some() && wait < CHECK {
                check_at = check_at.min(time + wait);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = bell.changed() => {}
                () = self.shared.freed.notified() => {}
                () = self.shared.clock.sleep_until_monotonic(time + wait) => {}
            }
        }
        self.tries.close();
        if tokio::time::timeout(STOP_GRACE, self.tries.wait()).await.is_err() {
            self.shared.cut.cancel();
            self.tries.wait().await;
        }
    }

    /// Does all there is to do at this moment, and returns when nothing is under way any more. For tests.
    pub async fn drive(&self) -> Result<(), store::Error> {
        loop {
            let freed = self.shared.freed.notified();
            let looked = self.look(true).await?;
            if looked.taken == 0 && self.shared.lanes().in_flight() == 0 {
                return Ok(());
            }
            freed.await;
        }
    }

    /// Lets go of what this daemon was sending when it last ended.
    pub async fn recover(&self) -> Result<(), store::Error> {
        let let_go = self.shared.store.webhooks().recover(&self.shared.options.node).await?;
        self.count_reclaimed(let_go);
        Ok(())
    }

    /// Does what nobody asks for: leases of the dead, what is too old, what nobody will be told.
    pub async fn upkeep(&self) -> Result<(), store::Error> {
        self.mind_the_clock().await?;
        let webhooks = self.shared.store.webhooks();
        let under_way = self.shared.lanes().deliveries();
        self.count_reclaimed(webhooks.reclaim(&self.shared.options.node, &under_way).await?);
        self.shared.note(&webhooks.expire().await?);
        webhooks.cancel().await?;
        webhooks.mend_times().await?;
        webhooks.reorder_all().await?;
        webhooks.forget_figures().await?;
        self.shared.lanes().forget_idle(self.shared.clock.monotonic());
        Ok(())
    }

    /// Has the wall clock's being set keep nobody waiting and give nothing up.
    async fn mind_the_clock(&self) -> Result<(), store::Error> {
        let found = self.shared.jumps().look(&self.shared.clock);
        let Some(jump) = found else { return Ok(()) };
        let webhooks = self.shared.store.webhooks();
        let by = Duration::from_millis(jump.unsigned_abs());
        let count = if jump < 0 {
            webhooks.clock_went_back().await?
        } else {
            webhooks.clock_went_ahead(by).await?
        };
        tracing::warn!(
            webhook.deliveries = count,
            "The clock was set {} by {} s: what waits to be delivered was put right",
            if jump < 0 { "back" } else { "ahead" },
            by.as_secs()
        );
        self.shared.jumps().note(jump);
        Ok(())
    }

    fn count_reclaimed(&self, count: u64) {
        self.shared.reclaimed.fetch_add(count, Atomic::Relaxed);
        if count > 0 {
            tracing::info!(webhook.deliveries = count, "Sending {count} deliveries again");
        }
    }

    /// Takes what is due and may be sent, and begins to send it: of all endpoints, or of those that
    /// somebody rang for.
    async fn look(&self, all: bool) -> Result<Looked, store::Error> {
        self.mind_the_clock().await?;
        let webhooks = self.shared.store.webhooks();
        let mut rung: BTreeSet<EndpointId> = webhooks.take_touched();
        rung.append(&mut self.shared.lanes().dirty);
        if !all && rung.is_empty() {
            return Ok(Looked::default());
        }
        let only: Vec<_> = rung.into_iter().collect();
        let waiting = match webhooks.waiting((!all).then_some(&only)).await {
            Ok(waiting) => waiting,
            Err(error) => {
                // They are still to be looked at.
                self.shared.lanes().dirty.extend(only);
                return Err(error);
            }
        };
        let mut looked = Looked::default();
        let wanted = self.wanted(&waiting, &mut looked);
        if wanted.is_empty() {
            return Ok(looked);
        }
        let node = &self.shared.options.node;
        let claimed = webhooks.claim(node, &wanted, LEASE).await?;
        looked.taken = claimed.len();
        let mut targets: BTreeMap<EndpointId, Option<Arc<Target>>> = BTreeMap::new();
        {
            let mut lanes = self.shared.lanes();
            for claimed in &claimed {
                lanes.begin(&claimed.id, &claimed.endpoint_id, &claimed.organization_id);
            }
        }
        for claimed in claimed {
            let target = if let Some(target) = targets.get(&claimed.endpoint_id) {
                target.clone()
            } else {
                let version =
                    waiting.iter().find(|it| it.id == claimed.endpoint_id).map(|it| it.version);
                let target = self.target(&claimed.endpoint_id, version.unwrap_or(0)).await;
                targets.insert(claimed.endpoint_id.clone(), target.clone());
                target
            };
            let (shared, ended) = (self.shared.clone(), self.ended.clone());
            self.tries.spawn(async move {
                let was_set = shared.jumps().look(&shared.clock).is_some();
                let settled = match target {
                    None => postpone(claimed, shared.clock.now()),
                    // By a clock that was set just now it may seem to be too old.
                    Some(_) if was_set => release(claimed),
                    Some(target) => {
                        let kept = claimed.clone();
                        tokio::select! {
                            biased;
                            () = shared.cut.cancelled() => release(kept),
                            settled = attempt(&shared.client, &target, claimed, &shared.clock) => settled,
                        }
                    }
                };
                // The settler ends after all that could send to it.
                ended.send(settled).ok();
            });
        }
        Ok(looked)
    }

    /// How much is to be taken for each endpoint.
    fn wanted(&self, waiting: &[Waiting], looked: &mut Looked) -> Vec<Claiming> {
        let now = self.shared.clock.now();
        let time = self.shared.clock.monotonic();
        let daemons = self.shared.options.daemons.load(Atomic::Relaxed).max(1);
        let daemons = u32::try_from(daemons).unwrap_or(u32::MAX);
        let mut lanes = self.shared.lanes();
        let mut open: Vec<(&Waiting, bool)> = Vec::new();
        let mut wants = Vec::new();
        for endpoint in waiting {
            lanes.learn_failures(&endpoint.id, endpoint.consecutive_failures);
            if endpoint.next_at > now.0 {
                looked.wakes_at(UnixMillis(endpoint.next_at));
                continue;
            }
            let under_way = lanes.in_flight_of(&endpoint.id);
            let breaker = breaker(endpoint.consecutive_failures, endpoint.hold_until, now);
            let places = match breaker {
                Breaker::Open => {
                    endpoint.hold_until.iter().for_each(|until| looked.wakes_at(*until));
                    0
                }
                Breaker::HalfOpen => usize::from(under_way == 0),
                Breaker::Closed => places(endpoint, under_way),
            };
            if places == 0 {
                continue;
            }
            let (allowed, wait) = lanes.allowance(
                &endpoint.id,
                &endpoint.organization_id,
                endpoint.rate_per_second.map(|rate| f64::from(rate.max(1)) / f64::from(daemons)),
                time,
            );
            if allowed == 0 {
                looked.wakes_at(now + wait);
                continue;
            }
            open.push((endpoint, breaker == Breaker::HalfOpen));
            wants.push(Want {
                organization: endpoint.organization_id.clone(),
                places: places.min(allowed),
            });
        }
        let all = self.shared.options.concurrency.max(1);
        let free = all.saturating_sub(lanes.in_flight()).min(ROUND);
        let given = allot(&wants, lanes.held(), all, free, lanes.round);
        // What gave nothing was nobody's turn.
        lanes.round = lanes.round.wrapping_add(usize::from(given.iter().any(|it| *it > 0)));
        let mut claiming = Vec::new();
        for (((endpoint, probe), want), limit) in open.into_iter().zip(&wants).zip(given) {
            if limit < want.places {
                // Places will be free again before anybody rings for it.
                lanes.dirty.insert(endpoint.id.clone());
            }
            if limit > 0 {
                claiming.push(Claiming {
                    endpoint: endpoint.id.clone(),
                    ordering: endpoint.ordering,
                    limit,
                    shared: (daemons > 1)
                        .then(|| places(endpoint, lanes.in_flight_of(&endpoint.id))),
                    probe,
                });
            }
        }
        claiming
    }

    /// What calling an endpoint takes; none when it is not to be had.
    async fn target(&self, id: &EndpointId, version: i64) -> Option<Arc<Target>> {
        if let Some(target) = self.shared.lanes().target(id, version) {
            return Some(target);
        }
        match self.shared.store.webhooks().target(id).await {
            Ok(target) => {
                let target = Arc::new(target?);
                self.shared.lanes().learn_target(&target);
                Some(target)
            }
            Err(error) => {
                complain(&error);
                None
            }
        }
    }

    /// Sends an event to an endpoint here and now, whatever its breaker says. Nothing is written down.
    pub async fn try_out(&self, target: &Target, event: &event::Model) -> Reply {
        let payload = body(target.row.format, event, target.client_id);
        let now = || self.shared.clock.now();
        send(&self.shared.client, target, event.id.as_str(), payload, now).await
    }
}

/// How many more requests an endpoint may have at a time than are under way.
fn places(endpoint: &Waiting, under_way: usize) -> usize {
    usize::try_from(endpoint.max_in_flight).unwrap_or(1).saturating_sub(under_way)
}

fn complain(error: &store::Error) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "Webhook deliveries have to wait for the database"
    );
}
