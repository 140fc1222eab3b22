//! Ratchets that are noted, and written by somebody beside (`device/noted.rs`).

use std::{
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
};

use bytes::Bytes;
use entity::id::SessionKey;
use futures_util::FutureExt as _;
use wacore::{
    libsignal::protocol::{ProtocolAddress, SessionCheckoutStoreResult, SessionRecord},
    store::{
        SignalStoreCache,
        traits::{PendingInboundRow, ProtocolStore as _, SignalStore as _},
    },
};
use wagate::device::{self, Backend};

use crate::database::{Database, Opened, on_each};

const BOB: &str = "4915112345678@s.whatsapp.net";

/// As a client is given it.
async fn backend(opened: &Opened, session: &str) -> (Backend, SessionKey) {
    let (backend, key) = waited_for(opened, session).await;
    backend.write_behind();
    (backend, key)
}

/// One whose writes are waited for by whoever hands them over.
async fn waited_for(opened: &Opened, session: &str) -> (Backend, SessionKey) {
    let key = opened.session(session).await.id;
    let id = device::create(&opened.store, &key).await.unwrap();
    let backend = Backend::new(opened.store.clone(), id, &key);
    backend.settle().await.unwrap();
    (backend, key)
}

/// As after a crash: what was only in memory is gone.
fn restarted(opened: &Opened, backend: &Backend, key: &SessionKey) -> Backend {
    Backend::new(opened.store.clone(), backend.device_id(), key)
}

/// Gives it one turn.
fn poll<F: Future + ?Sized>(work: Pin<&mut F>) -> bool {
    work.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

async fn sessions(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM wa_session").await
}

/// The library's own cache is written twice, and between the two stands one that has read a message.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_read_between_two_writes_of_the_cache_has_handed_over_before_they_are_on_disk() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "noted").await;
        let kept = killed_between_two_writes(&opened, &backend, &key).await;
        assert_eq!(kept.as_deref(), Some(&b"read"[..]), "WhatsApp's next copy is a duplicate");

        // Written while the cache is locked, it is lost: this is that moment.
        let (backend, key) = waited_for(&opened, "written").await;
        let kept = killed_between_two_writes(&opened, &backend, &key).await;
        assert_eq!(kept, None);
        opened.close().await;
    })
    .await;
}

/// What is kept of a message that was read between two writes, when its ratchet is on disk and the process dies.
async fn killed_between_two_writes(
    opened: &Opened,
    backend: &Backend,
    key: &SessionKey,
) -> Option<Vec<u8>> {
    let cache = SignalStoreCache::new();
    let [bob, carol] =
        [BOB, "4915112345679@s.whatsapp.net"].map(|name| ProtocolAddress::new(name, 0.into()));
    // The reader has begun.
    let (none, checkout) = cache.checkout_session(&bob, backend).await.unwrap();
    assert!(none.is_none());

    // The first write waits for somebody's turn.
    let turn = backend.tasks().watch(pending::<()>());
    cache.put_session(&carol, SessionRecord::new_fresh()).await;
    let mut first = std::pin::pin!(cache.flush(backend));
    let first_ended = poll(first.as_mut());
    // The second stands in line, if there is one.
    let mut second = std::pin::pin!(cache.flush(backend));
    let second_ended = poll(second.as_mut());
    // Then the reader comes, who has one turn before the process dies.
    let reading = async {
        let read = SessionRecord::new_fresh();
        match cache.restore_session_from_checkout(&bob, read, checkout, false) {
            SessionCheckoutStoreResult::Stored => {}
            SessionCheckoutStoreResult::Pending(_) => cache.complete_session_checkout().await,
            _ => panic!("it has the session"),
        }
        let row = PendingInboundRow { chat: BOB, sender: BOB, id: "WA1", message: b"read" };
        backend.store_pending_inbound_batch(&[row]).await.unwrap();
        pending::<()>().await;
    };
    let mut reader = backend.tasks().watch(Box::pin(reading));
    assert!(!poll(Pin::new(&mut reader)));

    drop(turn);
    if !first_ended {
        first.await.unwrap();
    }
    if !second_ended {
        second.await.unwrap();
    }
    cache.flush(backend).await.unwrap();
    backend.written().await.unwrap();

    let next = restarted(opened, backend, key);
    assert!(next.get_session(bob.as_str()).await.unwrap().is_some(), "it was written");
    next.get_pending_inbound(BOB, BOB, "WA1").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_is_what_is_read_and_is_written_once_however_often_it_changes() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        backend.put_session("gone@s.whatsapp.net", b"record").await.unwrap();
        backend.put_sender_key("gone", b"record").await.unwrap();
        backend.store_prekeys_batch(&[(1, Bytes::from_static(b"1"))], true).await.unwrap();
        backend.store_prekeys_batch(&[(2, Bytes::from_static(b"2"))], true).await.unwrap();
        backend.written().await.unwrap();
        assert_eq!(sessions(database).await, 1);

        // Nothing is written while somebody has his turn, as while the database is away.
        let turn = backend.tasks().watch(pending::<()>());
        let before = opened.store.writer().stats();
        for n in 0..1000_u32 {
            let record = Bytes::from(n.to_be_bytes().to_vec());
            let address: Arc<str> = BOB.into();
            let change = [(address, record)];
            backend.put_sessions_batch(&change).now_or_never().expect("at once").unwrap();
            backend.put_sender_keys_batch(&change).now_or_never().expect("at once").unwrap();
        }
        for noted in [
            backend.delete_session("gone@s.whatsapp.net"),
            backend.delete_sender_key("gone"),
            backend.remove_prekey(2),
        ] {
            noted.now_or_never().expect("at once").unwrap();
        }
        assert_eq!(opened.store.writer().stats(), before);
        assert!(backend.written().now_or_never().is_none());

        let newest = 999_u32.to_be_bytes();
        assert_eq!(backend.get_session(BOB).await.unwrap().as_deref(), Some(&newest[..]));
        assert_eq!(backend.get_sender_key(BOB).await.unwrap().as_deref(), Some(&newest[..]));
        assert!(backend.has_session(BOB).await.unwrap());
        assert!(backend.has_signal_state_for_user("4915112345678").await.unwrap());
        assert_eq!(backend.get_session("gone@s.whatsapp.net").await.unwrap(), None);
        assert!(!backend.has_session("gone@s.whatsapp.net").await.unwrap());
        assert!(!backend.has_signal_state_for_user("gone").await.unwrap());
        assert_eq!(backend.get_sender_key("gone").await.unwrap(), None);
        assert_eq!(backend.load_prekey(2).await.unwrap(), None);
        assert_eq!(backend.load_prekeys_batch(&[1, 2]).await.unwrap().len(), 1);
        assert_eq!(backend.get_max_prekey_id().await.unwrap(), 1);
        // Killed here, all of it is as it was.
        let killed = restarted(&opened, &backend, &key);
        assert!(killed.has_session("gone@s.whatsapp.net").await.unwrap());
        assert_eq!(killed.get_max_prekey_id().await.unwrap(), 2);

        drop(turn);
        backend.written().await.unwrap();
        let after = opened.store.writer().stats();
        // What was noted first may have been copied at once.
        assert!(after.units - before.units <= 3, "{before:?} {after:?}");
        let next = restarted(&opened, &backend, &key);
        for backend in [&backend, &next] {
            assert_eq!(backend.get_session(BOB).await.unwrap().as_deref(), Some(&newest[..]));
            assert!(!backend.has_signal_state_for_user("gone").await.unwrap());
            assert_eq!(backend.get_sender_key("gone").await.unwrap(), None);
            assert_eq!(backend.get_max_prekey_id().await.unwrap(), 1);
        }
        opened.close().await;
    })
    .await;
}

/// A prekey's number that is given anew is not deleted by what was noted of the used one.
#[tokio::test(flavor = "multi_thread")]
async fn a_prekey_is_stored_after_the_used_one_of_its_number_is_gone() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        backend.store_prekey(7, b"used", true).await.unwrap();
        let turn = backend.tasks().watch(pending::<()>());
        backend.remove_prekey(7).await.unwrap();
        let mut storing = backend.store_prekey(7, b"new", false);
        assert!(!poll(storing.as_mut()), "the used one is on its way out");
        drop(turn);
        storing.await.unwrap();
        backend.written().await.unwrap();
        let next = restarted(&opened, &backend, &key);
        assert_eq!(next.load_prekey(7).await.unwrap().as_deref(), Some(&b"new"[..]));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_when_a_task_panics_is_never_written_and_who_needs_it_is_told() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, _) = backend(&opened, "s").await;
        let turn = backend.tasks().watch(pending::<()>());
        backend.put_session(BOB, b"moved").await.unwrap();
        // It has read a message, and panics before it hands that over.
        let reads = backend.tasks().watch(Box::pin(async { panic!("a bug of the library's") }));
        assert!(std::panic::AssertUnwindSafe(reads).catch_unwind().await.is_err());
        drop(turn);
        backend.written().await.unwrap_err();
        backend.written().await.unwrap_err();
        backend.put_session(BOB, b"moved again").await.unwrap_err();
        assert_eq!(sessions(database).await, 0);
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_and_cannot_be_written_is_tried_again_by_whoever_needs_it() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let (backend, key) = backend(&opened, "s").await;
        backend.put_session(BOB, b"one").await.unwrap();
        backend.written().await.unwrap();
        database.execute("ALTER TABLE wa_session RENAME TO elsewhere").await;
        backend.put_session(BOB, b"two").await.unwrap();
        backend.written().await.unwrap_err();
        assert_eq!(backend.get_session(BOB).await.unwrap().as_deref(), Some(&b"two"[..]));
        database.execute("ALTER TABLE elsewhere RENAME TO wa_session").await;
        backend.written().await.unwrap();
        let next = restarted(&opened, &backend, &key);
        assert_eq!(next.get_session(BOB).await.unwrap().as_deref(), Some(&b"two"[..]));
        opened.close().await;
    })
    .await;
}
