//! Deliveries to a local receiver: how many a second, and how long after the commit each arrives; with
//! and without an endpoint that is dead and owed a hundred thousand.
//!
//! Organizations have three endpoints each, and every event goes to all of them. The dead one belongs to
//! the first of them, is owed all its events, too, and takes connections without ever answering.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use tokio::time::Instant;

use crate::{
    Size,
    child::Child,
    databases,
    failure::Failure,
    hooks_role::{Arguments, Ask, Commit},
    receiver::{Arrival, Ask as Received},
    report::{Aim, Report, count},
};

/// Organizations, and endpoints of each: 99 that live.
const TENANTS: usize = 33;
const EACH: usize = 3;

/// What the dead one is owed.
const OWED: usize = 100_000;

/// Deliveries a second that are aimed at.
const AIM: f64 = 2000.0;

/// How long half of that is kept up for.
const STEADY: Duration = Duration::from_secs(15);

/// Longer than a delivery takes that is not lost.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is said of one database.
struct Names {
    rate: &'static str,
    cpu: &'static str,
    usual: &'static str,
    slow: &'static str,
    /// The same, held against what it is without a dead endpoint.
    slowed: &'static str,
}

const SQLITE: Names = Names {
    rate: "SQLite: deliveries per second",
    cpu: "SQLite: CPU time per delivery",
    usual: "SQLite: commit to receipt, half load, p50",
    slow: "SQLite: commit to receipt, half load, p99",
    slowed: "SQLite: p99 beside a dead endpoint, and without",
};

const POSTGRES: Names = Names {
    rate: "PostgreSQL: deliveries per second",
    cpu: "PostgreSQL: CPU time per delivery, ours",
    usual: "PostgreSQL: commit to receipt, half load, p50",
    slow: "PostgreSQL: commit to receipt, half load, p99",
    slowed: "PostgreSQL: p99 beside a dead endpoint, and without",
};

/// What was seen in one state of things.
#[derive(Debug, Default)]
struct Seen {
    rates: Vec<f64>,
    cpu: Vec<f64>,
    /// Milliseconds from commit to receipt.
    waits: Vec<f64>,
}

impl Seen {
    fn rate(&self) -> f64 {
        mean(&self.rates)
    }

    fn within(&mut self, per_mille: usize) -> f64 {
        self.waits.sort_by(f64::total_cmp);
        let place = self.waits.len() * per_mille / 1000;
        self.waits.get(place.min(self.waits.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len().max(1) as u64)
}

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let deliveries = size.messages_or(20_000);
    let directory = size.directory()?;
    let mut report = Report::new(
        "webhooks",
        format!(
            "{deliveries} deliveries to {} endpoints of {TENANTS} organizations; \
             one more is dead and owed {OWED}",
            TENANTS * EACH
        ),
        "the same without the dead one",
    );
    let state = directory.path().join("sqlite");
    measure(&mut report, &SQLITE, state, None, deliveries).await?;
    match databases::cluster(size).await {
        Ok(cluster) => {
            databases::create(&cluster, &["webhooks"]).await?;
            let state = directory.path().join("postgres");
            measure(&mut report, &POSTGRES, state, Some(cluster.url("webhooks")), deliveries)
                .await?;
        }
        Err(missing) => report.note(missing.to_string()),
    }
    report.note("The receiver and the database are on the same cores.");
    Ok(report)
}

async fn measure(
    report: &mut Report,
    names: &Names,
    state_dir: PathBuf,
    database: Option<String>,
    deliveries: usize,
) -> Result<(), Failure> {
    let receiver = Child::spawn("role-receiver", [])?;
    let address = receiver.ask(&Received::Address).await?;
    let arguments = Arguments { state_dir, database };
    let gateway = Child::spawn("role-hooks", arguments.to_line())?;
    let prepare = Ask::Prepare { receiver: address, organizations: TENANTS, endpoints: EACH };
    let () = gateway.ask(&prepare).await?;
    let (mut without, mut with) = (Seen::default(), Seen::default());
    let events = deliveries.div_ceil(EACH);
    // Less in a tiny run, which only shows that it works.
    let steady = STEADY.min(Duration::from_millis(deliveries as u64));

    look(&gateway, &receiver, &mut without, events, steady).await?;
    let owed = if deliveries < 1000 { deliveries } else { OWED };
    let () = gateway.ask(&Ask::Die { receiver: address, owed }).await?;
    look(&gateway, &receiver, &mut with, events, steady).await?;
    // And once more without it, as the tables have grown meanwhile.
    let () = gateway.ask(&Ask::Bury).await?;
    look(&gateway, &receiver, &mut without, events, steady).await?;
    let () = gateway.ask(&Ask::Stop).await?;

    report.figure(names.rate, "", with.rate(), without.rate(), Aim::AtLeast(AIM));
    report.figure(names.cpu, "us", mean(&with.cpu), mean(&without.cpu), None);
    let (usual, baseline) = (with.within(500), without.within(500));
    report.figure(names.usual, "ms", usual, baseline, Aim::RatioAtMost(1.1));
    let (slow, baseline) = (with.within(990), without.within(990));
    report.figure(names.slow, "ms", slow, baseline, Aim::AtMost(50.0));
    report.figure(names.slowed, "ms", slow, baseline, Aim::RatioAtMost(1.1));
    Ok(())
}

/// Measures the rate, then the waits at half of what is aimed at.
async fn look(
    gateway: &Child,
    receiver: &Child,
    seen: &mut Seen,
    events: usize,
    steady: Duration,
) -> Result<(), Failure> {
    let cpu: u64 = gateway.ask(&Ask::Cpu).await?;
    let begun = Instant::now();
    let ask = Ask::Publish { events, per_second: None };
    let published = gateway.ask::<Vec<Commit>>(&ask).await?;
    let arrivals = all(receiver, published.len() * EACH, begun).await?;
    let first = published.iter().map(|it| it.at).min().unwrap_or_default();
    let last = arrivals.iter().map(|it| it.at).max().unwrap_or_default();
    let took = Duration::from_micros(last.saturating_sub(first));
    let cpu = gateway.ask::<u64>(&Ask::Cpu).await?.saturating_sub(cpu);
    let number = count(arrivals.len() as u64);
    seen.rates.push(number / took.as_secs_f64());
    seen.cpu.push(count(cpu) / number);

    let per_second = AIM / 2.0 / count(EACH as u64);
    let events = (steady.as_secs_f64() * per_second).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let ask = Ask::Publish { events: events as usize, per_second: Some(per_second) };
    let published = gateway.ask::<Vec<Commit>>(&ask).await?;
    let arrivals = all(receiver, published.len() * EACH, Instant::now()).await?;
    let commits: HashMap<_, _> =
        published.iter().map(|it| ((it.client, it.sequence), it.at)).collect();
    for Arrival { client, sequence, at } in arrivals {
        let committed = commits
            .get(&(client, sequence))
            .ok_or_else(|| Failure::wrong("something came that was not sent"))?;
        // The engine may be quicker than the news of the commit.
        seen.waits.push(count(at.saturating_sub(*committed)) / 1e3);
    }
    Ok(())
}

/// Waits until all has come; each delivery once.
async fn all(receiver: &Child, wanted: usize, begun: Instant) -> Result<Vec<Arrival>, Failure> {
    loop {
        let came: usize = receiver.ask(&Received::Count).await?;
        if came >= wanted {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::wrong(format!("{came} of {wanted} deliveries have come")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let arrivals: Vec<Arrival> = receiver.ask(&Received::Take).await?;
    if arrivals.len() > wanted {
        return Err(Failure::wrong(format!(
            "{} deliveries have come, not {wanted}",
            arrivals.len()
        )));
    }
    Ok(arrivals)
}
