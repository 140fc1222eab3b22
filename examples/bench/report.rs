//! What a benchmark found out, for people and for programs.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;

/// The findings of one benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    /// What was done, in words.
    what: String,
    /// What the baseline is.
    baseline: &'static str,
    machine: Machine,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// One finding.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
    baseline: Option<f64>,
    /// The value in terms of the baseline.
    ratio: Option<f64>,
    aim: Option<Aim>,
}

/// What it should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    RatioAtMost(f64),
}

impl Aim {
    fn is_met(self, value: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {}", number(*least)),
            Self::AtMost(most) => write!(f, "at most {}", number(*most)),
            Self::RatioAtMost(most) => write!(f, "ratio at most {}", number(*most)),
        }
    }
}

impl Report {
    pub(crate) fn new(bench: &'static str, what: String, baseline: &'static str) -> Self {
        let machine = Machine::here();
        Self { bench, what, baseline, machine, figures: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure, beside the baseline's.
    pub(crate) fn figure(
        &mut self,
        name: &'static str,
        unit: &'static str,
        value: f64,
        baseline: impl Into<Option<f64>>,
        aim: impl Into<Option<Aim>>,
    ) {
        let baseline = baseline.into();
        let ratio = baseline.filter(|it| it.abs() > f64::EPSILON).map(|it| value / it);
        self.figures.push(Figure { name, unit, value, baseline, ratio, aim: aim.into() });
    }

    /// Adds a sentence.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The whole report as one line of JSON.
    pub(crate) fn json(&self) -> Value {
        json!(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.bench, self.what)?;
        writeln!(f, "baseline: {}", self.baseline)?;
        writeln!(f, "machine: {}\n", self.machine)?;
        writeln!(f, "{:<46}{:>12}{:>12}{:>8}  aim", "", "wagate", "baseline", "ratio")?;
        for Figure { name, unit, value, baseline, ratio, aim } in &self.figures {
            let what = if unit.is_empty() { (*name).to_owned() } else { format!("{name}, {unit}") };
            let shown = |number: &Option<f64>| number.map_or_else(|| "-".to_owned(), self::number);
            let (value_shown, baseline) = (number(*value), shown(baseline));
            let ratio_shown = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let aim = aim.map_or_else(String::new, |aim| {
                let word = if aim.is_met(*value, *ratio) { "met" } else { "missed" };
                format!("{aim}: {word}")
            });
            let line = format!("{what:<46}{value_shown:>12}{baseline:>12}{ratio_shown:>8}  {aim}");
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

/// As many digits as say something.
fn number(number: f64) -> String {
    if number.abs() >= 100.0 || number.fract().abs() < 1e-9 {
        format!("{number:.0}")
    } else if number.abs() >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// A count as a figure. Counts here are far below the first one that a float cannot hold.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}
