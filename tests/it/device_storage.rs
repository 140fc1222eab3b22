//! The device's row, and messages between decryption and commit.

use std::sync::Arc;

use bytes::Bytes;
use entity::id::SessionKey;
use futures_util::FutureExt as _;
use wacore::store::{
    Device,
    traits::{DeviceStore, PendingInboundKey, PendingInboundRow, ProtocolStore, SignalStore},
};
use wagate::device::{self, Backend};

use crate::database::{Database, Kind, Opened, on_each};

const CHAT: &str = "4915112345678@s.whatsapp.net";

async fn backend(opened: &Opened, name: &str) -> (Backend, SessionKey) {
    let key = opened.session(name).await.id;
    let id = device::create(&opened.store, &key).await.unwrap();
    (Backend::new(opened.store.clone(), id, &key), key)
}

/// As after a crash: what was only in memory is gone.
fn restarted(opened: &Opened, backend: &Backend, key: &SessionKey) -> Backend {
    Backend::new(opened.store.clone(), backend.device_id(), key)
}

async fn store(backend: &Backend, id: &str) {
    let row = PendingInboundRow { chat: CHAT, sender: CHAT, id, message: id.as_bytes() };
    backend.store_pending_inbound_batch(&[row]).await.unwrap();
}

async fn pending(backend: &Backend, id: &str) -> Option<Vec<u8>> {
    backend.get_pending_inbound(CHAT, CHAT, id).await.unwrap()
}

async fn delete(backend: &Backend, ids: &[&str]) {
    let keys: Vec<_> =
        ids.iter().map(|id| PendingInboundKey { chat: CHAT, sender: CHAT, id }).collect();
    backend.delete_pending_inbound_batch(&keys).await.unwrap();
}

async fn ratchet(backend: &Backend, record: &'static [u8]) {
    let address: Arc<str> = "4915112345678@s.whatsapp.net".into();
    backend.put_sessions_batch(&[(address, Bytes::from_static(record))]).await.unwrap();
}

async fn rows(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM wa_pending_inbound").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_committed_before_the_ratchet_is_written_costs_nothing() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, _) = backend(&opened, "s").await;
        store(&backend, "warm up").await;
        delete(&backend, &["warm up"]).await;
        ratchet(&backend, b"the organization's first data key is made").await;
        let before = opened.store.writer().stats();
        for n in 0..100 {
            let id = format!("WA{n}");
            store(&backend, &id).await;
            assert_eq!(pending(&backend, &id).await.as_deref(), Some(id.as_bytes()));
            delete(&backend, &[&id]).await;
            assert_eq!(pending(&backend, &id).await, None);
        }
        assert_eq!(opened.store.writer().stats(), before);
        ratchet(&backend, b"after").await;
        assert_eq!(opened.store.writer().stats().units - before.units, 1);
        assert_eq!(rows(database).await, 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_the_ratchet_and_the_message_it_consumed_or_neither() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;

        // Killed before the ratchet's write: WhatsApp's copy will be decrypted as new.
        store(&backend, "before").await;
        let backend = restarted(&opened, &backend, &key);
        assert_eq!(pending(&backend, "before").await, None);
        assert_eq!(backend.get_session(CHAT).await.unwrap(), None);

        // Killed after it, before the hook's commit: WhatsApp's copy will be a duplicate.
        store(&backend, "between").await;
        ratchet(&backend, b"over between").await;
        let backend = restarted(&opened, &backend, &key);
        assert_eq!(backend.get_session(CHAT).await.unwrap().as_deref(), Some(&b"over between"[..]));
        assert_eq!(pending(&backend, "between").await.as_deref(), Some(&b"between"[..]));

        // The client replays it: stores it once more, commits, deletes. Then it is gone for good,
        // whenever the next crash comes.
        store(&backend, "between").await;
        delete(&backend, &["between"]).await;
        assert_eq!(pending(&backend, "between").await, None);
        assert_eq!(rows(database).await, 0);
        let backend = restarted(&opened, &backend, &key);
        assert_eq!(pending(&backend, "between").await, None);

        // A row that a former life left and nobody asked for goes with the delete, too.
        store(&backend, "left").await;
        ratchet(&backend, b"over left").await;
        let backend = restarted(&opened, &backend, &key);
        store(&backend, "left").await;
        delete(&backend, &["left"]).await;
        assert_eq!(rows(database).await, 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_ratchet_takes_the_pending_along() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        let address: Arc<str> = "a".into();
        let record = Bytes::from_static(b"record");
        for n in 0..7 {
            let id = format!("WA{n}");
            store(&backend, &id).await;
            match n {
                0 => backend.put_session("a", b"record").await,
                1 => backend.put_sessions_batch(&[(address.clone(), record.clone())]).await,
                2 => backend.delete_session("a").await,
                3 => backend.remove_prekey(7).await,
                4 => backend.put_sender_key("a", b"record").await,
                5 => backend.put_sender_keys_batch(&[(address.clone(), record.clone())]).await,
                _ => backend.delete_sender_key("a").await,
            }
            .unwrap();
            let after = restarted(&opened, &backend, &key);
            assert!(pending(&after, &id).await.is_some(), "{n}");
        }
        assert_eq!(rows(database).await, 7);
        // Written once is enough.
        ratchet(&backend, b"more").await;
        assert_eq!(pending(&backend, "WA3").await.as_deref(), Some(&b"WA3"[..]));
        delete(&backend, &["WA0", "WA1", "WA2", "WA3", "WA4", "WA5", "WA6"]).await;
        assert_eq!(rows(database).await, 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_batch_is_written_with_its_ratchets_and_deleted_whole() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, _) = backend(&opened, "s").await;
        let ids: Vec<String> = (0..400).map(|n| format!("WA{n}")).collect();
        let batch: Vec<_> = ids
            .iter()
            .map(|id| PendingInboundRow { chat: CHAT, sender: CHAT, id, message: b"m" })
            .collect();
        backend.store_pending_inbound_batch(&batch).await.unwrap();
        let before = opened.store.writer().stats();
        ratchet(&backend, b"after 400").await;
        assert_eq!(rows(database).await, 400);
        delete(&backend, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(rows(database).await, 0);
        assert_eq!(opened.store.writer().stats().groups - before.groups, 2);
        opened.close().await;
    })
    .await;
}

/// A hook that gives up leaves its messages to the next life.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failing_hook_leaves_can_be_written_without_a_ratchet() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        store(&backend, "stuck").await;
        backend.write_pending().await.unwrap();
        let backend = restarted(&opened, &backend, &key);
        assert!(pending(&backend, "stuck").await.is_some());

        // Expired by the client's clock: both kinds, each counted once.
        store(&backend, "held").await;
        let later = wacore::time::now_secs() + 1000;
        assert_eq!(backend.delete_expired_pending_inbound(0).await.unwrap(), 0);
        assert_eq!(backend.delete_expired_pending_inbound(later).await.unwrap(), 2);
        assert_eq!(pending(&backend, "stuck").await, None);
        assert_eq!(pending(&backend, "held").await, None);
        assert_eq!(rows(database).await, 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_made_once_saved_and_erased_with_everything() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        let (neighbour, _) = self::backend(&opened, "neighbour").await;
        let id = backend.device_id();
        assert_eq!(device::create(&opened.store, &key).await.unwrap(), id);
        let row = opened.store.sessions().find_by_key(&key).await.unwrap().unwrap();
        assert_eq!(row.device_id, Some(id));

        // The client makes a device where there is none, and never over another.
        assert!(!backend.exists().await.unwrap());
        assert!(backend.load().await.unwrap().is_none());
        assert_eq!(backend.create().await.unwrap(), id);
        let made = backend.load().await.unwrap().unwrap();
        assert_eq!(backend.create().await.unwrap(), id);
        let still = backend.load().await.unwrap().unwrap();
        assert_eq!(made.registration_id, still.registration_id);
        assert!(backend.exists().await.unwrap());
        assert!(!device::is_paired(&opened.store, id).await.unwrap());

        // Saved whole; what is not part of the saved form is as in a new one.
        let device = Device {
            pn: Some("4915112345678:7@s.whatsapp.net".parse().unwrap()),
            lid: Some("100000012345678:7@lid".parse().unwrap()),
            push_name: "Ada \u{1F980}".to_owned(),
            login_counter: 3,
            ..Device::new()
        };
        backend.save(&device).await.unwrap();
        assert!(device::is_paired(&opened.store, id).await.unwrap());
        let loaded = restarted(&opened, &backend, &key).load().await.unwrap().unwrap();
        assert_eq!(serde_json::to_value(&loaded).unwrap(), serde_json::to_value(&device).unwrap());
        assert_eq!(loaded.device_props.os.as_deref(), Some("rust"));
        assert_eq!(
            loaded.noise_key.public_key.public_key_bytes(),
            device.noise_key.public_key.public_key_bytes()
        );

        // Erased: every table, and nothing of the neighbour's.
        for of in [&backend, &neighbour] {
            of.put_identity("a@s.whatsapp.net", [7; 32]).await.unwrap();
            of.put_session("a@s.whatsapp.net", b"record").await.unwrap();
            of.store_sent_message(CHAT, "WA1", b"payload").await.unwrap();
            store(of, "WA1").await;
            of.write_pending().await.unwrap();
        }
        device::erase(&opened.store, id).await.unwrap();
        device::erase(&opened.store, id).await.unwrap();
        for table in ["wa_identity", "wa_session", "wa_sent_message", "wa_pending_inbound"] {
            assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 1);
        }
        let row = opened.store.sessions().find_by_key(&key).await.unwrap().unwrap();
        assert_eq!(row.device_id, None);
        assert!(backend.save(&device).await.is_err());

        // A new device for the same session starts with nothing.
        let again = device::create(&opened.store, &key).await.unwrap();
        let again = Backend::new(opened.store.clone(), again, &key);
        assert!(!again.exists().await.unwrap());
        assert_eq!(again.get_session("a@s.whatsapp.net").await.unwrap(), None);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_leaves_no_row_anywhere() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        backend.put_session("a@s.whatsapp.net", b"record").await.unwrap();
        backend.put_sender_key("g", b"record").await.unwrap();
        database.execute(&format!("DELETE FROM session WHERE id = '{key}'")).await;
        if database.kind == Kind::Postgres {
            assert_eq!(database.count("SELECT count(*) FROM device").await, 0);
        }
        opened.close().await;
        let tables = match database.kind {
            Kind::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'wa!_%' ESCAPE '!'",
            Kind::Postgres => {
                "SELECT tablename::text FROM pg_tables WHERE tablename LIKE 'wa!_%' ESCAPE '!'"
            }
        };
        let tables = database.query(tables).await;
        assert_eq!(tables.len(), 17);
        for table in tables {
            let table: String = table.try_get_by_index(0).unwrap();
            assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairing_stores_its_prekeys_in_a_few_statements() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, _) = backend(&opened, "s").await;
        let keys: Vec<(u32, Bytes)> =
            (1..=20_000_u32).map(|id| (id, Bytes::from(id.to_be_bytes().to_vec()))).collect();
        backend.store_prekeys_batch(&keys, false).await.unwrap();
        let ids: Vec<u32> = keys.iter().map(|(id, _)| *id).collect();
        backend.remove_prekey(5).await.unwrap();
        backend.mark_prekeys_uploaded(&ids).await.unwrap();
        assert_eq!(backend.load_prekey(5).await.unwrap(), None);
        let loaded = backend.load_prekeys_batch(&ids).await.unwrap();
        assert_eq!(loaded.len(), 19_999);
        assert_eq!(backend.get_max_prekey_id().await.unwrap(), 20_000);
        let uploaded = database.count("SELECT count(*) FROM wa_prekey WHERE uploaded").await;
        assert_eq!(uploaded, 19_999);
        opened.close().await;
    })
    .await;
}

/// Identifiers come from strangers, and PostgreSQL's text knows no NUL.
#[tokio::test(flavor = "multi_thread")]
async fn strange_identifiers_are_found_again() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        let strange = ["nul\0inside", "\u{1F980}", "\u{202E}rtl", "%_\\'\"", "", "\u{FFFF}"];
        for (n, id) in (0_u8..).zip(strange) {
            backend.put_session(id, &[n]).await.unwrap();
            backend.store_sent_message(id, id, &[n]).await.unwrap();
            store(&backend, id).await;
        }
        backend.write_pending().await.unwrap();
        let backend = restarted(&opened, &backend, &key);
        for (n, id) in (0_u8..).zip(strange) {
            assert_eq!(backend.get_session(id).await.unwrap().as_deref(), Some(&[n][..]));
            let taken = backend.take_sent_message(id, id).await.unwrap();
            assert_eq!(taken.as_deref(), Some(&[n][..]));
            assert_eq!(backend.take_sent_message(id, id).await.unwrap(), None);
            assert_eq!(pending(&backend, id).await.as_deref(), Some(id.as_bytes()));
        }
        // A prefix is a prefix, and no pattern.
        backend.put_session("1_3@s.whatsapp.net", b"r").await.unwrap();
        assert!(backend.has_signal_state_for_user("1_3").await.unwrap());
        for other in ["1%", "123", "1_", "S", ""] {
            assert!(!backend.has_signal_state_for_user(other).await.unwrap(), "{other:?}");
        }
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ratchet_is_written_any_more_when_a_task_that_may_have_moved_it_has_panicked() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        ratchet(&backend, b"before").await;
        // It has read a message, and panics before it hands that over.
        let reads = backend.tasks().watch(Box::pin(async { panic!("a bug of the library's") }));
        assert!(std::panic::AssertUnwindSafe(reads).catch_unwind().await.is_err());
        let address: Arc<str> = "4915112345678@s.whatsapp.net".into();
        let moved = [(Arc::clone(&address), Bytes::from_static(b"moved"))];
        assert!(backend.put_sessions_batch(&moved).await.is_err());
        assert!(backend.delete_session(&address).await.is_err());

        // The next client reads the message again, with what can read it.
        let next = restarted(&opened, &backend, &key);
        let record = next.get_session(&address).await.unwrap();
        assert_eq!(record.as_deref(), Some(&b"before"[..]));
        ratchet(&next, b"moved again").await;
        opened.close().await;
    })
    .await;
}
