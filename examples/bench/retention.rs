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

/// How long the writers are measured before anything is deleted, for the baseline. Afterwards they are
/// measured again, for as long as the deleting took.
const QUIET: Duration = Duration::from_secs(5);

/// What is said of one database.
struct Names {
    longest: &'static str,
    slow: &'static str,
    usual: &'static str,
    retired: &'static str,
    chunk: &'static str,
    held: &'static str,
    over: &'static str,
}

const SQLITE: Names = Names {
    longest: "SQLite: longest wait of a writer",
    slow: "SQLite: 99.9 of 100 writes within",
    usual: "SQLite: half of the writes within",
    retired: "SQLite: rows retired per second",
    chunk: "SQLite: longest chunk, statements",
    held: "SQLite: longest chunk, with commit",
    over: "SQLite: chunks over 50 ms, of 100",
};

const POSTGRES: Names = Names {
    longest: "PostgreSQL: longest wait of a writer",
    slow: "PostgreSQL: 99.9 of 100 writes within",
    usual: "PostgreSQL: half of the writes within",
    retired: "PostgreSQL: rows retired per second",
    chunk: "PostgreSQL: longest chunk, statements",
    held: "PostgreSQL: longest chunk, with commit",
    over: "PostgreSQL: chunks over 50 ms, of 100",
};

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let rows = size.messages_or(1_000_000);
    let directory = size.directory()?;
    let mut report = Report::new(
        "retention",
        format!("{rows} old events retired while {WRITERS} sessions record new ones"),
        "the same writers while nothing is retired",
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
    let store =
        Store::open(Options::new(url), vault, Clock::system(), &tracker).await.map_err(refused)?;
    let organization = store.organizations().ensure_default().await.map_err(refused)?.id;
    let mut keys = Vec::new();
    for session in 0..WRITERS {
        keys.push(create(&store, &organization, session).await?);
    }
    fill(&store, &organization, &keys[0], rows).await?;

    let before = tokio::time::sleep(QUIET.min(Duration::from_millis(rows as u64)));
    let (mut quiet, ()) = meanwhile(&store, &organization, &keys, before).await?;
    let policy = Policy { events: Some(Duration::from_hours(24)), ..Policy::default() };
    let worker = Maintenance::new(store.clone(), policy, CancellationToken::new());
    let begun = Instant::now();
    let (busy, swept) = meanwhile(&store, &organization, &keys, worker.sweep()).await?;
    let took = begun.elapsed();
    let swept: Swept = swept.map_err(refused)?;
    if swept.total() != rows as u64 {
        return Err(Failure::wrong(format!("{} of {rows} rows were retired", swept.total())));
    }
    let (after, ()) = meanwhile(&store, &organization, &keys, tokio::time::sleep(took)).await?;
    quiet.extend(after);
    quiet.sort_unstable();
    store.close().await;

    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |waits: &[Duration], per_mille: usize| {
        let place = waits.len() * per_mille / 1000;
        millis(waits.get(place.min(waits.len().saturating_sub(1))).copied().unwrap_or_default())
    };
    report.figure(names.longest, "ms", at(&busy, 1000), at(&quiet, 1000), Aim::AtMost(50.0));
    report.figure(names.slow, "ms", at(&busy, 999), at(&quiet, 999), None);
    report.figure(names.usual, "ms", at(&busy, 500), at(&quiet, 500), None);
    report.figure(names.retired, "", count(rows as u64) / took.as_secs_f64(), None, None);
    report.figure(names.chunk, "ms", millis(swept.longest), None, Aim::AtMost(50.0));
    report.figure(names.held, "ms", millis(swept.longest_held), None, Aim::AtMost(50.0));
    let over = count(swept.slow) * 100.0 / count(swept.chunks);
    report.figure(names.over, "", over, None, None);
    let (name, _) = names.chunk.split_once(':').unwrap_or_default();
    report.note(format!(
        "{name}: {} of {} chunks held the writer for more than 50 ms; {} writes meanwhile, {} without",
        swept.slow,
        swept.chunks,
        busy.len(),
        quiet.len()
    ));
    Ok(())
}

/// Has every session record one event after another until `work` is done; answers how long each
/// waited, in order of length.
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
    waits.sort_unstable();
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
