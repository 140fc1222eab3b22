//! What a connected idle session costs: memory, descriptors, threads.

use std::{path::Path, time::Duration};

use crate::{
    Size,
    child::Child,
    failure::Failure,
    fleet::{self, Party},
    report::{Aim, Report, count},
    usage::Usage,
};

/// As fast as they come: how quickly they are paired is not the question.
const DIAL_RATE: u32 = 1000;

/// The runtime keeps a thread for calls that block this long after the last call, and a little.
const THREADS_GO: Duration = Duration::from_secs(11);

/// Below this many sessions the figures mean nothing, and nobody wants to wait for them.
const WORTH_WAITING: usize = 20;

/// A process before it had sessions, with a tenth of them, and with all.
#[derive(Clone, Copy, Debug)]
struct Measured {
    before: Usage,
    few: Usage,
    after: Usage,
}

impl Measured {
    /// Pairs the sessions, and looks whenever there is nothing to do any more.
    async fn of(party: &Party, simulator: &Child, sessions: usize) -> Result<Self, Failure> {
        let before = at_rest(party, sessions).await?;
        let few_sessions = sessions.div_ceil(10);
        party.pair(simulator, 0..few_sessions).await?;
        let few = at_rest(party, sessions).await?;
        party.pair(simulator, few_sessions..sessions).await?;
        Ok(Self { before, few, after: at_rest(party, sessions).await? })
    }
}

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let sessions = size.sessions_or(200);
    let directory = size.directory()?;
    let (paired, resumed) = gateway(directory.path(), sessions).await?;
    let bare = bare(sessions).await?;

    let mut report = Report::new(
        "sessions",
        format!("{sessions} connected idle sessions, each paired by QR"),
        "as many bare clients with the in-memory store",
    );
    let per_session = |after: u64, before: u64| {
        (count(after) - count(before)) / count(u64::try_from(sessions).unwrap_or(u64::MAX))
    };
    let memory = |it: Measured| per_session(it.after.rss_anon_kib, it.before.rss_anon_kib);
    let descriptors = |it: Measured| per_session(it.after.descriptors, it.before.descriptors);
    let aim = Aim::RatioAtMost(1.3);
    report.figure("RssAnon per session, after pairing", "KiB", memory(paired), memory(bare), aim);
    // The zero is that of the first start: a start that resumes is never without sessions.
    let again = Measured { after: resumed, ..paired };
    report.figure("RssAnon per session, after a restart", "KiB", memory(again), memory(bare), aim);
    report.figure(
        "RssAnon without sessions",
        "KiB",
        count(paired.before.rss_anon_kib),
        count(bare.before.rss_anon_kib),
        None,
    );
    let (ours, theirs) = (descriptors(paired), descriptors(bare));
    report.figure("descriptors per session", "", ours, theirs, Aim::AtMost(2.0));
    let threads = |it: Usage| count(it.threads);
    let (ours, theirs) = (threads(paired.before), threads(bare.before));
    report.figure("threads without sessions", "", ours, theirs, None);
    let (ours, theirs) = (threads(paired.few), threads(bare.few));
    report.figure("threads with a tenth of them", "", ours, theirs, None);
    let (ours, theirs) = (threads(paired.after), threads(bare.after));
    report.figure("threads with all", "", ours, theirs, Aim::AtMost(threads(paired.few)));
    Ok(report)
}

/// Before and after the pairing, and after a restart of the process.
async fn gateway(directory: &Path, sessions: usize) -> Result<(Measured, Usage), Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let gateway = Party::gateway(directory, &url, DIAL_RATE).await?;
    let paired = Measured::of(&gateway, &simulator, sessions).await?;
    gateway.stop().await?;
    drop(gateway);

    let gateway = Party::gateway(directory, &url, DIAL_RATE).await?;
    gateway.connected(sessions).await?;
    let resumed = at_rest(&gateway, sessions).await?;
    gateway.stop().await?;
    fleet::no_violations(&simulator).await?;
    Ok((paired, resumed))
}

async fn bare(sessions: usize) -> Result<Measured, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let bare = Party::bare(&url).await?;
    let measured = Measured::of(&bare, &simulator, sessions).await?;
    bare.stop().await?;
    fleet::no_violations(&simulator).await?;
    Ok(measured)
}

/// What a party uses when it has had nothing to do for a while.
async fn at_rest(party: &Party, sessions: usize) -> Result<Usage, Failure> {
    party.child().settle().await?;
    if sessions >= WORTH_WAITING {
        tokio::time::sleep(THREADS_GO).await;
    }
    party.child().usage()
}
