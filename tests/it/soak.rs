//! Hours of everything that can go wrong, in a few minutes: 300 sessions through random faults.
//!
//! The clock of the daemon and that of the faults are moved together; the client library's own timers
//! and the wire are real. What is measured (descriptors, memory) belongs to the whole process, so the
//! test runs itself once more in a process of its own.
//!
//! The seed is printed. `WAGATE_SOAK_SEED=N` repeats a run's faults.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use entity::UnixMillis;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use wagate::clock::Clock;
use wagate_simulator::{Chaos, Options};

use crate::{
    database::{self, Kind},
    world::{BOB, World},
};

const SESSIONS: usize = 300;

/// How far time is moved at once, and how often in each half.
const STEP: Duration = Duration::from_secs(30);
const STEPS: u32 = 300;

/// From one fault to the next, on average.
const BETWEEN_FAULTS: Duration = Duration::from_secs(40);

/// In the environment of the process that does it.
const INSIDE: &str = "WAGATE_SOAK_INSIDE";

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_sessions_survive_hours_of_faults_and_leave_nothing_behind() {
    if std::env::var_os(INSIDE).is_some() {
        soak().await;
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

fn name(session: usize) -> String {
    format!("s{session:03}")
}

fn number(session: usize) -> String {
    format!("1556{session:07}")
}

async fn soak() {
    let seed = seed();
    eprintln!("soak: seed {seed}");
    database::on(Kind::Sqlite, async |database| {
        let options = Options { pairing_refs: 6, ..Options::default() };
        let mut world = World::start_with(database, options, |config| {
            config.whatsapp.dial_concurrency = 64;
            config.whatsapp.dial_rate_per_second = 10_000;
        })
        .await;
        {
            let world = &world;
            let all = stream::iter(0..SESSIONS);
            all.for_each_concurrent(24, async |session| {
                world.connect(&name(session), &number(session)).await;
            })
            .await;
        }
        world.stop_daemon().await;

        // From here on time is moved. The rows know the machine's time, so it begins there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        world.clock = Clock::manual(UnixMillis(i64::try_from(now).unwrap()));
        world.start_daemon().await;
        all_connected(&world).await;
        let before = Use::now();

        let mut sent = vec![0; SESSIONS];
        storm(&world, seed, &mut sent).await;
        all_connected(&world).await;
        let half = Use::now();
        storm(&world, seed.wrapping_add(1), &mut sent).await;
        all_connected(&world).await;
        let after = Use::now();
        let used = format!("{before:?} before, {half:?} half-way, {after:?} after");
        eprintln!("soak: {used}");

        // Whatever was sent has arrived, once.
        for (session, sent) in sent.into_iter().enumerate().filter(|(_, sent)| *sent > 0) {
            world.until_messages(&name(session), sent).await;
        }
        assert!(after.tasks <= before.tasks + before.tasks / 10, "{used}");
        assert!(after.descriptors <= before.descriptors + 10, "{used}");
        // Caches fill and the allocator keeps what it had; a leak would be a multiple. And what has filled
        // in the first hours is full: from then on there is no trend.
        assert!(after.memory_kib <= before.memory_kib * 8 / 5, "{used}");
        assert!(after.memory_kib <= half.memory_kib * 6 / 5, "{used}");
        world.end().await;
    })
    .await;
}

/// Lets the faults of one half happen, and counts how many messages were sent to each session meanwhile.
async fn storm(world: &World, seed: u64, sent: &mut [usize]) {
    let (step, between) = (millis(STEP), millis(BETWEEN_FAULTS));
    let numbers = (0..SESSIONS).map(number).collect();
    let script = Chaos::new(seed, numbers, between, step * u64::from(STEPS)).script();
    let faults = script.steps.len();
    let play = world.whatsapp.stage(script);
    let bob = world.whatsapp.contact(BOB).unwrap();
    for turn in 0..STEPS {
        play.advance(STEP).await;
        world.clock.advance(STEP);
        if turn % 6 == 0 {
            let session = usize::try_from(turn).unwrap() * 7 % SESSIONS;
            bob.send_text(&number(session), &format!("message {turn}")).await.unwrap();
            sent[session] += 1;
        }
        settle(world).await;
    }
    world.whatsapp.clear_faults(None);
    let hours = (STEP * STEPS).as_secs() / 3600;
    eprintln!("soak: {faults} faults in {hours} moved hours, {} logins", world.whatsapp.logins());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Gives the wire real time for what a step has set off. When that is not enough, time moves on all
/// the same: then some deadlines pass that would not have, which is a fault like any other.
async fn settle(world: &World) {
    for look in 0..12 {
        tokio::time::sleep(Duration::from_millis(15)).await;
        if look >= 3 && world.whatsapp.online_devices().len() == SESSIONS {
            return;
        }
    }
}

/// Moves time on until all are connected, by what the API says and by what the server sees.
async fn all_connected(world: &World) {
    let list = "/api/whatsapp/session/list-realtime?limit=1";
    world
        .pass_until("all sessions connected", Duration::from_secs(2), async || {
            let summary = world.get(list).await.body["summary"].clone();
            let online = world.whatsapp.online_devices().len();
            let all = json!(SESSIONS);
            if summary["connected"] == all && online == SESSIONS {
                return Ok::<_, Value>(());
            }
            Err(json!({ "summary": summary, "online": online }))
        })
        .await;
}

/// What this process uses.
#[derive(Clone, Copy, Debug)]
struct Use {
    tasks: usize,
    descriptors: usize,
    memory_kib: u64,
}

impl Use {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            memory_kib: memory.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }
}
