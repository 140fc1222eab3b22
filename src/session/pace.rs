//! How fast sessions dial, all together.
//!
//! WhatsApp limits what comes from one address, and a thousand handshakes at once would starve the
//! sessions that are connected already. So dials begin at a rate, moved a little each so that several
//! gateways do not march in step, and only so many are under way at a time. Who waits is served by
//! rank: what an operator asks for first, then the sessions that were active last.
//!
//! When WhatsApp asks for fewer dials (429), all of them pause until the time it names, and go on at
//! half the rate. Each further time halves it again, down to a sixteenth; every twenty dials that
//! succeed double it, up to what is configured. Who waits for a turn meanwhile gets none, but is told
//! until when. The first few dials that an operator asks for do not wait for the end of a pause, as a person who presses a
//! button is no storm; more than that in one pause are a script, and wait like everybody else.
//!
//! All of it goes by the clock that nobody sets.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entity::UnixMillis;
use tokio::sync::Notify;

use crate::clock::Clock;

/// How often the rate may be halved.
const MOST_HALVINGS: u32 = 4;

/// Dials that must succeed before it is doubled again.
const DIALS_PER_DOUBLING: u32 = 20;

/// Dials on top of the limit that only an operator's request may use: it never waits for the
/// timeouts of others.
const RESERVED: u32 = 4;

/// Dials in one pause that an operator's request begins all the same.
const URGENT_IN_PAUSE: u32 = 3;

/// How far the schedule may lag behind the clock before it starts anew, in microseconds: a late timer
/// costs nothing of the rate, an idle hour saves up no burst.
const LAG: i64 = 20_000;

/// Who is served first, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Not what an operator asked for.
    routine: bool,
    /// When the session was last active; never comes last.
    last_active: Reverse<Option<UnixMillis>>,
}

impl Rank {
    /// A dial that an operator asked for.
    pub(super) const fn operator() -> Self {
        Self { routine: false, last_active: Reverse(None) }
    }

    /// A dial of a session that was last active then.
    pub(super) const fn routine(last_active: Option<UnixMillis>) -> Self {
        Self { routine: true, last_active: Reverse(last_active) }
    }
}

/// Lets sessions dial in turn. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    at_once: u32,
    /// Between two dials at the full rate, in microseconds.
    interval: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits, the next one first. The number keeps those of one rank in order.
    waiting: BTreeMap<(Rank, u64), Arc<Notify>>,
    numbers: u64,
    under_way: u32,
    /// When the next dial may begin, in microseconds.
    next: i64,
    /// No routine dial begins before, and few that somebody asked for.
    paused_until: Option<Duration>,
    /// Dials that an operator asked for since that pause began.
    urgent_in_pause: u32,
    halvings: u32,
    successes: u32,
    /// Turns given since the process began.
    begun: u64,
    /// Of those, how many after a loss.
    again: u64,
    /// Nobody has a turn any more.
    closed: bool,
}

/// How much is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialStats {
    /// Dials begun since the process began.
    pub begun: u64,
    /// Of those, dials after a connection was lost, or came to nothing in a way that may mend by itself.
    pub again: u64,
    /// Sessions that wait for their turn.
    pub waiting: u64,
    /// Sessions that are dialling.
    pub under_way: u64,
}

/// There is no turn: dials of this rank wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paused {
    /// Until this time of the day, for people.
    pub(super) until: UnixMillis,
    /// Until [`Clock::monotonic`] has come to this.
    pub(super) due: Duration,
}

/// The right to be dialling. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    pace: Pace,
}

impl Pace {
    pub(super) fn new(clock: Clock, at_once: u32, per_second: u32) -> Self {
        Self(Arc::new(Inner {
            clock,
            at_once: at_once.max(1),
            interval: 1_000_000 / i64::from(per_second.max(1)),
            state: Mutex::default(),
        }))
    }

    /// Waits for a turn. Comes back without one as soon as such dials pause, so that the session can say so.
    pub(super) async fn turn(&self, rank: Rank) -> Result<Permit, Paused> {
        let place = Place::take(self, rank);
        loop {
            // Registered before looking, so that nothing in between is missed.
            let woken = place.bell.notified();
            match self.look(&place) {
                Turn::Now => return Ok(Permit { pace: self.clone() }),
                Turn::Paused(paused) => return Err(paused),
                Turn::At(at) => tokio::select! {
                    () = self.0.clock.sleep_until_monotonic(at) => {}
                    () = woken => {}
                },
                Turn::Later => woken.await,
            }
        }
    }

    /// Counts a turn as one that was taken after a loss.
    pub(super) fn counts_again(&self) {
        self.lock().again += 1;
    }

    /// Gives no turn any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// WhatsApp wants no dials before this time.
    pub(super) fn slow_down(&self, until: UnixMillis) {
        let due = self.0.clock.when(until);
        let mut state = self.lock();
        let paused = state.paused_until.is_some_and(|due| self.0.clock.monotonic() < due);
        // Those that were under way when the first one was told so hear the same.
        if !paused {
            state.halvings = (state.halvings + 1).min(MOST_HALVINGS);
            state.urgent_in_pause = 0;
        }
        state.successes = 0;
        state.paused_until = state.paused_until.max(Some(due));
        for ((rank, _), bell) in &state.waiting {
            if rank.routine {
                bell.notify_one();
            }
        }
        tracing::warn!(
            seconds = until.since(self.0.clock.now()).as_secs(),
            "WhatsApp asks for fewer connections: all dials wait"
        );
    }

    /// Until when dials of this rank wait, if they do.
    pub(super) fn paused(&self, rank: Rank) -> Option<Paused> {
        self.pause_of(&self.lock(), rank)
    }

    fn pause_of(&self, state: &State, rank: Rank) -> Option<Paused> {
        let waits = rank.routine || state.urgent_in_pause >= URGENT_IN_PAUSE;
        self.pause(state.paused_until.filter(|_| waits)?)
    }

    /// The pause that ends then, unless it is over.
    fn pause(&self, due: Duration) -> Option<Paused> {
        let left = due.checked_sub(self.0.clock.monotonic()).filter(|left| !left.is_zero())?;
        Some(Paused { until: self.0.clock.now() + left, due })
    }

    pub(super) fn stats(&self) -> DialStats {
        let state = self.lock();
        DialStats {
            begun: state.begun,
            again: state.again,
            waiting: state.waiting.len() as u64,
            under_way: state.under_way.into(),
        }
    }

    fn look(&self, place: &Place<'_>) -> Turn {
        let mut state = self.lock();
        let routine = place.key.0.routine;
        if state.closed {
            return Turn::Later;
        }
        if let Some(paused) = self.pause_of(&state, place.key.0) {
            return Turn::Paused(paused);
        }
        if state.waiting.first_key_value().is_some_and(|(first, _)| *first != place.key) {
            return Turn::Later;
        }
        let limit = if routine { self.0.at_once } else { self.0.at_once + RESERVED };
        if state.under_way >= limit {
            return Turn::Later;
        }
        let micros = i64::try_from(self.0.clock.monotonic().as_micros()).unwrap_or(i64::MAX / 2);
        let interval = self.0.interval << state.halvings;
        // Not farther ahead than the present rate puts it: it may have been a slower one.
        state.next = state.next.min(micros + 2 * interval);
        // Timers count milliseconds: what is due within this one is due.
        if state.next > micros + 999 {
            return Turn::At(Duration::from_millis(u64::try_from(state.next / 1000).unwrap_or(0)));
        }
        let moved = interval / 2 + rand::random_range(0..=interval);
        let next = state.next.max(micros - LAG) + moved;
        // What is made up for is made up for over several dials: no two are closer than half.
        state.next = next.max(micros + interval / 2);
        state.under_way += 1;
        state.begun += 1;
        if state.paused_until.is_some_and(|due| self.pause(due).is_some()) {
            state.urgent_in_pause += 1;
        }
        state.waiting.remove(&place.key);
        state.wake_first();
        Turn::Now
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_first(&self) {
        if let Some((_, bell)) = self.waiting.first_key_value() {
            bell.notify_one();
        }
    }
}

/// What a look at the queue has come to.
enum Turn {
    Now,
    Paused(Paused),
    /// Not before [`Clock::monotonic`] has come to this.
    At(Duration),
    /// When somebody rings.
    Later,
}

/// A place in the queue; given up when it is dropped.
struct Place<'a> {
    pace: &'a Pace,
    key: (Rank, u64),
    bell: Arc<Notify>,
}

impl<'a> Place<'a> {
    fn take(pace: &'a Pace, rank: Rank) -> Self {
        let mut state = pace.lock();
        state.numbers += 1;
        let (key, bell) = ((rank, state.numbers), Arc::new(Notify::new()));
        state.waiting.insert(key, Arc::clone(&bell));
        Self { pace, key, bell }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        if state.waiting.remove(&self.key).is_some() {
            state.wake_first();
        }
    }
}

impl Permit {
    /// The dial has led to a connection.
    pub(super) fn succeeded(self) {
        let mut state = self.pace.lock();
        if state.halvings > 0 {
            state.successes += 1;
            if state.successes >= DIALS_PER_DOUBLING {
                state.successes = 0;
                state.halvings -= 1;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.wake_first();
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
