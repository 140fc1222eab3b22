//! Scripts at random, the same for the same seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{Fault, Lasting, Scope, Script};

/// What a random script is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chaos {
    /// The same seed and the same rest make the same script.
    pub seed: u64,
    /// Whom faults befall, by phone number, one at a time.
    pub accounts: Vec<String>,
    /// Milliseconds from one fault to the next, on average.
    pub mean_millis: u64,
    /// Milliseconds until the last one.
    pub during_millis: u64,
    /// What may happen.
    #[serde(default = "Trouble::passing")]
    pub troubles: Vec<Trouble>,
}

/// A fault that may happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// How often it happens, compared with the others.
    pub weight: u32,
    /// What it is.
    #[serde(flatten)]
    pub fault: Fault,
    /// For how long.
    #[serde(default)]
    pub lasting: Lasting,
    /// Whether it befalls everyone rather than one account.
    #[serde(default)]
    pub everyone: bool,
}

impl Trouble {
    /// A fault for one account, once.
    pub fn new(weight: u32, fault: Fault) -> Self {
        Self { weight, fault, lasting: Lasting::Once, everyone: false }
    }

    /// For so many milliseconds.
    #[must_use]
    pub fn lasting(mut self, millis: u64) -> Self {
        self.lasting = Lasting::Millis(millis);
        self
    }

    /// For everyone.
    #[must_use]
    pub fn for_everyone(mut self) -> Self {
        self.everyone = true;
        self
    }

    /// Troubles that pass by themselves: after each of them a client can be back, with nothing
    /// lost. What unlinks, bans, or needs somebody's hand is not among them.
    pub fn passing() -> Vec<Self> {
        let stream_error = |code: Option<u16>, child: Option<&str>| Fault::StreamError {
            code,
            child: child.map(str::to_owned),
            stays_open: false,
        };
        vec![
            Self::new(30, Fault::Drop),
            Self::new(4, Fault::BlackHole),
            Self::new(4, Fault::SilentHandshake),
            Self::new(6, stream_error(Some(503), None)),
            Self::new(2, stream_error(Some(429), None)),
            Self::new(4, stream_error(Some(515), None)),
            Self::new(4, stream_error(None, Some("xml-not-well-formed"))),
            Self::new(2, stream_error(Some(599), None)),
            Self::new(4, Fault::Failure { reason: 500 }),
            Self::new(4, Fault::Failure { reason: 503 }),
            Self::new(4, Fault::Slow { millis: 100 }).lasting(3_000),
            Self::new(8, Fault::DuplicateDelivery),
            Self::new(4, Fault::ReorderDelivery),
            Self::new(4, Fault::CorruptCiphertext),
            Self::new(4, Fault::LoseAck),
            Self::new(2, Fault::RefuseUpgrade { status: 503, retry_after: None })
                .lasting(2_000)
                .for_everyone(),
            Self::new(2, Fault::RefuseUpgrade { status: 429, retry_after: Some(2) })
                .lasting(2_000)
                .for_everyone(),
            Self::new(1, Fault::Outage).lasting(5_000).for_everyone(),
        ]
    }
}

impl Chaos {
    /// Passing troubles for these accounts.
    pub fn new(seed: u64, accounts: Vec<String>, mean_millis: u64, during_millis: u64) -> Self {
        let troubles = Trouble::passing();
        Self { seed, accounts, mean_millis, during_millis, troubles }
    }

    /// The script: exponential gaps, as of events that know nothing of each other.
    ///
    /// Nothing happens without a trouble that has weight, and to one account without accounts.
    pub fn script(&self) -> Script {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut script = Script::default();
        let usable = |it: &&Trouble| it.weight > 0 && (it.everyone || !self.accounts.is_empty());
        let troubles: Vec<_> = self.troubles.iter().filter(usable).collect();
        let all: u64 = troubles.iter().map(|it| u64::from(it.weight)).sum();
        if all == 0 {
            return script;
        }
        let mut at = 0;
        loop {
            at += gap(&mut rng, self.mean_millis);
            if at > self.during_millis {
                return script;
            }
            let mut drawn = rng.random_range(0..all);
            let mut hit = troubles.iter().filter(|it| {
                let weight = u64::from(it.weight);
                let is_hit = drawn < weight;
                drawn = drawn.wrapping_sub(weight);
                is_hit
            });
            let Some(trouble) = hit.next() else { continue };
            let scope = if trouble.everyone {
                Scope::Everyone
            } else {
                Scope::Account(self.accounts[rng.random_range(0..self.accounts.len())].clone())
            };
            script = script.then(at, trouble.fault.clone(), scope, trouble.lasting);
        }
    }
}

/// At least a millisecond, so that a script has an end.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "milliseconds of a test, far below what an f64 counts exactly"
)]
fn gap(rng: &mut StdRng, mean: u64) -> u64 {
    let uniform: f64 = rng.random();
    (-(1.0 - uniform).ln() * mean as f64).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chaos(seed: u64) -> Chaos {
        Chaos::new(seed, (0..5).map(|n| format!("1555000000{n}")).collect(), 1_000, 3_600_000)
    }

    #[test]
    fn a_seed_makes_one_script_and_another_seed_another() {
        assert_eq!(chaos(7).script(), chaos(7).script());
        assert_ne!(chaos(7).script(), chaos(8).script());
    }

    #[test]
    fn faults_come_as_often_as_they_weigh_and_never_too_late() {
        let script = chaos(1).script();
        let steps = &script.steps;
        assert!((3_000..4_200).contains(&steps.len()), "{}", steps.len());
        assert!(steps.is_sorted_by_key(|step| step.after));
        assert!(steps.iter().all(|step| step.after <= 3_600_000));
        let drops = steps.iter().filter(|step| step.fault == Fault::Drop).count();
        let outages: Vec<_> = steps.iter().filter(|step| step.fault == Fault::Outage).collect();
        assert!(drops > 10 * outages.len() && !outages.is_empty(), "{drops} {}", outages.len());
        assert!(outages.iter().all(|step| step.scope == Scope::Everyone));
        assert!(outages.iter().all(|step| step.lasting == Lasting::Millis(5_000)));
    }

    #[test]
    fn nobody_to_befall_and_nothing_to_happen_make_an_empty_script() {
        let mut nobody = chaos(1);
        nobody.accounts.clear();
        nobody.troubles.retain(|it| !it.everyone);
        assert!(nobody.script().steps.is_empty());
        let nothing = Chaos { troubles: Vec::new(), ..chaos(1) };
        assert!(nothing.script().steps.is_empty());
    }
}
