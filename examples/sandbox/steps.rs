//! The steps of a story: each printed with the time it took, each with a limit.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::failure::{Chain, Failure};

/// A step waits for what the daemon does within seconds, on a machine that has other work.
const DEADLINE: Duration = Duration::from_mins(1);

/// The step that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {}", Chain(failure))]
pub(crate) struct Failed {
    step: &'static str,
    failure: Failure,
}

/// What was done so far.
pub(crate) struct Steps {
    begun: Instant,
    done: u32,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), done: 0 }
    }

    /// Does a step, and says so.
    pub(crate) async fn run<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failed> {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(DEADLINE, Box::pin(work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Deadline(DEADLINE)),
        };
        self.done += 1;
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{:>3}  {verdict:<6} {:>7} ms  {step}", self.done, begun.elapsed().as_millis());
        outcome.map_err(|failure| Failed { step, failure })
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps, all ok, in {:.1} s", self.done, self.begun.elapsed().as_secs_f64())
    }
}
