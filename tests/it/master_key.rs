//! The master key: made once, refused when it is another, rotated while the daemon runs.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    store::{
        audit::By,
        connect::{OpenError, Options},
        keys,
    },
    vault::{MasterKey, source::Source},
};

use crate::{
    database::{self, Database, Kind, on_each},
    program::{Process, command, ended},
    secrets::dump,
    world::{ALICE, BOB, World},
};

/// All files of a state directory. SQLite's index of its log is rebuilt by whoever opens a database
/// that was left open, and holds nothing: it is left out.
fn files(state: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_str().unwrap().ends_with("-shm"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn assert_refused(state: &Path, change: impl Fn(&mut Command), reason: &str) {
    let before = files(state);
    let mut run = command(state);
    change(&mut run);
    let (code, log) = ended(run);
    assert_eq!(code, Some(64), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("Cannot start: cannot use the master key: "), "{last}");
    assert!(last.contains(reason), "{last}");
    assert!(files(state) == before, "nothing was written");
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_one_line_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    for killed in [false, true] {
        let mut process = Process::start(&state);
        // After a kill, part of the database is in its log only.
        process.signal(if killed { "-KILL" } else { "-TERM" });
        process.code();
        let key = state.join("master.key");
        let kept = std::fs::read(&key).unwrap();

        std::fs::remove_file(&key).unwrap();
        assert_refused(&state, |_| (), "their master key is not in ");
        let other = "ab".repeat(32);
        let change = |run: &mut Command| {
            run.env("WAGATE_ENCRYPTION__MASTER_KEY", &other);
        };
        assert_refused(&state, change, "sealed under another master key");
        let change = |run: &mut Command| {
            run.env("WAGATE_ENCRYPTION__MASTER_KEY", "hunter2");
        };
        assert_refused(&state, change, "encryption.master_key is no master key");

        std::fs::write(&key, &kept).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_refused(&state, |_| (), "chmod 600");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

        // The right one, from wherever.
        let text = String::from_utf8(kept).unwrap();
        let credentials = dir.path().join("credentials");
        std::fs::create_dir_all(&credentials).unwrap();
        let credential = credentials.join("wagate-master-key");
        std::fs::rename(&key, &credential).unwrap();
        let mut run = command(&state);
        run.env("CREDENTIALS_DIRECTORY", &credentials);
        Process::of(run, &state).signal("-TERM");
        let mut run = command(&state);
        run.env("WAGATE_ENCRYPTION__MASTER_KEY", text.trim());
        Process::of(run, &state).signal("-TERM");
        assert!(!key.exists(), "a key that is kept elsewhere is not copied");
        std::fs::rename(&credential, &key).unwrap();
    }
}

/// As above, on a server: no row is changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_leaves_the_rows_as_they_were() {
    on_each(async |database: &Database| {
        let mut world = World::start(database).await;
        world.stop_daemon().await;
        let before = dump(database);
        let mut run = world.program("run");
        run.env("WAGATE_ENCRYPTION__MASTER_KEY", "ab".repeat(32));
        let (code, log) = ended(run);
        assert_eq!(code, Some(64), "{log}");
        assert!(log.contains("sealed under another master key"), "{log}");
        assert!(dump(database) == before, "nothing was written");
        world.end().await;
    })
    .await;
}

/// As a downgrade has it: the keys may be wrapped in a way that this program does not know.
#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_of_a_database_newer_than_the_program_is_not_rotated() {
    on_each(async |database: &Database| {
        let mut world = World::start(database).await;
        world.stop_daemon().await;
        let future = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_x', 0)";
        database.execute(future).await;
        let before = dump(database);
        let done = rekey(&world, &[]);
        let log = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && log.contains("newer version of this program"), "{log}");
        assert!(dump(database) == before, "nothing was written");
        // It may become newer once the keys were looked at.
        let options = Options::new(database.url.as_str());
        let first = key_in(&world.state_dir().join("master.key"));
        let refused = keys::rewrap(
            &options,
            &first,
            &database::master_key(),
            &By::default(),
            Clock::system().now(),
        )
        .await
        .unwrap_err();
        assert!(matches!(refused, keys::RekeyError::Open(OpenError::Newer(_))), "{refused}");
        assert!(dump(database) == before, "nothing was written");
        world.end().await;
    })
    .await;
}

fn rekey(world: &World, arguments: &[&str]) -> Output {
    world.program("rekey").args(arguments).output().unwrap()
}

/// The key in a file.
fn key_in(path: &Path) -> MasterKey {
    Source::File(path.to_owned()).read().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_rotated_under_load_and_the_old_one_is_refused() {
    on_each(async |database: &Database| {
        let mut world = World::start(database).await;
        world.connect("shop", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let first = key_in(&world.state_dir().join("master.key"));

        let load = TaskTracker::new().spawn({
            let bob = bob.clone();
            async move { bob.send_many(ALICE, "load", 300).await.unwrap() }
        });
        for _ in 0..3 {
            let done = tokio::task::block_in_place(|| rekey(&world, &[]));
            let said = String::from_utf8(done.stdout).unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert!(said.contains("The master key is rotated: 1 data keys are under "), "{said}");
        }
        load.await.unwrap();
        world.until_messages("shop", 300).await;
        let sent = world.send("shop", BOB, "and one back").await;
        world.until_ack("shop", &sent, 2).await;

        // The daemon finds the new key by itself when it needs another data key.
        let store = world.daemon.as_ref().unwrap().store().clone();
        let second = database::second_organization(database).await;
        let patience = wagate::store::Patience::Fail;
        store.sealer(&second, patience).await.unwrap();

        let log = world.get("/api/audit?action=master_key_rotated").await.body;
        let log = log["data"].as_array().unwrap();
        assert_eq!(log.len(), 3);
        assert_eq!(log[0]["target"], key_in(&world.state_dir().join("master.key")).id().as_str());
        assert_eq!(log[0]["detail"]["before"], log[1]["target"]);
        assert_eq!((&log[0]["tokenId"], &log[0]["detail"]["dataKeys"]), (&Value::Null, &1.into()));
        // By whoever called the program.
        for entry in log {
            let by = &entry["detail"]["by"];
            assert_eq!(by["via"], "command line", "{entry}");
            assert!(by["user"].as_str().is_some_and(|user| !user.is_empty()), "{entry}");
        }

        world.stop_daemon().await;
        world.start_daemon().await;
        world.until_status("shop", "session_connected").await;
        bob.send_text(ALICE, "after the restart").await.unwrap();
        world.until_messages("shop", 302).await;
        world.stop_daemon().await;

        let retired = world.state_dir().join(format!("master.key.retired-{}", first.id()));
        assert_eq!(key_in(&retired), first);
        let mut run = world.program("run");
        run.env("WAGATE_ENCRYPTION__MASTER_KEY_FILE", &retired);
        let (code, log) = ended(run);
        assert_eq!(code, Some(64), "{log}");
        assert!(log.contains("sealed under another master key"), "{log}");
        world.start_daemon().await;
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_anywhere_leaves_a_key_that_opens_the_database() {
    on_each(async |database: &Database| {
        let mut world = World::start(database).await;
        world.connect("shop", ALICE).await;
        let options = Options::new(database.url.as_str());
        let path = world.state_dir().join("master.key");
        let own = Source::Own(path.clone());

        // Before the database has taken the new key.
        drop(own.prepare().unwrap());
        world.stop_daemon().await;
        world.start_daemon().await;
        // After that, before the files changed places.
        let old = key_in(&path);
        let rotation = own.prepare().unwrap();
        keys::rewrap(&options, &old, rotation.key(), &By::default(), Clock::system().now())
            .await
            .unwrap();
        let new = rotation.key().clone();
        drop(rotation);
        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(key_in(&path), new);

        // At moments that nobody chose.
        for looks in 0..20 {
            let mut run = world.program("rekey").spawn().unwrap();
            // Each look at the clock of another process takes a moment; the last runs get far.
            for _ in 0..looks * looks * 8 {
                run.try_wait().unwrap();
                std::thread::yield_now();
            }
            run.kill().unwrap();
            run.wait().unwrap();
            let wrapped = keys::list(&options).await.unwrap();
            let found = own.find(true, |key| key.opens(&wrapped)).unwrap();
            assert_eq!(key_in(&path), found);
        }
        world.stop_daemon().await;
        world.start_daemon().await;
        world.until_status("shop", "session_connected").await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_text(ALICE, "still here").await.unwrap();
        world.until_messages("shop", 1).await;
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_says_in_one_line_why_it_cannot_be() {
    on_each(async |database: &Database| {
        let mut world = World::start(database).await;
        let path = world.state_dir().join("master.key");
        let elsewhere = world.state_dir().join("elsewhere.key");
        let elsewhere = elsewhere.to_str().unwrap();
        let line = |output: Output| {
            assert_eq!(output.status.code(), Some(1));
            let line = String::from_utf8(output.stderr).unwrap();
            assert_eq!(line.lines().count(), 1, "{line}");
            line
        };
        std::fs::write(elsewhere, "cd".repeat(32)).unwrap();
        let output = rekey(&world, &["--old-key", elsewhere]);
        let refused = line(output);
        assert!(
            refused.contains("chmod 600") || refused.contains("another master key"),
            "{refused}"
        );
        std::fs::remove_file(elsewhere).unwrap();
        let same = line(rekey(&world, &["--new-key", path.to_str().unwrap()]));
        assert!(same.contains("in force already"), "{same}");

        // A key that was told cannot be replaced; a new place for it can be named.
        let text = std::fs::read_to_string(&path).unwrap();
        let mut told = world.program("rekey");
        told.env("WAGATE_ENCRYPTION__MASTER_KEY", text.trim());
        let refused = line(told.output().unwrap());
        assert!(refused.contains("--new-key"), "{refused}");
        let done = rekey(&world, &["--new-key", elsewhere]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        world.stop_daemon().await;
        let (code, log) = ended(world.program("run"));
        assert_eq!(code, Some(64), "{log}");
        std::fs::rename(elsewhere, &path).unwrap();
        world.start_daemon().await;
        world.end().await;

        if database.kind == Kind::Sqlite {
            let dir = tempfile::tempdir().unwrap();
            let mut nothing = command(&dir.path().join("state"));
            nothing.arg("rekey");
            let (code, log) = ended(nothing);
            assert_eq!((code, log.lines().count()), (Some(1), 1), "{log}");
        }
    })
    .await;
}
