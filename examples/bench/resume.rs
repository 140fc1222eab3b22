//! A restart: how long until every session is connected again.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use crate::{
    Size, bare,
    failure::Failure,
    fleet::{self, Party},
    report::{Report, count},
    simulator::{Ask, Logins},
};

/// More than any machine dials: what is measured is the gateway, not the limit it keeps.
const DIAL_RATE: u32 = 10_000;

/// How a restart went.
#[derive(Clone, Copy, Debug)]
struct Restarted {
    /// Until all had stopped in good order.
    stop: Duration,
    /// From the start of the process until the API said that all were connected.
    start: Duration,
    /// CPU time of that.
    cpu: Duration,
    logins: Logins,
}

impl Restarted {
    /// Logins per second, by the server's watch.
    fn dials_per_second(&self) -> f64 {
        let millis = self.logins.last.saturating_sub(self.logins.first).max(1);
        count(self.logins.count as u64) * 1000.0 / count(millis)
    }
}

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let sessions = size.sessions_or(200);
    let directory = size.directory()?;
    let ours = gateway(directory.path(), sessions).await?;
    let theirs = bare(sessions).await?;

    let mut report = Report::new(
        "resume",
        format!("{sessions} paired sessions, stopped and started again"),
        "as many bare clients on in-memory stores, in a process that goes on",
    );
    let seconds = |it: Duration| it.as_secs_f64();
    let (begun, compared) = (seconds(ours.start), seconds(theirs.start));
    report.figure("until all are connected", "s", begun, compared, None);
    report.figure("dials per second", "", ours.dials_per_second(), theirs.dials_per_second(), None);
    let per_session = |it: &Restarted| seconds(it.cpu) * 1000.0 / count(it.logins.count as u64);
    report.figure("CPU time per session", "ms", per_session(&ours), per_session(&theirs), None);
    report.figure("until all have stopped", "s", seconds(ours.stop), seconds(theirs.stop), None);
    let usual = wagate::config::WhatsApp::default().dial_rate_per_second;
    report.note(format!(
        "The limit on dials is out of the way here; the default of {usual} a second stretches this \
         to {:.0} s.",
        count(sessions as u64) / f64::from(usual),
    ));
    Ok(report)
}

async fn gateway(directory: &Path, sessions: usize) -> Result<Restarted, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let gateway = Party::gateway(directory, &url, DIAL_RATE).await?;
    gateway.pair(&simulator, 0..sessions).await?;
    gateway.child().settle().await?;
    let begun = Instant::now();
    gateway.stop().await?;
    let stop = begun.elapsed();
    drop(gateway);

    let begun = Instant::now();
    let gateway = Party::gateway(directory, &url, DIAL_RATE).await?;
    gateway.connected(sessions).await?;
    let start = begun.elapsed();
    let cpu = gateway.child().usage()?.cpu;
    let logins = simulator.ask(&Ask::Logins { last: sessions }).await?;
    gateway.stop().await?;
    fleet::no_violations(&simulator).await?;
    Ok(Restarted { stop, start, cpu, logins })
}

async fn bare(sessions: usize) -> Result<Restarted, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let party = Party::bare(&url).await?;
    party.pair(&simulator, 0..sessions).await?;
    party.child().settle().await?;
    let begun = Instant::now();
    party.stop().await?;
    let stop = begun.elapsed();

    let before = party.child().usage()?.cpu;
    let seconds: f64 = party.child().ask(&bare::Ask::Start).await?;
    let cpu = party.child().usage()?.cpu.saturating_sub(before);
    let logins = simulator.ask(&Ask::Logins { last: sessions }).await?;
    party.stop().await?;
    fleet::no_violations(&simulator).await?;
    Ok(Restarted { stop, start: Duration::from_secs_f64(seconds), cpu, logins })
}
