//! Databases of earlier versions, with what a running daemon had put into them, and this version on
//! top of them.
//!
//! `schemas/<version>/{sqlite,postgres}.sql` hold them, sealed under a key of the tests' own. A release adds its own,
//! and so does whoever wants to know between two releases (`main-<year>-<month>`):
//!
//! ```text
//! WAGATE_TEST_WRITE_SCHEMA=0.2.0 cargo test --workspace --test it upgrade::write
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use entity::{UnixMillis, id::EventId};
use reqwest::{Method, StatusCode};
use sea_orm_migration::MigratorTrait as _;
use serde_json::{Value, json};
use wacore::store::{Device, traits::DeviceStore as _};
use wagate::{clock::Clock, config::Config, device::Backend, meta::Signature};
use wagate_simulator::{Linked, Options, ReceiptPolicy, Simulator};

use crate::{
    database::{Database, Kind, on, on_each},
    meta::{NUMBER, SECRET, SHARED, WABA, changes, complete},
    secrets::{self, found_in},
    world::{ALICE, Answer, BOB, CAROL, DEADLINE, World, calls_this_machine},
};

/// A pairing code that somebody elsewhere has told of.
const CODE: &str = "WXYZ-9876";

/// Where a paused endpoint is.
const ENDPOINT: &str = "http://127.0.0.1:9/services/a-path-like-a-secret";

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
pub(crate) fn versions() -> Vec<String> {
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

/// What everything in kept databases is sealed under.
pub(crate) fn sealed_by_the_tests(config: &mut Config) {
    config.encryption.master_key = Some("5a".repeat(32).into());
    calls_this_machine(config);
}

/// The linked device, as it was saved by the version that linked it.
pub(crate) async fn linked(database: &Database, version: &str) -> Linked {
    let find = "SELECT state, id, session_key FROM device WHERE pn IS NOT NULL";
    let rows = database.query(find).await;
    let state: Vec<u8> = rows.first().unwrap().try_get_by_index(0).unwrap();
    let device: Device = if let Ok(device) = serde_json::from_slice(&state) {
        device
    } else {
        // It is sealed: read by a store of today, on a database of its own.
        let id: i32 = rows[0].try_get_by_index(1).unwrap();
        let key: String = rows[0].try_get_by_index(2).unwrap();
        let aside = Database::new(database.kind).await.unwrap();
        load(&aside, version).await;
        let opened = aside.open_by_the_machine_s_clock().await;
        let backend = Backend::new(opened.store.clone(), id, &key.parse().unwrap());
        let device = backend.load().await.unwrap().unwrap();
        opened.close().await;
        aside.drop().await;
        device
    };
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
            whatsapp.phone(ALICE).unwrap().adopt(linked(database, &version).await);
            let clock = Clock::system();
            let mut world = World::beside(whatsapp, clock, database, sealed_by_the_tests).await;

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

            goes_on_elsewhere(&world, &before).await;

            // A new message arrives, decrypted with keys of the old database, of whom nobody in it knows.
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

/// Of before addresses were sealed, in a database that has sealed what was there before all the same.
async fn notices_of_before(kind: Kind) {
    on(kind, async |database: &Database| {
        load(database, "main-2026-11").await;
        let of = "FROM webhook_endpoint WHERE state = 'paused'";
        let found = database.query(&format!("SELECT id, organization_id {of}")).await;
        let endpoint: String = found[0].try_get_by_index(0).unwrap();
        let organization: String = found[0].try_get_by_index(1).unwrap();
        let session = database.query("SELECT id FROM session WHERE session_id = 'sales'").await;
        let session: String = session[0].try_get_by_index(0).unwrap();
        let told = [
            ("webhook.endpoint.failing", "NULL", json!({ "endpointId": endpoint, "url": ENDPOINT })),
            ("unknown", &format!("'{session}'"), json!({ "event": "code", "data": { "code": CODE } })),
        ];
        for (number, (kind, session, data)) in told.iter().enumerate() {
            let id = EventId::new(UnixMillis(1_796_014_150_000), number as u128);
            let sql = format!(
                "INSERT INTO webhook_event (id, organization_id, seq, event_type, session_key, \
                 conversation, payload, occurred_at, in_feed) VALUES \
                 ('{id}', '{organization}', {}, '{kind}', {session}, 'x', '{data}', 1796014150000, TRUE)",
                1000 + number
            );
            database.execute(&sql).await;
        }
        database.execute("UPDATE organization SET last_seq = 1001").await;
        let wanted = [ENDPOINT, CODE].map(|text| (text.to_owned(), text.as_bytes().to_vec()));
        assert_eq!(found_in(&secrets::dump(database), &wanted).len(), 2);

        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        whatsapp.phone(ALICE).unwrap().adopt(linked(database, "main-2026-11").await);
        let mut world = World::beside(whatsapp, Clock::system(), database, sealed_by_the_tests).await;
        world.until_status("sales", "session_connected").await;
        let feed = world.get("/api/whatsapp/events/page?after=999&limit=500").await.body;
        assert!(feed.to_string().contains(ENDPOINT), "whoever may know it is told: {feed}");
        world.stop_daemon().await;
        assert_eq!(found_in(&secrets::dump(database), &wanted), Vec::<String>::new());
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqlite_has_of_where_endpoints_were_is_sealed_by_an_upgrade() {
    Box::pin(notices_of_before(Kind::Sqlite)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgresql_has_of_where_endpoints_were_is_sealed_by_an_upgrade() {
    Box::pin(notices_of_before(Kind::Postgres)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_of_each_earlier_version_goes_on_without_a_scan() {
    an_upgrade_on(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_of_each_earlier_version_goes_on_without_a_scan() {
    an_upgrade_on(Kind::Postgres).await;
}

/// When a token was replaced, and when it would have ended.
type Replaced = (Option<i64>, Option<i64>);

/// Of before it stood in the row when a token would end that has another one in its place.
#[tokio::test]
async fn when_a_token_would_end_that_was_replaced_is_taken_from_the_audit_log_by_an_upgrade() {
    on_each(async |database: &Database| {
        load(database, "main-2026-11").await;
        let found = database.query("SELECT id FROM organization WHERE client_id = 1").await;
        let organization: String = found[0].try_get_by_index(0).unwrap();
        // Of each: what the log says of it, one after the other; when it was replaced and would end.
        let tokens: [(&[&str], Replaced); 4] = [
            (&[r#"{"wouldHaveExpiredAt":1999000000000}"#], (Some(1), Some(1_999_000_000_000))),
            (
                &[r#"{"wouldHaveExpiredAt":1999000000001}"#, r#"{"wouldHaveExpiredAt":null}"#],
                (Some(2), None),
            ),
            // Of before that was written down.
            (&[r#"{"expiresAt":1}"#], (None, None)),
            (&[], (None, None)),
        ];
        for (number, (log, _)) in tokens.iter().enumerate() {
            let row = format!(
                "INSERT INTO token (id, organization_id, role, secret_hash, label, created_at, expires_at) \
                 VALUES ('tok_{number}', '{organization}', 'viewer', 'hash {number}', 'x', 1, 1800000000000)"
            );
            database.execute(&row).await;
            for (place, detail) in log.iter().enumerate() {
                let entry = format!(
                    "INSERT INTO audit (id, organization_id, action, target, detail, at) VALUES \
                     ('aud_{number}{place}', '{organization}', 'token_rotated', 'tok_{number}', '{detail}', {})",
                    place + 1
                );
                database.execute(&entry).await;
            }
        }
        let db = database.connect().await;
        migration::Migrator::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        for (number, (_, expected)) in tokens.iter().enumerate() {
            let ask = format!("SELECT replaced_at, own_expires_at FROM token WHERE id = 'tok_{number}'");
            let rows = database.query(&ask).await;
            let seen = (rows[0].try_get_by_index(0).unwrap(), rows[0].try_get_by_index(1).unwrap());
            assert_eq!(seen, *expected, "{number}");
        }
    })
    .await;
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
            let options = Options::default();
            let mut world = World::start_with(database, options, sealed_by_the_tests).await;
            live(&world).await;
            live_elsewhere(&world).await;
            world.stop_daemon().await;
            fill(database).await;
            std::fs::write(folder.join(file_of(kind)), dump(database)).unwrap();
            world.end().await;
        })
        .await;
    }
}

/// A bit of everything that a session lives through, and an endpoint is owed.
async fn live(world: &World) {
    let endpoint = world.post("/api/webhooks", json!({ "url": ENDPOINT })).await;
    assert_eq!(endpoint.status, StatusCode::CREATED, "{}", endpoint.body);
    // Nobody is there.
    let id = endpoint.body["data"]["id"].as_str().unwrap();
    let paused = world.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
    assert!(paused.status.is_success(), "{}", paused.body);
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

/// What is not a session's of the WhatsApp client: a webhook endpoint, a number at Meta's, a campaign.
async fn live_elsewhere(world: &World) {
    let made = async |path: &str, body: Value| {
        let answer = world.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer.body["data"].clone()
    };
    made("/api/meta/accounts", complete(NUMBER, WABA, SECRET)).await;
    let told = json!({ "field": "messages", "value": {
        "metadata": { "phone_number_id": NUMBER, "display_phone_number": "15550783881" },
        "contacts": [{ "profile": { "name": "Sheena" }, "wa_id": "16505551234" }],
        "messages": [{ "from": "16505551234", "id": "wamid.in", "timestamp": "1799999000",
                       "type": "text", "text": { "body": "hello from Meta" } }],
        "statuses": [{ "id": "wamid.out", "status": "sent", "timestamp": "1799999000",
                       "recipient_id": "16505551234" }],
    } });
    let body = serde_json::to_vec(&changes(WABA, &[told])).unwrap();
    let signature = Signature::of(SECRET.as_bytes(), &body).to_string();
    let request = world.request(Method::POST, SHARED).header("content-type", "application/json");
    let request = request.header("x-hub-signature-256", signature).body(body);
    assert!(request.send().await.unwrap().status().is_success());
    let begun = std::time::Instant::now();
    loop {
        let all = world.get("/api/meta/events").await.body;
        let told = all["data"].as_array().unwrap();
        if told.len() == 2 && told.iter().all(|it| it["state"] == "processed") {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{all:#}");
    }
    let campaign = made("/api/campaigns", json!({ "name": "Sale", "sessionId": "sales" })).await;
    let audience = format!("/api/campaigns/{}/audience", campaign["id"].as_str().unwrap());
    made(&audience, json!({ "members": [{ "phoneNumber": "16505551234" }] })).await;
}

/// The same, on a later version, of a database that has it.
async fn goes_on_elsewhere(world: &World, before: &BTreeMap<String, i64>) {
    if !before.contains_key("webhook_endpoint") {
        return;
    }
    let endpoints = world.get("/api/webhooks").await.body;
    assert_eq!(endpoints["data"][0]["url"], ENDPOINT, "{endpoints}");
    let campaigns = world.get("/api/campaigns").await.body;
    assert_eq!(campaigns["data"][0]["name"], "Sale", "{campaigns}");
    let of_meta = world.get("/api/whatsapp/session/meta_106540352242922/messages").await.body;
    assert_eq!(of_meta["data"][0]["body"], "hello from Meta", "{of_meta}");
    let told = world.get("/api/meta/events").await.body["data"].clone();
    let one = format!("/api/meta/events/{}", told[0]["id"].as_str().unwrap());
    let one = world.get(&one).await.body;
    assert!(one["data"]["payload"].to_string().contains("wamid"), "its body opens: {one}");
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
    let endpoint = "(SELECT id FROM webhook_endpoint LIMIT 1)";
    let organization = "(SELECT organization_id FROM webhook_endpoint LIMIT 1)";
    // Those of a life that is longer, or was just then: all of them are over.
    let rows = [
        ("node", "id, home, name, joined_at, expires_at", "'nod_1', 'h', 'n', 1, 1".to_owned()),
        ("writer_lane", "id, last_group, written_at", "'lane_1', 1, 1".to_owned()),
        (
            "command",
            "id, session_key, request, expires_at",
            "'cmd_1', (SELECT id FROM session LIMIT 1), '{}', 1".to_owned(),
        ),
        (
            "webhook_stat",
            "endpoint_id, hour, outcome, bucket, number",
            format!("{endpoint}, 1, 'succeeded', 1, 1"),
        ),
        (
            "webhook_gap",
            "id, endpoint_id, reason, after_seq, through_seq, since, until",
            format!("'gap_1', {endpoint}, 'failing', 1, 2, 1, 4000000000000"),
        ),
        (
            "webhook_replay",
            "id, organization_id, endpoint_id, state, after_seq, through_seq, cursor_seq, owed, \
             rate_per_second, stepped_at, created_at, finished_at",
            format!(
                "'rpl_1', {organization}, {endpoint}, 'done', 1, 2, 2, 1, 1, 1, 1, 4000000000000"
            ),
        ),
        (
            "webhook_attempt",
            "id, delivery_id, endpoint_id, number, started_at, duration_ms",
            format!("'att_z', (SELECT min(id) FROM webhook_delivery), {endpoint}, 1, 1, 1"),
        ),
    ];
    for (table, columns, values) in rows {
        if database.count(&format!("SELECT count(*) FROM {table}")).await == 0 {
            database.execute(&format!("INSERT INTO {table} ({columns}) VALUES ({values})")).await;
        }
    }
    let counts = counts(database).await;
    let empty: Vec<_> = counts.iter().filter(|(_, rows)| **rows == 0).collect();
    assert!(empty.is_empty(), "these hold nothing: {empty:?}");
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
