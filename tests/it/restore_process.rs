//! A copy is restored at the command line, and the daemon that opens it knows what it is.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::Instant,
};

use serde_json::{Value, json};
use wagate_simulator::{Options, Simulator};

use crate::{
    database::{Database, Kind, in_database, on},
    process::Installation,
    world::{ALICE, BOB, DEADLINE},
};

/// The program, on this state and this database.
fn wagate(state: &Path, database: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wagate"));
    command
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("WAGATE_STATE_DIR", state)
        .env("WAGATE_DATABASE__URL", database);
    command.output().unwrap()
}

/// Why it did nothing, in one line.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn a_copy_becomes_the_database(kind: Kind) {
    on(kind, async |database: &Database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy");
        let copy = copy.to_str().unwrap();
        let original = Installation::new(directory.path(), Some(&database.url), &whatsapp);
        let state = original.state();
        let daemon = original.start();
        whatsapp.phone(ALICE).unwrap().scan(&daemon.code("sales").await.unwrap()).await.unwrap();
        daemon.paired("sales").await.unwrap();
        let bob = whatsapp.contact(BOB).unwrap();
        bob.send_text(ALICE, "kept").await.unwrap();
        let begun = Instant::now();
        while daemon.messages("sales").await.is_empty() {
            assert!(begun.elapsed() < DEADLINE, "the message does not come");
            tokio::task::yield_now().await;
        }
        let made = wagate(&state, &database.url, &["backup", copy, "--json"]);
        if kind == Kind::Postgres && !made.status.success() {
            assert!(std::env::var_os("WAGATE_TEST_REFUSE_SKIP").is_none(), "no pg_dump");
            return daemon.terminate().await;
        }
        let made = json_of(&made);
        assert_eq!(made["file"], *copy);
        assert_eq!(made["bytes"], fs::metadata(copy).unwrap().len());

        // Not beside a daemon, and not over a database.
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", directory.path().join("anew.db").display()),
            Kind::Postgres => {
                let name = format!("{}_anew", database.name());
                database.execute_on_server(&format!("CREATE DATABASE {name}")).await;
                in_database(&database.url, &name)
            }
        };
        let running = complaint(&wagate(&state, &url, &["restore", copy]));
        assert!(running.starts_with("wagate: stop the daemon first: "), "{running}");
        daemon.terminate().await;
        let logins = whatsapp.logins();
        let there = complaint(&wagate(&state, &database.url, &["restore", copy]));
        let says = if kind == Kind::Sqlite { "is there already" } else { "is not empty" };
        assert!(there.contains(says), "{there}");

        // Not without the key that opens it: another installation's directory has another one.
        if kind == Kind::Sqlite {
            let other = directory.path().join("other");
            fs::create_dir(&other).unwrap();
            fs::write(other.join("master.key"), "ab".repeat(32)).unwrap();
            fs::set_permissions(other.join("master.key"), fs::Permissions::from_mode(0o600))
                .unwrap();
            let closed = complaint(&wagate(&other, &url, &["restore", copy]));
            assert!(closed.contains("under another master key"), "{closed}");
            let left: Vec<_> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("anew"))
                .collect();
            assert_eq!(left, Vec::<String>::new(), "nothing is left behind");
        }

        let restored = json_of(&wagate(&state, &url, &["restore", copy, "--json"]));
        assert_eq!((&restored["linkedDevices"], &restored["held"]), (&1.into(), &true.into()));
        let again = complaint(&wagate(&state, &url, &["restore", copy]));
        assert!(again.contains(says), "{again}");

        // Flagged, not dialled, and with what it had.
        let restored = Installation::new(directory.path(), Some(&url), &whatsapp);
        let daemon = restored.start();
        let seen = daemon.get("/api/whatsapp/session/status/sales").await["data"].clone();
        assert_eq!(seen["lastDisconnect"]["reason"], "restored", "{seen}");
        assert_eq!(seen["desiredState"], "stopped", "{seen}");
        assert_eq!(daemon.messages("sales").await[0]["body"], "kept");
        assert_eq!(whatsapp.logins(), logins, "nobody has asked for that");
        daemon.post("/api/whatsapp/session/sales/start", json!({})).await;
        daemon.connected("sales").await.unwrap();
        daemon.terminate().await;
        whatsapp.stop().await;
        if kind == Kind::Postgres {
            let name = format!("{}_anew", database.name());
            database.execute_on_server(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_sqlite_file_becomes_the_database_and_is_known_as_a_copy() {
    a_copy_becomes_the_database(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_postgresql_becomes_the_database_and_is_known_as_a_copy() {
    a_copy_becomes_the_database(Kind::Postgres).await;
}

#[test]
fn what_is_no_copy_or_is_used_is_refused_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let url = format!("sqlite://{}", dir.path().join("anew.db").display());
    let try_with = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        complaint(&wagate(&state, &url, &["restore", file.to_str().unwrap()]))
    };
    let text = try_with("text", b"Dear diary, there is no database in here at all.");
    assert!(text.contains("no copy of a database of wagate"), "{text}");
    let empty = try_with("empty", b"");
    assert!(empty.contains("no copy of a database of wagate"), "{empty}");
    fs::write(dir.path().join("used-wal"), "a log").unwrap();
    let used = try_with("used", b"");
    assert!(used.contains("used-wal is there"), "{used}");
    let absent = complaint(&wagate(&state, &url, &["restore", "/nowhere/copy"]));
    assert!(absent.contains("cannot read /nowhere/copy"), "{absent}");
    fs::write(dir.path().join("anew.db-wal"), "a log").unwrap();
    let log = try_with("empty", b"");
    assert!(log.contains("anew.db-wal is there already"), "{log}");
    let names = fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names.filter(|name| name.contains("partial") || name == "anew.db").collect();
    assert_eq!(left, Vec::<String>::new());
}
