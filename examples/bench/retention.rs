//! Deleting a large backlog: how long does a writer wait meanwhile?

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::id::{OrganizationId, SessionKey};
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wagate::{
    clock::Clock,
    maintenance::{Maintenance, Policy, Swept},
    store::{Patience, Store, connect::Options},
    vault::{MasterKey, Vault},
};

use crate::{
    Size, databases,
    failure::Failure,
    report::{Aim, Report, count},
    writer::{create, message, refused},
};

/// Sessions that write meanwhile, one event after another.
const WRITERS: usize = 8;

/// Rows that are made at once.
const STEP: usize = 20_000;

/// Deleting and not deleting take turns of this length, so that a slow moment of the machine may meet
/// either.
const TURN: Duration = Duration::from_secs(3);

/// What a writer shall not wait for.
const TOO_LONG: Duration = Duration::from_millis(50);

/// What is said of one database.
struct Names {
    longest: &'static str,
    slow: &'static str,
    usual: &'static str,
    waits: &'static str,
    held: &'static str,
    over: &'static str,
    chunk: &'static str,
    retired: &'static str,
}

const SQLITE: Names = Names {
    longest: "SQLite: longest wait of a writer",
    slow: "SQLite: 99.9 of 100 writes within",
    usual: "SQLite: half of the writes within",
    waits: "SQLite: writes over 50 ms, of 10000",
    held: "SQLite: longest hold of the lane by a chunk",
    over: "SQLite: holds over 50 ms, of 1000",
    chunk: "SQLite: longest statements of a chunk",
    retired: "SQLite: rows retired per second",
};

const POSTGRES: Names = Names {
    longest: "PostgreSQL: longest wait of a writer",
    slow: "PostgreSQL: 99.9 of 100 writes within",
    usual: "PostgreSQL: half of the writes within",
    waits: "PostgreSQL: writes over 50 ms, of 10000",
    held: "PostgreSQL: longest hold of the lane by a chunk",
    over: "PostgreSQL: holds over 50 ms, of 1000",
    chunk: "PostgreSQL: longest statements of a chunk",
    retired: "PostgreSQL: rows retired per second",
};

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let rows = size.messages_or(1_000_000);
    let directory = size.directory()?;
    let mut report = Report::new(
        "retention",
        format!("{rows} old events retired while {WRITERS} sessions record new ones"),
        "in turn with it: nothing is retired, and a row is written where a chunk would be",
    );
    let file = directory.path().join("retention.db");
    measure(&mut report, &SQLITE, format!("sqlite://{}", file.display()), rows).await?;
    match databases::cluster(size).await {
        Ok(cluster) => {
            databases::create(&cluster, &["retention"]).await?;
            measure(&mut report, &POSTGRES, cluster.url("retention"), rows).await?;
        }
        Err(missing) => report.note(missing.to_string()),
    }
    Ok(report)
}

async fn measure(
    report: &mut Report,
    names: &Names,
    url: String,
    rows: usize,
) -> Result<(), Failure> {
    let tracker = TaskTracker::new();
    let vault = Arc::new(Vault::new(MasterKey::generate(), None));
    let open = async || {
        let options = Options::new(url.clone());
        Store::open(options, Arc::clone(&vault), Clock::system(), &tracker).await.map_err(refused)
    };
    let store = open().await?;
    let organization = store.organizations().ensure_default().await.map_err(refused)?.id;
    let mut keys = Vec::new();
    for session in 0..WRITERS {
        keys.push(create(&store, &organization, session).await?);
    }
    fill(&store, &organization, &keys[0], rows).await?;
    // The log that a million rows leave is copied here, and not while writers are watched.
    store.close().await;
    let store = open().await?;

    let policy = Policy { events: Some(Duration::from_hours(24)), ..Policy::default() };
    let turn = TURN.min(Duration::from_millis(rows as u64));
    let (mut quiet, mut busy) = (Side::default(), Side::default());
    let (mut chunk, mut retired) = (Duration::ZERO, 0);
    while retired < rows as u64 {
        let probing = probe(&store, &organization, turn);
        let (waits, probes) = meanwhile(&store, &organization, &keys, probing).await?;
        let probes = probes?;
        quiet.waits.extend(waits);
        for held in probes {
            quiet.hold(held);
        }

        let begun = Instant::now();
        let sweeping = sweep(&store, policy, turn);
        let (waits, swept) = meanwhile(&store, &organization, &keys, sweeping).await?;
        let swept = swept?;
        busy.waits.extend(waits);
        busy.took += begun.elapsed();
        busy.holds += swept.chunks;
        busy.slow += swept.slow;
        busy.longest = busy.longest.max(swept.longest_held);
        chunk = chunk.max(swept.longest);
        if swept.total() == 0 {
            return Err(Failure::wrong(format!("{retired} of {rows} rows were retired")));
        }
        retired += swept.total();
    }
    store.close().await;
    quiet.waits.sort_unstable();
    busy.waits.sort_unstable();

    report.figure(names.longest, "ms", busy.at(1000), quiet.at(1000), None);
    report.figure(names.slow, "ms", busy.at(999), quiet.at(999), None);
    report.figure(names.usual, "ms", busy.at(500), quiet.at(500), None);
    report.figure(names.waits, "", busy.slow_waits(), quiet.slow_waits(), None);
    let (held, over) = (millis(busy.longest), busy.slow_holds());
    report.figure(names.held, "ms", held, millis(quiet.longest), Aim::AtMost(50.0));
    report.figure(names.over, "", over, quiet.slow_holds(), None);
    report.figure(names.chunk, "ms", millis(chunk), None, Aim::AtMost(50.0));
    report.figure(names.retired, "", count(retired) / busy.took.as_secs_f64(), None, None);
    let (name, _) = names.chunk.split_once(':').unwrap_or_default();
    report.note(format!(
        "{name}: {} of {} chunks held their lane for more than 50 ms, and {} of {} rows written instead; \
         {} writes meanwhile, {} without",
        busy.slow,
        busy.holds,
        quiet.slow,
        quiet.holds,
        busy.waits.len(),
        quiet.waits.len()
    ));
    Ok(())
}

/// What was seen with retention, or without.
#[derive(Default)]
struct Side {
    /// How long each write took; in order of length at the end.
    waits: Vec<Duration>,
    /// How often a chunk, or what stands for one, held its lane: to the end of its commit.
    holds: u64,
    slow: u64,
    longest: Duration,
    took: Duration,
}

impl Side {
    fn hold(&mut self, held: Duration) {
        self.holds += 1;
        self.slow += u64::from(held > TOO_LONG);
        self.longest = self.longest.max(held);
    }

    /// How long so many of a thousand writes took at most.
    fn at(&self, per_mille: usize) -> f64 {
        let place = self.waits.len() * per_mille / 1000;
        let last = self.waits.len().saturating_sub(1);
        millis(self.waits.get(place.min(last)).copied().unwrap_or_default())
    }

    fn slow_waits(&self) -> f64 {
        let slow = self.waits.len() - self.waits.partition_point(|wait| *wait <= TOO_LONG);
        count(slow as u64) * 1e4 / count(self.waits.len().max(1) as u64)
    }

    fn slow_holds(&self) -> f64 {
        count(self.slow) * 1e3 / count(self.holds.max(1))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Retires what is old, for so long at most.
async fn sweep(store: &Store, policy: Policy, time: Duration) -> Result<Swept, Failure> {
    let stop = CancellationToken::new();
    let worker = Maintenance::new(store.clone(), policy, stop.clone());
    let mut sweep = std::pin::pin!(worker.sweep());
    let swept = tokio::select! {
        swept = &mut sweep => swept,
        () = tokio::time::sleep(time) => {
            stop.cancel();
            sweep.await
        }
    };
    swept.map_err(refused)
}

/// Writes a row where a chunk would be, as often as one would be: how long it holds its lane is what
/// the machine needs for a commit. Answers all of them.
async fn probe(
    store: &Store,
    organization: &OrganizationId,
    time: Duration,
) -> Result<Vec<Duration>, Failure> {
    let write =
        format!("UPDATE organization SET retired_seq = retired_seq WHERE id = '{organization}'");
    let mut held = Vec::new();
    let until = Instant::now() + time;
    while Instant::now() < until {
        let write = write.clone();
        let begun = store.writer().run("retention", Patience::Fail, move |txn| {
            let write = write.clone();
            Box::pin(async move {
                let begun = Instant::now();
                txn.execute_unprepared(&write).await.map(|_| begun)
            })
        });
        let took = begun.await.map_err(refused)?.elapsed();
        held.push(took);
        tokio::time::sleep(took).await;
    }
    Ok(held)
}

/// Has every session record one event after another until `work` is done; answers how long each
/// waited.
async fn meanwhile<T>(
    store: &Store,
    organization: &OrganizationId,
    keys: &[SessionKey],
    work: impl Future<Output = T>,
) -> Result<(Vec<Duration>, T), Failure> {
    // No message twice, in this run or the next.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);

    let done = CancellationToken::new();
    let tracker = TaskTracker::new();
    let writers: Vec<_> = keys
        .iter()
        .map(|key| {
            let (store, organization) = (store.clone(), organization.clone());
            let (key, done) = (key.clone(), done.clone());
            tracker.spawn(async move {
                let mut waits = Vec::new();
                while !done.is_cancelled() {
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    let new = message(&organization, &key, number);
                    let begun = Instant::now();
                    store.writer().record(new, Patience::Fail).await.map_err(refused)?;
                    waits.push(begun.elapsed());
                }
                Ok::<_, Failure>(waits)
            })
        })
        .collect();
    let outcome = work.await;
    done.cancel();
    let mut waits = Vec::new();
    for writer in writers {
        waits.extend(writer.await.map_err(refused)??);
    }
    Ok((waits, outcome))
}

/// Old events, as many messages leave them behind: their deduplication keys in no order.
async fn fill(
    store: &Store,
    organization: &OrganizationId,
    key: &SessionKey,
    rows: usize,
) -> Result<(), Failure> {
    let payload = format!("{{\"body\":\"{}\"}}", "x".repeat(300));
    for first in (0..rows).step_by(STEP) {
        let last = (first + STEP).min(rows) - 1;
        let (organization, key, payload) = (organization.clone(), key.clone(), payload.clone());
        let filled = store.writer().run("fill", Patience::Fail, move |txn| {
            let (id, random, numbers) = match txn.get_database_backend() {
                DbBackend::Postgres => (
                    "'evt_' || lpad(n::text, 26, '0')",
                    "md5(n::text)",
                    format!("generate_series({first}, {last}) AS numbers(n)"),
                ),
                _ => (
                    "'evt_' || printf('%026d', n)",
                    "hex(randomblob(16))",
                    format!(
                        "(WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL \
                         SELECT n + 1 FROM numbers WHERE n < {last}) SELECT n FROM numbers)"
                    ),
                ),
            };
            let insert = format!(
                "INSERT INTO event (id, organization_id, seq, session_key, dedupe_key, kind, \
                 payload, occurred_at, recorded_at) SELECT {id}, '{organization}', n + 1, '{key}', \
                 {random}, 'message', '{payload}', 1, 1 FROM {numbers}"
            );
            let count = format!(
                "UPDATE organization SET last_seq = {} WHERE id = '{organization}'",
                last + 1
            );
            Box::pin(async move {
                txn.execute_unprepared(&insert).await?;
                txn.execute_unprepared(&count).await.map(drop)
            })
        });
        filled.await.map_err(refused)?;
    }
    Ok(())
}
