//! What goes wrong in the soak, and when: random faults, and one at least of each kind.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use wagate_simulator::{Chaos, DeviceKey, Fault, Lasting, Scope, Script, Trouble};

/// How far time is moved at once: while nothing lasts, and while something does, so that it is met.
const STEP: Duration = Duration::from_secs(30);
const SHORT_STEP: Duration = Duration::from_secs(3);

/// The plan of one half.
pub(crate) struct Plan {
    pub(crate) script: Script,
    /// One of each kind, and when: whoever is connected then meets it.
    sure: VecDeque<(u64, Trouble)>,
    random: StdRng,
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
        let script = chaos.script();
        let kinds = troubles().len() as u64;
        let at = (1..).map(|n| end * n / (kinds + 1));
        let sure: VecDeque<_> = at.zip(troubles()).collect();
        let lasts = |(at, lasting): (u64, Lasting)| match lasting {
            Lasting::Millis(millis) => Some((at, at + millis)),
            _ => None,
        };
        let of_script = script.steps.iter().map(|step| (step.after, step.lasting));
        let of_sure = sure.iter().map(|(at, trouble)| (*at, trouble.lasting));
        let mut lasting: Vec<_> = of_script.chain(of_sure).filter_map(lasts).collect();
        lasting.sort_unstable();
        Self { script, sure, random: StdRng::seed_from_u64(seed), lasting, end }
    }

    /// What is sure to happen next, if that is by `now`, to one of those who are connected.
    pub(crate) fn sure(&mut self, now: Duration, online: &[DeviceKey]) -> Option<Script> {
        let is_due = |(at, _): &mut (u64, Trouble)| *at <= millis(now) && !online.is_empty();
        let (_, trouble) = self.sure.pop_front_if(is_due)?;
        let Trouble { fault, lasting, everyone, .. } = trouble;
        let account = online[self.random.random_range(0..online.len())].pn.to_string();
        let account = Scope::Account(account);
        let scope = if everyone { Scope::Everyone } else { account.clone() };
        let mut script = Script::default();
        // Somebody dials while it is there.
        if matches!(fault, Fault::SilentHandshake | Fault::RefuseUpgrade { .. }) {
            script = script.then(1_000, Fault::Drop, account, Lasting::Once);
        }
        Some(script.then(0, fault, scope, lasting))
    }

    /// How far to move next, from `now`; none when it is over.
    pub(crate) fn step(&self, now: Duration) -> Option<Duration> {
        let now = millis(now);
        if now >= self.end {
            return None;
        }
        let on = self.lasting.iter().any(|(begin, end)| (*begin..*end).contains(&now));
        let step = millis(if on { SHORT_STEP } else { STEP });
        // Up to where something begins that lasts or is sure to happen, and not past it.
        let begin = self.lasting.iter().map(|(begin, _)| *begin).find(|begin| *begin > now);
        let sure = self.sure.iter().map(|(at, _)| *at).find(|at| *at > now);
        let next = begin.into_iter().chain(sure).min();
        let step = next.map_or(step, |begin| step.min(begin - now));
        Some(Duration::from_millis(step))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
