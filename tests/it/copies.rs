//! Backups are made while messages flow, and a database that was restored is told from a live one.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use entity::UnixMillis;
use futures_util::FutureExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate::{
    backup,
    clock::Clock,
    config::{AfterRestore, Config, DatabaseUrl, SecretText},
};
use wagate_simulator::Options;

use crate::{
    database::{Database, Kind, in_database, on, on_each},
    world::{ALICE, BOB, DEADLINE, World},
};

/// A restored copy: its URL, and what must be there for as long as it is used.
struct Copy {
    url: String,
    name: Option<String>,
}

/// Makes a copy of the world's database while it is used; none where `pg_dump` is missing.
async fn back_up(database: &Database, target: &Path) -> bool {
    let url: DatabaseUrl = database.url.parse().unwrap();
    match backup::run(&url, target, &|_| {}).await {
        Ok(()) => true,
        Err(backup::Error::NoPgDump) => {
            assert!(std::env::var_os("WAGATE_TEST_REFUSE_SKIP").is_none(), "no pg_dump");
            eprintln!("skipped: no pg_dump");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Kept apart from the backup, and brought together with it again.
fn master_key() -> SecretText {
    "0123456789abcdef".repeat(4).into()
}

/// As an operator does.
async fn restore(database: &Database, target: &Path) -> Copy {
    match database.kind {
        Kind::Sqlite => Copy { url: format!("sqlite://{}", target.display()), name: None },
        Kind::Postgres => {
            let name = format!("{}_copy", database.name());
            database.execute_on_server(&format!("CREATE DATABASE {name}")).await;
            let url = in_database(&database.url, &name);
            let restored = Command::new("pg_restore")
                .args(["--no-owner", "--exit-on-error", "--dbname", &url])
                .arg(target)
                .output()
                .unwrap();
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
            Copy { url, name: Some(name) }
        }
    }
}

async fn start(database: &Database) -> World {
    World::start_with(database, Options::default(), |config| {
        config.encryption.master_key = Some(master_key());
    })
    .await
}

/// The daemon has stopped; the next one starts on the copy, with a state directory of its own.
async fn start_on(
    world: &World,
    database: &Database,
    copy: &Copy,
    change: impl FnOnce(&mut Config),
) -> World {
    let url: DatabaseUrl = copy.url.parse().unwrap();
    World::beside(world.whatsapp.clone(), Clock::system(), database, |config| {
        config.database.url = Some(url);
        config.encryption.master_key = Some(master_key());
        change(config);
    })
    .await
}

async fn bodies(world: &World) -> Vec<Value> {
    let page = world.get("/api/whatsapp/session/sales/messages?limit=500").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    page.body["data"].as_array().unwrap().iter().map(|one| one["body"].clone()).collect()
}

async fn a_copy_is_whole_and_known_as_one(kind: Kind) {
    on(kind, async |database: &Database| {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("copy");
        let mut world = start(database).await;
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_many(ALICE, "before", 20).await.unwrap();
        world.until_messages("sales", 20).await;
        world.send("sales", BOB, "one that the copy knows").await;
        phone.wait_for_sent(|sent| sent.text.is_some()).await.unwrap();
        let (made, _) =
            tokio::join!(back_up(database, &target), bob.send_many(ALICE, "meanwhile", 60));
        if !made {
            return world.end().await;
        }
        world.until_messages("sales", 81).await;
        // Of these counters the copy does not know that they are spent.
        for text in ["one more", "and another"] {
            world.send("sales", BOB, text).await;
            phone.wait_for_sent(|sent| sent.text.as_deref() == Some(text)).await.unwrap();
        }
        // A backup is for its owner, and never replaces anything.
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        let url: DatabaseUrl = database.url.parse().unwrap();
        let again = backup::run(&url, &target, &|_| {}).await.unwrap_err();
        assert!(again.to_string().ends_with("is there already"), "{again}");
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing else is left behind: {files:?}");

        world.stop_daemon().await;
        let logins = world.whatsapp.logins();
        let copy = restore(database, &target).await;
        let mut second = start_on(&world, database, &copy, |_| {}).await;

        // Flagged, and not dialled.
        let seen = second.status("sales").await;
        assert_eq!(seen["status"], "session_not_connected", "{seen}");
        assert_eq!(seen["lastDisconnect"]["reason"], "restored", "{seen}");
        assert_eq!(seen["desiredState"], "stopped", "{seen}");
        second.stop_daemon().await;
        second.start_daemon().await;
        assert_eq!(world.whatsapp.logins(), logins, "it was dialled without being asked to");
        // Everything that was acknowledged before the copy was begun is in it.
        let texts = bodies(&second).await;
        let old =
            texts.iter().filter(|text| text.as_str().is_some_and(|t| t.starts_with("before")));
        assert_eq!(old.count(), 20, "{texts:?}");

        // Confirmed, it goes on without a code, and no counter is used twice.
        let started = second.post("/api/whatsapp/session/sales/start", json!({})).await;
        assert!(started.status.is_success(), "{}", started.body);
        second.until_status("sales", "session_connected").await;
        second.send("sales", BOB, "from the copy").await;
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("from the copy")).await.unwrap();
        let count = bodies(&second).await.len();
        bob.send_text(ALICE, "to the copy").await.unwrap();
        let messages = second.until_messages("sales", count + 1).await;
        assert_eq!(messages.last().unwrap()["body"], "to the copy");
        second.stop_daemon().await;

        // The copy is now a database like any other.
        second.start_daemon().await;
        second.until_status("sales", "session_connected").await;
        second.end().await;
        if let Some(name) = copy.name {
            database.execute_on_server(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_sqlite_file_is_whole_and_known_as_one() {
    a_copy_is_whole_and_known_as_one(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_a_postgresql_database_is_whole_and_known_as_a_copy() {
    a_copy_is_whole_and_known_as_one(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_after_a_copy_costs_the_copy_its_chains_and_no_counter_twice() {
    /// More than the library reserves at once (64), and so skips by itself.
    const UNKNOWN: usize = 70;
    for kind in [Kind::Sqlite, Kind::Postgres] {
        on(kind, async |database: &Database| {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("copy");
            let mut world = start(database).await;
            let phone = world.connect("sales", ALICE).await;
            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.send_text(ALICE, "hello").await.unwrap();
            world.until_messages("sales", 1).await;
            world.send("sales", BOB, "known").await;
            phone.wait_for_sent(|sent| sent.text.as_deref() == Some("known")).await.unwrap();
            if !back_up(database, &target).await {
                return world.end().await;
            }
            // The other side is silent, so all of these are of the chain that the copy knows.
            for number in 0..UNKNOWN {
                world.send("sales", BOB, &format!("unknown {number}")).await;
            }
            let last = format!("unknown {}", UNKNOWN - 1);
            phone.wait_for_sent(|sent| sent.text.as_deref() == Some(&last)).await.unwrap();
            world.stop_daemon().await;

            let copy = restore(database, &target).await;
            let second = start_on(&world, database, &copy, |_| {}).await;
            second.post("/api/whatsapp/session/sales/start", json!({})).await;
            second.until_status("sales", "session_connected").await;
            second.send("sales", BOB, "from the copy").await;
            bob.wait_for_received(|sent| sent.text.as_deref() == Some("from the copy"))
                .await
                .unwrap();
            // Which looks for violations, a counter that was used twice among them.
            second.end().await;
            if let Some(name) = copy.name {
                database.execute_on_server(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_set_back_is_noticed_by_its_own_state_directory() {
    on(Kind::Sqlite, async |database: &Database| {
        let mut world = World::start_with(database, Options::default(), |config| {
            config.database.after_restore = AfterRestore::Dial;
        })
        .await;
        world.connect("sales", ALICE).await;
        world.whatsapp.contact(BOB).unwrap();
        world.stop_daemon().await;
        let old = database.path.with_file_name("old");
        std::fs::copy(&database.path, &old).unwrap();

        // An ordinary restart raises no alarm.
        world.start_daemon().await;
        let seen = world.until_status("sales", "session_connected").await;
        assert_ne!(seen["lastDisconnect"]["reason"], "restored", "{seen}");
        world.stop_daemon().await;

        std::fs::copy(&old, &database.path).unwrap();
        world.start_daemon().await;
        // So configured, it connects all the same, and says what happened.
        let seen = world.until_status("sales", "session_connected").await;
        assert_eq!(seen["lastDisconnect"]["reason"], "restored", "{seen}");
        world.send("sales", BOB, "hello").await;
        world.stop_daemon().await;

        // Once: from then on the count is ahead of every memory of it.
        let events = "SELECT count(*) FROM event WHERE payload LIKE '%\"restored\"%'";
        assert_eq!(database.count(events).await, 1);
        world.start_daemon().await;
        assert_eq!(database.count(events).await, 1);
        world.end().await;
    })
    .await;
}

/// What the state directory remembers.
fn remembered(world: &World) -> String {
    std::fs::read_to_string(world.state_dir().join("installation")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_set_back_under_a_running_daemon_stops_it_and_the_next_start_says_so() {
    for set_back in ["UPDATE installation SET epoch = epoch - 1", "DELETE FROM installation"] {
        on_each(async |database: &Database| {
            let clock = Clock::manual(UnixMillis(1_800_000_000_000));
            let key = |config: &mut Config| config.encryption.master_key = Some(master_key());
            let mut world = World::start_at(clock.clone(), database, Options::default(), key).await;
            world.connect("sales", ALICE).await;
            // As long as it grows, all is well.
            let before = remembered(&world);
            let interval = Duration::from_mins(5);
            clock.advance(interval);
            let grows = async {
                while remembered(&world) == before {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, grows).await.unwrap();
            let daemon = world.daemon.as_ref().unwrap();
            assert!(daemon.failed().now_or_never().is_none(), "it goes on");

            database.execute(set_back).await;
            clock.advance(interval);
            tokio::time::timeout(DEADLINE, daemon.failed()).await.unwrap();
            world.stop_daemon().await;
            world.start_daemon().await;
            let seen = world.status("sales").await;
            assert_eq!(seen["lastDisconnect"]["reason"], "restored", "{seen}");
            assert_eq!(seen["desiredState"], "stopped", "{seen}");
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_daemons_that_start_at_once_on_a_copy_one_flags_it_and_both_live() {
    on(Kind::Postgres, async |database: &Database| {
        let key = |config: &mut Config| config.encryption.master_key = Some(master_key());
        let mut world = World::start_with(database, Options::default(), key).await;
        world.connect("sales", ALICE).await;
        world.stop_daemon().await;
        // What a copy lacks, it lacks here.
        database.execute("DELETE FROM installation").await;

        let start = || World::beside(world.whatsapp.clone(), Clock::system(), database, key);
        let (mut one, mut other) = tokio::join!(start(), start());
        let flagged = "SELECT count(*) FROM event WHERE payload LIKE '%\"restored\"%'";
        assert_eq!(database.count(flagged).await, 1);
        assert_eq!(database.count("SELECT count(*) FROM installation").await, 1);
        assert_eq!(
            database.count("SELECT count(*) FROM node").await,
            2,
            "each lets the other live"
        );
        one.stop_daemon().await;
        other.stop_daemon().await;
        world.end().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_has_no_copy() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.db");
    let url: DatabaseUrl = format!("sqlite://{}", missing.display()).parse().unwrap();
    let target = directory.path().join("copy");
    let error = backup::run(&url, &target, &|_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "the database cannot be copied");
    assert!(!missing.exists() && std::fs::read_dir(directory.path()).unwrap().next().is_none());
}
