//! Hours of everything that can go wrong, in a few minutes: 300 sessions on SQLite, and 100 on PostgreSQL,
//! through random faults.
//!
//! The clock of the daemon and that of the faults are moved together; the client library's own timers
//! and the wire are real. What is measured (descriptors, memory) belongs to the whole process, so the
//! test runs itself once more in a process of its own.
//!
//! The seed is printed. `WAGATE_SOAK_SEED=N` repeats a run's faults.

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use crate::{
    database::{Database, Kind},
    soak_fleet::Fleet,
};

/// The daemons, side by side: each with a WhatsApp of its own.
const FLEETS: [(Kind, usize); 2] = [(Kind::Sqlite, 300), (Kind::Postgres, 100)];

/// Lines of the other process that a failure shows.
const LAST_WORDS: usize = 40;

/// What may be there at the end that was not at the beginning: of tasks the last of those that close what the test
/// itself had open, of descriptors what the runtime and the test's client keep for good.
const TASKS_LEFT: usize = 5;
const DESCRIPTORS_LEFT: usize = 3;

/// By how many tasks more one measurement may differ from another. Before each, all connections are new.
const TASKS_MORE: usize = 10;

/// In the environment of the process that does it.
pub(crate) const INSIDE: &str = "WAGATE_SOAK_INSIDE";

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_sessions_survive_hours_of_faults_and_leave_nothing_behind() {
    if std::env::var_os(INSIDE).is_some() {
        Box::pin(soak()).await;
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture"])
        .arg("soak::three_hundred_sessions_survive_hours_of_faults_and_leave_nothing_behind")
        .env(INSIDE, "1")
        // What is freed goes back to the kernel, so that what is measured is what is used.
        .env("MALLOC_ARENA_MAX", "2")
        .env("MALLOC_TRIM_THRESHOLD_", "65536");
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    eprintln!("{said}");
    assert!(ended.status.success(), "{}", last_words(&said));
}

/// What the other process said last, without the lines of a backtrace.
fn last_words(said: &str) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        let number = line.split(':').next().unwrap_or_default();
        line.starts_with("at ")
            || (!number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()))
    };
    let lines: Vec<_> = said.lines().filter(|line| !is_frame(line)).collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
}

fn seed() -> u64 {
    let given = std::env::var("WAGATE_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(rand::random)
}

async fn soak() {
    let seed = seed();
    eprintln!("soak: seed {seed}");
    let nothing = Use::now(&[]);
    let (mut databases, mut fleets) = (Vec::new(), Vec::new());
    for (kind, sessions) in FLEETS {
        if let Some(database) = Database::new(kind).await {
            fleets.push(Fleet::start(&database, sessions).await);
            databases.push(database);
        }
    }
    let before = Use::at_rest(&fleets).await;
    join_all(fleets.iter_mut().map(|fleet| fleet.half(seed))).await;
    let half = Use::at_rest(&fleets).await;
    join_all(fleets.iter_mut().map(|fleet| fleet.half(seed.wrapping_add(1)))).await;
    let after = Use::at_rest(&fleets).await;
    let used = format!("{before:?} before, {half:?} half-way, {after:?} after");
    eprintln!("soak: {used}");

    for fleet in &fleets {
        fleet.each_fault_was_met();
    }
    assert!(after.tasks <= before.tasks + TASKS_MORE, "{used}");
    assert!(after.descriptors <= before.descriptors + 10, "{used}");
    assert!(after.memory_kib <= before.memory_kib * 6 / 5, "{used}");
    // What has filled in the first hours is full. From then on a dial leaves no task behind, and next to nothing else: it
    // was less than 2 KiB when this was written.
    let dials = after.dials - half.dials;
    assert!(dials >= 1_000, "enough to tell: {used}");
    assert!(after.tasks <= half.tasks + TASKS_MORE, "{used}");
    assert!(after.descriptors <= half.descriptors + dials / 100, "{used}");
    assert!(after.memory_kib <= half.memory_kib * 6 / 5, "{used}");
    assert!(after.memory_kib <= half.memory_kib + 8 * dials as u64, "{used}");
    for fleet in fleets {
        fleet.end().await;
    }
    for database in databases {
        database.drop().await;
    }
    let left = Use::at_rest(&[]).await;
    let kept = format!("{nothing:?} at the beginning, {left:?} at the end");
    eprintln!("soak: {kept}");
    assert!(left.tasks <= nothing.tasks + TASKS_LEFT, "{kept}");
    assert!(left.descriptors <= nothing.descriptors + DESCRIPTORS_LEFT, "{kept}");
}

/// What this process uses, and how often its sessions have dialled by then.
#[derive(Clone, Copy, Debug)]
struct Use {
    tasks: usize,
    descriptors: usize,
    memory_kib: u64,
    dials: usize,
}

impl Use {
    /// The least of a while: what is about to end has ended then, and what was left behind has not.
    async fn at_rest(fleets: &[Fleet]) -> Self {
        let mut least = Self::now(fleets);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Self::now(fleets);
            least.tasks = least.tasks.min(now.tasks);
            least.descriptors = least.descriptors.min(now.descriptors);
            least.memory_kib = least.memory_kib.min(now.memory_kib);
        }
        least
    }

    fn now(fleets: &[Fleet]) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            memory_kib: memory.split_whitespace().next().unwrap().parse().unwrap(),
            dials: fleets.iter().map(Fleet::dials).sum(),
        }
    }
}
