//! Scripts at work: faults begin and end by a clock of the script's own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use super::Hub;
use crate::fault::{FaultId, Lasting, Script, Step};
use crate::locked;

/// A script that is being played. Clones share it; dropping them does not end it.
#[derive(Clone, Debug)]
pub struct Play(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    hub: Arc<Hub>,
    stage: Mutex<Stage>,
    stopped: CancellationToken,
    over: CancellationToken,
}

#[derive(Debug)]
struct Stage {
    /// Milliseconds since the beginning.
    now: u64,
    /// What is to come, the next one first.
    steps: VecDeque<Step>,
    /// What ends at what time.
    ends: Vec<(u64, FaultId)>,
}

impl Stage {
    fn next(&self) -> Option<u64> {
        let begins = self.steps.front().map(|step| step.after);
        let ends = self.ends.iter().map(|(at, _)| *at).min();
        begins.into_iter().chain(ends).min()
    }
}

impl Play {
    /// A number no other script of this simulator has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The script's clock.
    pub async fn position(&self) -> Duration {
        Duration::from_millis(self.0.stage.lock().await.now)
    }

    /// Steps that are still to come.
    pub async fn left(&self) -> usize {
        self.0.stage.lock().await.steps.len()
    }

    /// When on the script's clock something begins or ends next.
    pub async fn next_at(&self) -> Option<Duration> {
        self.0.stage.lock().await.next().map(Duration::from_millis)
    }

    /// Moves the script's clock. Whatever is due by then begins and ends, in order; returns what
    /// began. Connections that a step ends are over when this returns.
    pub async fn advance(&self, by: Duration) -> Vec<Step> {
        let mut stage = self.0.stage.lock().await;
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let target = stage.now.saturating_add(by);
        let begun = self.advance_to(&mut stage, target).await;
        stage.now = stage.now.max(target);
        begun
    }

    async fn advance_to(&self, stage: &mut Stage, target: u64) -> Vec<Step> {
        let mut begun = Vec::new();
        while let Some(next) = stage.next().filter(|next| *next <= target) {
            if self.0.stopped.is_cancelled() {
                break;
            }
            stage.now = next;
            for (_, id) in stage.ends.extract_if(.., |(at, _)| *at <= next) {
                self.0.hub.faults.lift(id);
            }
            while stage.steps.front().is_some_and(|step| step.after <= next) {
                let Some(step) = stage.steps.pop_front() else { break };
                let (lasting, ends) = match step.lasting {
                    Lasting::Millis(millis) => {
                        (Lasting::UntilCleared, Some(next.saturating_add(millis)))
                    }
                    lasting => (lasting, None),
                };
                let hub = &self.0.hub;
                let armed = hub.inflict(step.scope.clone(), step.fault.clone(), lasting).await;
                stage.ends.extend(ends.zip(armed));
                begun.push(step);
            }
        }
        if stage.next().is_none() {
            self.conclude();
        }
        begun
    }

    /// Waits until everything has begun, and what lasts a time has ended.
    pub async fn finished(&self) {
        self.0.over.cancelled().await;
    }

    /// Ends the script before its time, with whatever of it still lasts.
    pub async fn stop(&self) {
        self.0.stopped.cancel();
        let mut stage = self.0.stage.lock().await;
        stage.steps.clear();
        for (_, id) in stage.ends.drain(..) {
            self.0.hub.faults.lift(id);
        }
        self.conclude();
    }

    /// Off the list first: whoever waits for the end finds it gone.
    fn conclude(&self) {
        locked(&self.0.hub.plays).retain(|play| play.id() != self.id());
        self.0.over.cancel();
    }

    async fn by_the_clock(self) {
        let start = Instant::now();
        while let Some(next) = self.next_at().await {
            let Some(due) = start.checked_add(next) else { return };
            if self.0.stopped.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
                return;
            }
            self.advance(next.saturating_sub(self.position().await)).await;
        }
        self.conclude();
    }
}

impl Hub {
    /// Prepares a script; its clock stands still until somebody moves it.
    pub(crate) fn stage(self: &Arc<Self>, script: Script) -> Play {
        let mut steps = script.steps;
        steps.sort_by_key(|step| step.after);
        let over = CancellationToken::new();
        if steps.is_empty() {
            over.cancel();
        }
        let stage = Stage { now: 0, steps: steps.into(), ends: Vec::new() };
        let play = Play(Arc::new(Inner {
            id: self.number(),
            hub: Arc::clone(self),
            stage: Mutex::new(stage),
            stopped: self.stopped.child_token(),
            over,
        }));
        locked(&self.plays).push(play.clone());
        play
    }

    /// Plays a script in real time.
    pub(crate) fn play(self: &Arc<Self>, script: Script) -> Play {
        let play = self.stage(script);
        self.spawn(info_span!("script", id = play.id()), play.clone().by_the_clock());
        play
    }
}
