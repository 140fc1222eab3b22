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
        .env(INSIDE, "1");
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

fn seed() -> u64 {
    let given = std::env::var("WAGATE_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(rand::random)
}

async fn soak() {
    let seed = seed();
    eprintln!("soak: seed {seed}");
    let (mut databases, mut fleets) = (Vec::new(), Vec::new());
    for (kind, sessions) in FLEETS {
        if let Some(database) = Database::new(kind).await {
            fleets.push(Fleet::start(&database, sessions).await);
            databases.push(database);
        }
    }
    let before = Use::at_rest(&fleets).await;
    join_all(fleets.iter_mut().map(|fleet| fleet.storm(seed))).await;
    let half = Use::at_rest(&fleets).await;
    join_all(fleets.iter_mut().map(|fleet| fleet.storm(seed.wrapping_add(1)))).await;
    let after = Use::at_rest(&fleets).await;
    let used = format!("{before:?} before, {half:?} half-way, {after:?} after");
    eprintln!("soak: {used}");

    for fleet in &mut fleets {
        fleet.nothing_is_lost_or_doubled().await;
        fleet.each_fault_was_met();
    }
    assert!(after.tasks <= before.tasks + before.tasks / 20, "{used}");
    assert!(after.descriptors <= before.descriptors + 10, "{used}");
    assert!(after.memory_kib <= before.memory_kib * 6 / 5, "{used}");
    // What has filled in the first hours is full. From then on each dial may leave next to nothing behind: it
    // was a task in thirty dials (of conversations, which have ends of their own) and less than 2 KiB in one
    // when this was written.
    let dials = after.dials - half.dials;
    assert!(dials >= 1_000, "enough to tell: {used}");
    assert!(after.tasks <= half.tasks + dials / 10, "{used}");
    assert!(after.descriptors <= half.descriptors + dials / 100, "{used}");
    assert!(after.memory_kib <= half.memory_kib * 6 / 5, "{used}");
    assert!(after.memory_kib <= half.memory_kib + 8 * dials as u64, "{used}");
    for fleet in fleets {
        fleet.end().await;
    }
    for database in databases {
        database.drop().await;
    }
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
