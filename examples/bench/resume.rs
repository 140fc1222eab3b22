//! A restart: how long until every session is connected again, and what that takes of the machine.

use std::{path::Path, time::Duration};

use tokio::time::Instant;
use wagate::config::WhatsApp;

use crate::{
    Size, bare,
    child::Child,
    failure::Failure,
    fleet::{self, Party},
    report::{Report, count},
    simulator::{Ask, Logins},
};

/// More than any machine dials: what is measured is the gateway, not the limit it keeps.
const NO_LIMIT: u32 = 10_000;

/// After this long a connection counts as one that has lasted; before, a restart dials with the
/// caution of one that follows a crash.
const PROVED: Duration = Duration::from_secs(45);

/// So few sessions are only to see that the benchmark works.
const WORTH_WAITING: usize = 50;

/// How a restart went.
#[derive(Clone, Copy, Debug)]
struct Restarted {
    /// Until all had stopped in good order.
    stop: Duration,
    /// From the start of the process until the API said that all were connected.
    start: Duration,
    /// CPU time of that.
    cpu: Duration,
    /// The most memory meanwhile.
    peak_kib: u64,
    logins: Logins,
}

impl Restarted {
    /// Logins per second, by the server's watch.
    fn dials_per_second(&self) -> f64 {
        let millis = self.logins.last.saturating_sub(self.logins.first).max(1);
        count(self.logins.count as u64) * 1000.0 / count(millis)
    }

    fn cpu_per_session(&self) -> f64 {
        self.cpu.as_secs_f64() * 1000.0 / count(self.logins.count as u64)
    }

    fn peak_mib(&self) -> f64 {
        count(self.peak_kib) / 1024.0
    }
}

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let sessions = size.sessions_or(1000);
    let directory = size.directory()?;
    let usual = WhatsApp::default().dial_rate_per_second;
    let (lifted, limited) = gateway(directory.path(), sessions, usual).await?;
    let theirs = bare(sessions).await?;

    let mut report = Report::new(
        "resume",
        format!("{sessions} paired sessions, stopped and started again"),
        "as many bare clients on in-memory stores, all at once, in a process that goes on",
    );
    let seconds = |it: Duration| it.as_secs_f64();
    let start = seconds(theirs.start);
    report.figure("no limit: until all are connected", "s", seconds(lifted.start), start, None);
    let rate = theirs.dials_per_second();
    report.figure("no limit: logins per second", "", lifted.dials_per_second(), rate, None);
    let cpu = theirs.cpu_per_session();
    report.figure("no limit: CPU time per session", "ms", lifted.cpu_per_session(), cpu, None);
    let peak = theirs.peak_mib();
    report.figure("no limit: peak resident memory", "MiB", lifted.peak_mib(), peak, None);

    report.figure(
        "as configured: until all are connected",
        "s",
        seconds(limited.start),
        start,
        None,
    );
    report.figure("as configured: logins per second", "", limited.dials_per_second(), rate, None);
    report.figure(
        "as configured: CPU time per session",
        "ms",
        limited.cpu_per_session(),
        cpu,
        None,
    );
    let share = seconds(limited.cpu) * 100.0 / seconds(limited.start);
    report.figure("as configured: of one core meanwhile", "%", share, None, None);
    report.figure("as configured: peak resident memory", "MiB", limited.peak_mib(), peak, None);
    report.figure("until all have stopped", "s", seconds(lifted.stop), seconds(theirs.stop), None);
    report.note(format!("As configured: {usual} dials a second, 16 at a time, the defaults."));
    Ok(report)
}

/// Restarted without a limit on dials, and as configured.
async fn gateway(
    directory: &Path,
    sessions: usize,
    usual: u32,
) -> Result<(Restarted, Restarted), Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let gateway = Party::gateway(directory, &url, NO_LIMIT).await?;
    gateway.pair(&simulator, 0..sessions).await?;
    let (gateway, lifted) =
        restart(gateway, &simulator, directory, &url, NO_LIMIT, sessions).await?;
    let (gateway, limited) = restart(gateway, &simulator, directory, &url, usual, sessions).await?;
    gateway.stop().await?;
    fleet::no_violations(&simulator).await?;
    Ok((lifted, limited))
}

async fn restart(
    gateway: Party,
    simulator: &Child,
    directory: &Path,
    url: &str,
    rate: u32,
    sessions: usize,
) -> Result<(Party, Restarted), Failure> {
    gateway.child().settle().await?;
    if sessions >= WORTH_WAITING {
        tokio::time::sleep(PROVED).await;
    }
    let begun = Instant::now();
    gateway.stop().await?;
    let stop = begun.elapsed();
    drop(gateway);

    let begun = Instant::now();
    let gateway = Party::gateway(directory, url, rate).await?;
    gateway.connected(sessions).await?;
    let start = begun.elapsed();
    let used = gateway.child().usage()?;
    let logins = simulator.ask(&Ask::Logins { last: sessions }).await?;
    let restarted = Restarted { stop, start, cpu: used.cpu, peak_kib: used.peak_kib, logins };
    Ok((gateway, restarted))
}

async fn bare(sessions: usize) -> Result<Restarted, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let party = Party::bare(&url).await?;
    party.pair(&simulator, 0..sessions).await?;
    party.child().settle().await?;
    let begun = Instant::now();
    party.stop().await?;
    let stop = begun.elapsed();

    party.child().forget_peak()?;
    let before = party.child().usage()?.cpu;
    let seconds: f64 = party.child().ask(&bare::Ask::Start).await?;
    let used = party.child().usage()?;
    let cpu = used.cpu.saturating_sub(before);
    let logins = simulator.ask(&Ask::Logins { last: sessions }).await?;
    party.stop().await?;
    fleet::no_violations(&simulator).await?;
    let start = Duration::from_secs_f64(seconds);
    Ok(Restarted { stop, start, cpu, peak_kib: used.peak_kib, logins })
}
