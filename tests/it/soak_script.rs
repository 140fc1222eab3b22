//! What goes wrong in the soak, and when: random faults, and one at least of each kind.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wagate_simulator::{Chaos, Fault, Lasting, Scope, Script, Step, Trouble};

/// How far time is moved at once: while nothing lasts, and while something does, so that it is met.
const STEP: Duration = Duration::from_secs(30);
const SHORT_STEP: Duration = Duration::from_secs(3);

/// The plan of one half.
pub(crate) struct Plan {
    pub(crate) script: Script,
    /// From when to when something lasts, on the script's clock, in milliseconds.
    lasting: Vec<(u64, u64)>,
    end: u64,
}

/// Troubles that pass by themselves; what lasts does so for several short steps.
pub(crate) fn troubles() -> Vec<Trouble> {
    let mut troubles = Trouble::passing();
    for trouble in &mut troubles {
        if let Lasting::Millis(_) = trouble.lasting {
            let seconds = if trouble.fault == Fault::Outage { 15 } else { 20 };
            *trouble = trouble.clone().lasting(seconds * 1_000);
        }
    }
    troubles
}

impl Plan {
    /// For these accounts: a fault each so often on average, for so long.
    pub(crate) fn new(seed: u64, accounts: &[String], between: Duration, during: Duration) -> Self {
        let (between, end) = (millis(between), millis(during));
        let chaos =
            Chaos { troubles: troubles(), ..Chaos::new(seed, accounts.to_vec(), between, end) };
        let mut script = chaos.script();
        let mut random = StdRng::seed_from_u64(seed);
        let kinds = troubles().len() as u64;
        for (n, trouble) in (1..).zip(troubles()) {
            let account = accounts[random.random_range(0..accounts.len())].clone();
            let account = Scope::Account(account);
            let scope = if trouble.everyone { Scope::Everyone } else { account.clone() };
            let at = end * n / (kinds + 1);
            // Somebody dials while it is there.
            if matches!(trouble.fault, Fault::SilentHandshake | Fault::RefuseUpgrade { .. }) {
                script = script.then(at + 1_000, Fault::Drop, account, Lasting::Once);
            }
            script = script.then(at, trouble.fault, scope, trouble.lasting);
        }
        let lasts = |step: &Step| match step.lasting {
            Lasting::Millis(millis) => Some((step.after, step.after + millis)),
            _ => None,
        };
        let mut lasting: Vec<_> = script.steps.iter().filter_map(lasts).collect();
        lasting.sort_unstable();
        Self { script, lasting, end }
    }

    /// How far to move next, from `now`; none when it is over.
    pub(crate) fn step(&self, now: Duration) -> Option<Duration> {
        let now = millis(now);
        if now >= self.end {
            return None;
        }
        let on = self.lasting.iter().any(|(begin, end)| (*begin..*end).contains(&now));
        let step = millis(if on { SHORT_STEP } else { STEP });
        // Up to where something that lasts begins, and not past it.
        let next = self.lasting.iter().map(|(begin, _)| *begin).find(|begin| *begin > now);
        let step = next.map_or(step, |begin| step.min(begin - now));
        Some(Duration::from_millis(step))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
