//! Databases of earlier versions, with what a running daemon had put into them, and this version on
//! top of them.
//!
//! `schemas/<version>/{sqlite,postgres}.sql` hold them. A release adds its own:
//!
//! ```text
//! WAGATE_TEST_WRITE_SCHEMA=0.2.0 cargo test --workspace --test it upgrade::write
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wacore::store::Device;
use wagate::clock::Clock;
use wagate_simulator::{Linked, Options, ReceiptPolicy, Simulator};

use crate::{
    database::{Database, Kind, on},
    world::{ALICE, Answer, BOB, World},
};

/// Nobody in the kept databases knows this contact.
const CAROL: &str = "15550003333";

/// Tables of which nothing is deleted in a short life. Of others it is: keys are used up, lists are
/// asked for anew, what has expired is forgotten.
const KEPT: [&str; 14] = [
    "device",
    "event",
    "idempotency",
    "message",
    "organization",
    "session",
    "token",
    "wa_identity",
    "wa_lid_mapping",
    "wa_sender_key",
    "wa_session",
    "wa_signed_prekey",
    "wa_sync_key",
    "wa_sync_version",
];

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/schemas")
}

fn file_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "sqlite.sql",
        Kind::Postgres => "postgres.sql",
    }
}

/// Fills an empty database with what a version kept.
pub(crate) async fn load(database: &Database, version: &str) {
    if database.kind == Kind::Sqlite {
        std::fs::File::create_new(&database.path).unwrap();
    }
    let file = schemas().join(version).join(file_of(database.kind));
    database.execute(&std::fs::read_to_string(file).unwrap()).await;
}

/// Versions with a kept database, oldest first.
fn versions() -> Vec<String> {
    let mut versions: Vec<String> = std::fs::read_dir(schemas())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    versions.sort();
    versions
}

/// Rows per table, for the tables of WhatsApp's own state and ours; not what a start itself changes.
async fn counts(database: &Database) -> BTreeMap<String, i64> {
    let tables = match database.kind {
        Kind::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        Kind::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
    };
    let mut counts = BTreeMap::new();
    for row in database.query(tables).await {
        let table: String = row.try_get_by_index(0).unwrap();
        if table != "seaql_migrations" {
            let rows = database.count(&format!("SELECT count(*) FROM {table}")).await;
            counts.insert(table, rows);
        }
    }
    counts
}

/// The linked device, as it was saved by the version that linked it.
async fn linked(database: &Database) -> Linked {
    let rows = database.query("SELECT state FROM device WHERE pn IS NOT NULL").await;
    let state: Vec<u8> = rows.first().unwrap().try_get_by_index(0).unwrap();
    let device: Device = serde_json::from_slice(&state).unwrap();
    let public = |pair: &wacore::libsignal::protocol::KeyPair| {
        <[u8; 32]>::try_from(pair.public_key.public_key_bytes()).unwrap()
    };
    Linked {
        device: device.pn.as_ref().unwrap().device,
        noise: public(&device.noise_key),
        identity: public(&device.identity_key),
        registration_id: device.registration_id,
        signed_prekey: (
            device.signed_pre_key_id,
            public(&device.signed_pre_key),
            device.signed_pre_key_signature.to_vec(),
        ),
        routing: device.edge_routing_info.clone(),
    }
}

/// What the API tells of the session.
async fn told(world: &World) -> (Vec<Value>, Vec<(String, Value)>) {
    let messages = world.get("/api/whatsapp/session/sales/messages?limit=500").await;
    assert_eq!(messages.status, StatusCode::OK, "{}", messages.body);
    let messages = messages.body["data"].as_array().unwrap().clone();
    (messages, world.events("sales").await)
}

async fn an_upgrade_on(kind: Kind) {
    for version in versions() {
        on(kind, async |database: &Database| {
            load(database, &version).await;
            let before = counts(database).await;
            assert!(before.values().all(|rows| *rows > 0), "a table holds nothing: {before:?}");

            let whatsapp = Simulator::start(Options::default()).await.unwrap();
            // Before anybody else: it has the LID of the account that the device is linked to.
            whatsapp.phone(ALICE).unwrap().adopt(linked(database).await);
            let mut world = World::beside(whatsapp, Clock::system(), database, |_| {}).await;

            // Without a scan.
            let seen = world.until_status("sales", "session_connected").await;
            assert_eq!(seen["phoneNumber"], ALICE, "{version}");
            assert_eq!(world.status("support").await["status"], "session_not_connected");
            assert_eq!(world.whatsapp.online_devices().len(), 1);

            let (messages, events) = told(&world).await;
            let bodies: Vec<_> = messages.iter().filter_map(|one| one["body"].as_str()).collect();
            for body in ["hello from Bob 👋", "hello to Bob", "hello all", "hello group"] {
                assert!(bodies.contains(&body), "{version}: {body} in {bodies:?}");
            }
            for kind in ["qr", "ready", "message", "message_ack"] {
                assert!(events.iter().any(|(name, _)| name == kind), "{version}: {kind}");
            }
            // What was promised under a key before is not done twice.
            let again = once(&world).await;
            assert_eq!(again.status, StatusCode::OK, "{}", again.body);
            assert_eq!(again.body["data"]["body"], "hello to Bob", "{}", again.body);

            // A new message arrives, decrypted with keys of the old database.
            world.whatsapp.contact(CAROL).unwrap().send_text(ALICE, "after").await.unwrap();
            world.until_messages("sales", messages.len() + 1).await;

            world.stop_daemon().await;
            let after = counts(database).await;
            for table in KEPT {
                assert!(after[table] >= before[table], "{version}: {table} lost rows");
            }
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_of_each_earlier_version_goes_on_without_a_scan() {
    an_upgrade_on(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_of_each_earlier_version_goes_on_without_a_scan() {
    an_upgrade_on(Kind::Postgres).await;
}

/// A message under an idempotency key.
async fn once(world: &World) -> Answer {
    let message = json!({ "to": BOB, "text": "hello to Bob" });
    let request = world.request(Method::POST, "/api/whatsapp/session/sales/messages");
    Answer::of(request.header("Idempotency-Key", "once").json(&message)).await
}

/// Does something only when asked to: writes what this version keeps, for the versions to come.
#[tokio::test(flavor = "multi_thread")]
async fn write_this_versions_database_when_asked_to() {
    let Some(version) = std::env::var_os("WAGATE_TEST_WRITE_SCHEMA") else { return };
    let folder = schemas().join(version);
    std::fs::create_dir_all(&folder).unwrap();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        on(kind, async |database: &Database| {
            let mut world = World::start(database).await;
            live(&world).await;
            world.stop_daemon().await;
            fill(database).await;
            std::fs::write(folder.join(file_of(kind)), dump(database)).unwrap();
            world.end().await;
        })
        .await;
    }
}

/// A bit of everything that a session lives through.
async fn live(world: &World) {
    let phone = world.connect("sales", ALICE).await;
    let bob = world.whatsapp.contact(BOB).unwrap();
    bob.set_receipts(ReceiptPolicy::Read);
    bob.send_text(ALICE, "hello from Bob 👋").await.unwrap();
    world.until_messages("sales", 1).await;
    let sent = once(world).await;
    assert_eq!(sent.status, StatusCode::CREATED, "{}", sent.body);
    let id = sent.body["data"]["id"].as_str().unwrap().to_owned();
    world.until_ack("sales", &id, 3).await;
    let group = world.whatsapp.group("Friends", &[ALICE, BOB]).unwrap();
    bob.send_group(&group.jid(), "hello all").await.unwrap();
    world.until_messages("sales", 3).await;
    let id = world.send("sales", &group.jid(), "hello group").await;
    world.until_ack("sales", &id, 3).await;
    phone.wait_for_receipts(2).await.unwrap();
    let stopped = json!({ "sessionId": "support", "start": false });
    assert_eq!(world.post("/api/whatsapp/session", stopped).await.status, StatusCode::CREATED);
}

/// A row for each table that a short life leaves empty, and not eight hundred keys.
async fn fill(database: &Database) {
    database.execute("DELETE FROM wa_prekey WHERE prekey_id > 20").await;
    let blob = match database.kind {
        Kind::Sqlite => "x'0102'",
        Kind::Postgres => "'\\x0102'::bytea",
    };
    let rows = [
        ("wa_identity", format!("'1.0', {blob}")),
        ("wa_session", format!("'1.0', {blob}")),
        ("wa_signed_prekey", format!("1, {blob}")),
        ("wa_sender_key", format!("'g::s', {blob}")),
        ("wa_sync_key", format!("{blob}, {blob}, {blob}, 1, 1")),
        ("wa_sync_version", format!("'regular', {blob}")),
        ("wa_mutation_mac", format!("'regular', {blob}, 1, {blob}")),
        ("wa_sender_key_device", "'g', 'd', true".to_owned()),
        ("wa_lid_mapping", "'1', '2', 1, 1, 'usync', 1".to_owned()),
        ("wa_base_key", format!("'1', 'm', {blob}")),
        ("wa_device_list", "'1', '[]', 1, NULL, NULL".to_owned()),
        ("wa_group_metadata", format!("'g', {blob}")),
        ("wa_tc_token", format!("'1', {blob}, 1, NULL")),
        ("wa_sent_message", format!("'c', 'm', {blob}, 1")),
        ("wa_pending_inbound", format!("'c', 's', 'm', {blob}, 1")),
        ("wa_msg_secret", format!("'c', 's', 'm', {blob}, 9000000000, 1")),
    ];
    for (table, values) in rows {
        if database.count(&format!("SELECT count(*) FROM {table}")).await == 0 {
            let device = "SELECT id FROM device WHERE pn IS NOT NULL";
            database.execute(&format!("INSERT INTO {table} VALUES (({device}), {values})")).await;
        }
    }
    for (table, rows) in counts(database).await {
        assert!(rows > 0, "{table} holds nothing");
    }
}

/// As SQL that any connection can run.
fn dump(database: &Database) -> String {
    let output = match database.kind {
        Kind::Sqlite => Command::new("sqlite3").arg(&database.path).arg(".dump").output(),
        Kind::Postgres => Command::new("pg_dump")
            .args(["--inserts", "--no-owner", "--no-privileges", &database.url])
            .output(),
    };
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Settings of the one who restores, and comments.
    let noise = ["--", "\\", "SET ", "SELECT pg_catalog.set_config"];
    let sql = String::from_utf8(output.stdout).unwrap();
    let kept = sql.lines().filter(|line| !noise.iter().any(|start| line.starts_with(start)));
    kept.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}
