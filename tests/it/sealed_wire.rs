//! What a thief of the database finds: after a real pairing and messages both ways, and after an
//! upgrade from the time when everything was in clear.

use futures_util::future::try_join_all;
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use wagate::{
    clock::Clock,
    event::Event,
    store::{Store, connect::Options, events::NewEvent},
    vault::{Column, MasterKey, Part, Sealer, Vault},
};

use crate::{
    database::{Database, Kind, on, on_each},
    secrets::{self, Secret, dump, found_in},
    world::{ALICE, BOB, World},
};

/// Columns of secrets that are bytes, with the columns that name a row.
const SEALED: [(&str, &str, &[&str]); 11] = [
    ("device", "state", &["id"]),
    ("wa_session", "record", &["device_id", "address"]),
    ("wa_prekey", "record", &["device_id", "prekey_id"]),
    ("wa_signed_prekey", "record", &["device_id", "prekey_id"]),
    ("wa_sender_key", "record", &["device_id", "address"]),
    ("wa_sync_key", "key_data", &["device_id", "key_id"]),
    ("wa_tc_token", "token", &["device_id", "jid"]),
    ("wa_sent_message", "payload", &["device_id", "chat_jid", "message_id"]),
    ("wa_pending_inbound", "message", &["device_id", "chat", "sender", "message_id"]),
    ("wa_msg_secret", "secret", &["device_id", "chat", "sender", "message_id"]),
    ("message", "raw", &["session_key", "dedupe_key"]),
];

/// A session that is linked and has messages both ways, one of them with a known body.
async fn talked(database: &Database) -> World {
    let world = World::start(database).await;
    world.connect("shop", ALICE).await;
    let bob = world.whatsapp.contact(BOB).unwrap();
    bob.send_text(ALICE, "a body in clear").await.unwrap();
    world.until_messages("shop", 1).await;
    let sent = world.send("shop", BOB, "and one back").await;
    world.until_ack("shop", &sent, 2).await;
    world
}

/// All that must not be found: the device's secrets and the operator's token.
async fn secrets_of(world: &World, database: &Database) -> Vec<Secret> {
    let store = world.daemon.as_ref().unwrap().store();
    let mut secrets = secrets::of_device(database, store).await;
    secrets.push(("operator's token".to_owned(), world.token.clone().into_bytes()));
    for (name, event) in world.events("shop").await {
        if name == "qr" {
            let qr = event["qr"].as_str().expect("a code is opened for its reader");
            secrets.push(("pairing code".to_owned(), qr.as_bytes().to_vec()));
        }
    }
    assert!(secrets.iter().any(|(name, _)| name == "pairing code"));
    secrets
}

/// Nothing of them is there; history, which is in clear, shows that we would see it.
fn assert_unreadable(database: &Database, secrets: &[Secret]) {
    let bytes = dump(database);
    let body = [("a body".to_owned(), b"a body in clear".to_vec())];
    assert_eq!(found_in(&bytes, &body), ["a body"]);
    assert_eq!(found_in(&bytes, secrets), Vec::<String>::new(), "{database:?}");
}

/// Messages as they came are sealed, and open for whoever asks the store.
async fn assert_raw_opens(world: &World, database: &Database) {
    let store = world.daemon.as_ref().unwrap().store();
    let rows = database.query("SELECT id FROM message WHERE direction = 'inbound'").await;
    assert_eq!(rows.len(), 1);
    let id: String = rows[0].try_get_by_index(0).unwrap();
    let row = store.messages().find_by_id(&id.parse().unwrap()).await.unwrap().unwrap();
    let raw = store.raw(&row).await.unwrap().unwrap();
    let body: &[u8] = b"a body in clear";
    assert!(raw.windows(body.len()).any(|window| window == body));
    assert!(!row.raw.unwrap().windows(body.len()).any(|window| window == body));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_linked_device_can_be_read_off_the_database() {
    on_each(async |database: &Database| {
        let mut world = talked(database).await;
        let mut secrets = secrets_of(&world, database).await;
        assert_raw_opens(&world, database).await;
        // While it runs, its log and all; and when it has put everything into the file.
        assert_unreadable(database, &secrets);
        secrets.extend(secrets_of(&world, database).await);
        world.stop_daemon().await;
        assert_unreadable(database, &secrets);
        world.end().await;
    })
    .await;
}

/// A store past the daemon, with the daemon's own key.
async fn store(world: &World, database: &Database) -> Store {
    let key = std::fs::read_to_string(world.state_dir().join("master.key")).unwrap();
    let vault = Vault::new(MasterKey::parse(&key).unwrap(), None);
    let options = Options::new(database.url.as_str());
    let tracker = tokio_util::task::TaskTracker::new();
    Store::open(options, vault.into(), Clock::system(), &tracker).await.unwrap()
}

/// Writes back in clear what is sealed in `tables`, as it was before there were keys.
async fn unseal(
    database: &Database,
    sealer: &Sealer,
    tables: &[(&'static str, &'static str, &[&str])],
) {
    let db = database.connect().await;
    let backend = db.get_database_backend();
    let parameter = |number: usize| match backend {
        DbBackend::Sqlite => "?".to_owned(),
        _ => format!("${number}"),
    };
    for (table, column, key) in tables {
        let select = format!("SELECT {column}, {} FROM {table}", key.join(", "));
        for row in db.query_all_raw(Statement::from_string(backend, select)).await.unwrap() {
            let stored: Option<Vec<u8>> = row.try_get_by_index(0).unwrap();
            let Some(stored) = stored.filter(|stored| !stored.is_empty()) else { continue };
            let values: Vec<Value> = (1..=key.len())
                .map(|at| {
                    let number = row.try_get_by_index::<i32>(at).map(i64::from);
                    let number = number.or_else(|_| row.try_get_by_index::<i64>(at));
                    let bytes = || row.try_get_by_index::<Vec<u8>>(at).unwrap();
                    let text = row.try_get_by_index::<String>(at);
                    number
                        .map(Value::from)
                        .or(text.map(Value::from))
                        .unwrap_or_else(|_| bytes().into())
                })
                .collect();
            let parts: Vec<Part<'_>> = values
                .iter()
                .map(|value| match value {
                    Value::BigInt(Some(number)) => Part::Number(*number),
                    Value::String(Some(text)) => Part::Text(text),
                    Value::Bytes(Some(bytes)) => Part::Bytes(bytes),
                    other => panic!("{other:?} names no row"),
                })
                .collect();
            let clear = sealer.open(Column::new(table, column), &parts, &stored).unwrap();
            let rows: Vec<_> =
                (2..).zip(*key).map(|(n, k)| format!("{k} = {}", parameter(n))).collect();
            let update = format!(
                "UPDATE {table} SET {column} = {} WHERE {}",
                parameter(1),
                rows.join(" AND ")
            );
            let values = std::iter::once(Value::from(clear)).chain(values);
            db.execute_raw(Statement::from_sql_and_values(backend, update, values)).await.unwrap();
        }
    }
    db.close().await.unwrap();
}

/// The same for pairing codes.
async fn unseal_codes(database: &Database, store: &Store, sealer: &Sealer) {
    let organization = sealer.organization();
    for event in store.events().page(organization, None, 0, 1000).await.unwrap() {
        let payload = event.payload.replace('\'', "''");
        database
            .execute(&format!("UPDATE event SET payload = '{payload}' WHERE id = '{}'", event.id))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_from_before_is_sealed_at_its_first_start() {
    on_each(async |database: &Database| Box::pin(upgrade(database)).await).await;
}

async fn upgrade(database: &Database) {
    let mut world = talked(database).await;
    let secrets = secrets_of(&world, database).await;
    world.stop_daemon().await;

    // Back to the day before.
    let store = store(&world, database).await;
    let (_, key) = secrets::device(database).await;
    let patience = wagate::store::Patience::Fail;
    let sealer = store.sealer_of(&key, patience).await.unwrap().unwrap();
    unseal(database, &sealer, &SEALED).await;
    unseal_codes(database, &store, &sealer).await;
    store.close().await;
    database.execute("DROP TABLE data_key").await;
    database.execute("DROP TABLE vault").await;
    let step = "DELETE FROM seaql_migrations WHERE version = 'm20261124_000010_vault'";
    database.execute(step).await;
    std::fs::remove_file(world.state_dir().join("master.key")).unwrap();
    let mut names = found_in(&dump(database), &secrets);
    names.sort();
    names.dedup();
    for name in ["noise key", "identity key", "signed prekey", "ADV secret", "pairing code"] {
        assert!(names.iter().any(|found| found == name), "{name} is in clear: {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("session")), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("prekey")), "{names:?}");

    // The first start with keys: nothing is left in clear, and nobody has to scan anything.
    world.start_daemon().await;
    assert_unreadable(database, &secrets);
    goes_on(&mut world, "after the upgrade", 2).await;

    // Killed half-way through it, a start goes on where that one ended.
    world.stop_daemon().await;
    let store = self::store(&world, database).await;
    let sealer = store.sealer_of(&key, patience).await.unwrap().unwrap();
    unseal(database, &sealer, &SEALED[..2]).await;
    store.close().await;
    database.execute("UPDATE vault SET sealed_at = NULL").await;
    assert!(!found_in(&dump(database), &secrets).is_empty());
    world.start_daemon().await;
    goes_on(&mut world, "after half of it", 3).await;
    world.stop_daemon().await;
    assert_unreadable(database, &secrets);
    assert_eq!(database.count("SELECT count(*) FROM vault WHERE sealed_at IS NULL").await, 0);
    world.end().await;
}

/// The session is connected without a code, and messages go both ways.
async fn goes_on(world: &mut World, text: &str, messages: usize) {
    world.until_status("shop", "session_connected").await;
    let bob = world.whatsapp.contact(BOB).unwrap();
    bob.send_text(ALICE, text).await.unwrap();
    let path = format!("/api/whatsapp/session/shop/messages?limit={}", messages * 2);
    world
        .until("the message", async || {
            let seen = world.get(&path).await.body["data"].clone();
            let here = seen.as_array().is_some_and(|all| all.iter().any(|one| one["body"] == text));
            if here { Ok(()) } else { Err(seen) }
        })
        .await;
    let sent = world.send("shop", BOB, text).await;
    world.until_ack("shop", &sent, 2).await;
    assert!(world.whatsapp.violations().is_empty());
}

/// Rows that were changed or moved by hand say so, and nothing worse.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_altered_or_moved_does_not_open() {
    use wacore::store::traits::{DeviceStore as _, SignalStore as _};
    use wagate::device::{self, Backend};

    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (one, other) = (opened.session("one").await, opened.session("other").await);
        let mut backends = Vec::new();
        for session in [&one, &other] {
            let id = device::create(&opened.store, &session.id).await.unwrap();
            let backend = Backend::new(opened.store.clone(), id, &session.id);
            backend.create().await.unwrap();
            backend.put_session("a", session.session_id.as_str().as_bytes()).await.unwrap();
            backends.push(backend);
        }
        let stored = "SELECT record FROM wa_session ORDER BY device_id";
        let rows = database.query(stored).await;
        let records: Vec<Vec<u8>> =
            rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(records[0].len(), "one".len() + 33);

        let moved = "UPDATE wa_session SET record = (SELECT record FROM wa_session w \
                     WHERE w.device_id <> wa_session.device_id)";
        let first = format!("{moved} WHERE device_id = {}", backends[0].device_id());
        database.execute(&first).await;
        let error = backends[0].get_session("a").await.unwrap_err().to_string();
        assert!(error.contains("wa_session.record"), "{error}");
        assert_eq!(backends[1].get_session("a").await.unwrap().as_deref(), Some(&b"other"[..]));
        // What the client writes anew is in its place again.
        backends[0].put_session("a", b"new").await.unwrap();
        assert_eq!(backends[0].get_session("a").await.unwrap().as_deref(), Some(&b"new"[..]));
        let state = match database.kind {
            Kind::Sqlite => "UPDATE device SET state = x'7b7d'",
            Kind::Postgres => "UPDATE device SET state = '\\x7b7d'",
        };
        database.execute(state).await;
        assert!(backends[0].load().await.is_err());
        opened.close().await;
    })
    .await;
}

/// As retention of a daemon that has not been stopped for the upgrade deletes them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_go_while_old_ones_are_sealed_leave_none_in_clear() {
    on(Kind::Sqlite, async |database: &Database| {
        let opened = database.open().await;
        let session = opened.session("shop").await;
        // One more than is sealed at once.
        let codes = (0..501).map(|_| {
            let qr = Event::Qr { qr: "2@code".to_owned(), expires_at: session.created_at };
            let new = NewEvent {
                organization_id: session.organization_id.clone(),
                session_key: session.id.clone(),
                generation: None,
                event: qr,
                at: session.created_at,
                care: None,
                posted: None,
            };
            opened.store.writer().record(new, wagate::store::Patience::Fail)
        });
        try_join_all(codes).await.unwrap();
        database.execute("UPDATE event SET payload = '{\"qr\":\"2@clear\"}'").await;
        database
            .execute(
                "CREATE TRIGGER goes AFTER UPDATE ON event \
                 BEGIN DELETE FROM event WHERE id = new.id; END",
            )
            .await;
        assert_eq!(opened.store.seal_old_rows().await.unwrap(), 501);
        assert_eq!(database.count("SELECT count(*) FROM event").await, 0);
        opened.close().await;
    })
    .await;
}

/// Daemons that share a database must share the key; whose first start comes second is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_master_key_is_refused_before_anything_is_written() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let organization = opened.store.organizations().ensure_default().await.unwrap().id;
        let patience = wagate::store::Patience::Fail;
        opened.store.sealer(&organization, patience).await.unwrap();
        opened.close().await;
        let before = dump(database);
        let stranger = Vault::new(MasterKey::generate(), None).into();
        let options = Options::new(database.url.as_str());
        let tracker = tokio_util::task::TaskTracker::new();
        let refused = Store::open(options, stranger, Clock::system(), &tracker).await.unwrap_err();
        assert_eq!(refused.to_string(), "the database is sealed under another master key");
        assert!(dump(database) == before, "nothing was written");
    })
    .await;
}
