//! Messages from contacts to sessions: how many a second, and what one costs.
//!
//! The contacts write and encrypt beforehand. The clock runs from the moment the server begins to
//! deliver until every client has confirmed every message. The gateway confirms what is committed,
//! with `synchronous=FULL`; a bare client what it has decrypted.

use std::{path::Path, time::Duration};

use sea_orm::{ConnectionTrait as _, Database, Statement};
use tokio::time::Instant;

use crate::{
    Size,
    bare::Ask as BareAsk,
    child::Child,
    failure::Failure,
    fleet::{self, Party},
    machine,
    report::{Aim, Report, count},
    simulator::Ask,
};

/// As fast as they come: how quickly they are paired is not the question.
const DIAL_RATE: u32 = 1000;

/// What a flood cost.
#[derive(Clone, Copy, Debug)]
struct Flooded {
    took: Duration,
    /// CPU time of the party, and of the simulator.
    party: Duration,
    simulator: Duration,
    /// Transactions committed by the gateway, and writes handed to it.
    commits: Option<(u64, u64)>,
}

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let sessions = size.sessions_or(100);
    // The same number for each session.
    let each = size.messages_or(30_000).div_ceil(sessions);
    let messages = sessions * each;
    let directory = size.directory()?;
    let syncs = machine::syncs_per_second(directory.path())?;

    let ours = gateway(directory.path(), sessions, each).await?;
    let theirs = bare(sessions, each).await?;

    let mut report = Report::new(
        "inbound",
        format!("{messages} messages to {sessions} sessions, on SQLite with synchronous=FULL"),
        "as many bare clients with the in-memory store",
    );
    let total = count(u64::try_from(messages).unwrap_or(u64::MAX));
    let rate = |it: &Flooded| total / it.took.as_secs_f64();
    let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / total;
    report.figure(
        "durable messages per second",
        "",
        rate(&ours),
        rate(&theirs),
        Aim::AtLeast(3000.0),
    );
    let (wagate, clients) = (micros(ours.party), micros(theirs.party));
    report.figure("CPU time per message", "us", wagate, clients, None);
    let (beside, there) = (micros(ours.simulator), micros(theirs.simulator));
    report.figure("CPU time per message, the simulator's", "us", beside, there, None);
    if let Some((commits, writes)) = ours.commits {
        report.figure("commits", "", count(commits), None, Aim::AtMost(total / 2.0));
        report.figure("messages per commit", "", total / count(commits.max(1)), None, None);
        report.figure(
            "writes per message, Signal state included",
            "",
            count(writes) / total,
            None,
            None,
        );
    }
    report.figure("syncs per second of this disk", "", syncs, None, None);
    report.note("The baseline keeps nothing. The simulator delivers on the same cores.");
    Ok(report)
}

async fn gateway(directory: &Path, sessions: usize, each: usize) -> Result<Flooded, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let gateway = Party::gateway(directory, &url, DIAL_RATE).await?;
    let flooded = flood(&gateway, &simulator, sessions, each).await?;
    gateway.stop().await?;
    fleet::no_violations(&simulator).await?;
    drop(gateway);

    // What was confirmed is there, once.
    all_there(stored(directory).await?, sessions, each)?;
    Ok(flooded)
}

/// Insists on every message of the flood, and the greeting of each session.
fn all_there(messages: u64, sessions: usize, each: usize) -> Result<(), Failure> {
    let wanted = u64::try_from(sessions * (each + 1)).unwrap_or(u64::MAX);
    if messages == wanted {
        Ok(())
    } else {
        Err(Failure::wrong(format!("{messages} messages have come, not {wanted}")))
    }
}

async fn bare(sessions: usize, each: usize) -> Result<Flooded, Failure> {
    let (simulator, url) = fleet::simulator().await?;
    let bare = Party::bare(&url).await?;
    let flooded = flood(&bare, &simulator, sessions, each).await?;
    let received: u64 = bare.child().ask(&BareAsk::Received).await?;
    bare.stop().await?;
    fleet::no_violations(&simulator).await?;
    all_there(received, sessions, each)?;
    Ok(flooded)
}

async fn flood(
    party: &Party,
    simulator: &Child,
    sessions: usize,
    each: usize,
) -> Result<Flooded, Failure> {
    party.pair(simulator, 0..sessions).await?;
    party.greet(simulator, sessions).await?;
    party.child().settle().await?;

    let () = simulator.ask(&Ask::Flood { sessions, each }).await?;
    let stats = party.stats().await?;
    let (party_before, simulator_before) = (party.child().usage()?.cpu, simulator.usage()?.cpu);
    let begun = Instant::now();
    let () = simulator.ask(&Ask::Release).await?;
    let () = simulator.ask(&Ask::Drained).await?;
    let took = begun.elapsed();
    let (party_after, simulator_after) = (party.child().usage()?.cpu, simulator.usage()?.cpu);
    let commits = match (stats, party.stats().await?) {
        (Some(before), Some(after)) => {
            let writes = after.units + after.events - before.units - before.events;
            Some((after.commits - before.commits, writes))
        }
        _ => None,
    };
    Ok(Flooded {
        took,
        party: party_after.saturating_sub(party_before),
        simulator: simulator_after.saturating_sub(simulator_before),
        commits,
    })
}

/// How many inbound messages are in the database that the gateway has left behind.
async fn stored(directory: &Path) -> Result<u64, Failure> {
    let file = directory.join("state").join("wagate.db");
    let database = |error: sea_orm::DbErr| Failure::wrong(format!("the database: {error}"));
    let connection =
        Database::connect(format!("sqlite://{}", file.display())).await.map_err(database)?;
    let sql = "SELECT count(*) AS kept FROM message WHERE direction = 'inbound'";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.map_err(database)?;
    let row = row.ok_or_else(|| Failure::wrong("the database counts nothing"))?;
    let kept: i64 = row.try_get("", "kept").map_err(database)?;
    connection.close().await.map_err(database)?;
    Ok(kept.unsigned_abs())
}
