//! Who runs which session, as the database says; and that nobody else writes for it.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{NodeId, SessionKey},
    session,
};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait, TransactionTrait};
use wacore::store::{
    Device,
    traits::{DeviceStore as _, SignalStore as _},
};
use wagate::{
    device,
    event::{Change, Event},
    store::{
        Error, Lease, Patience, Store,
        events::{NewEvent, Recorded},
        nodes::{Life, NewNode},
    },
};

use crate::{
    database::{Database, Kind, Opened, on, on_each},
    world::DEADLINE,
};

const LEASE: Duration = Duration::from_secs(30);
const ALMOST: Duration = Duration::from_millis(29_999);

async fn join(store: &Store, home: &str) -> NodeId {
    let new = NewNode { home: home.to_owned(), name: home.to_owned(), lease: Some(LEASE) };
    store.nodes().join(new).await.unwrap()
}

async fn claim(store: &Store, node: &NodeId, session: &session::Model) -> Option<Lease> {
    store.leases().claim(node, vec![session.id.clone()]).await.unwrap().pop()
}

fn connecting(session: &session::Model) -> NewEvent {
    NewEvent {
        organization_id: session.organization_id.clone(),
        session_key: session.id.clone(),
        generation: None,
        event: Event::ChangeState(Change::Connecting),
        at: session.created_at,
        care: None,
        posted: None,
    }
}

async fn write(store: &Store, key: &SessionKey) -> Result<(), Error> {
    let key = key.clone();
    let sql = format!("UPDATE session SET push_name = 'x' WHERE id = '{key}'");
    store
        .writer()
        .run(key.as_str(), Patience::Wait, move |txn| {
            let sql = sql.clone();
            Box::pin(async move { txn.execute_unprepared(&sql).await.map(drop) })
        })
        .await
}

#[tokio::test]
async fn a_session_has_one_owner_until_that_owner_gives_it_back_leaves_or_dies() {
    on_each(async |database: &Database| {
        let Opened { store, clock, .. } = &database.open().await;
        let opened = database.open().await;
        let session = opened.session("shop").await;
        let (a, b) = (join(store, "a").await, join(store, "b").await);

        let first = claim(store, &a, &session).await.unwrap();
        assert_eq!(first.epoch, 1);
        assert_eq!(claim(store, &a, &session).await.unwrap().epoch, 1, "it is a's already");
        assert!(claim(store, &b, &session).await.is_none());
        assert_eq!(store.leases().owner(&session.id).await.unwrap().unwrap().name, "a");

        store.leases().release(&first).await.unwrap();
        assert!(store.leases().owner(&session.id).await.unwrap().is_none());
        let second = claim(store, &b, &session).await.unwrap();
        assert_eq!(second.epoch, 2);
        // Too late: it would give back what is not its own.
        store.leases().release(&first).await.unwrap();
        assert!(claim(store, &a, &session).await.is_none());

        store.nodes().leave(&b).await.unwrap();
        assert_eq!(claim(store, &a, &session).await.unwrap().epoch, 3);

        // Said in time that it lives, and then not.
        clock.advance(ALMOST);
        assert!(store.nodes().renew(&a, LEASE).await.unwrap());
        let b = join(store, "b").await;
        clock.advance(ALMOST);
        let seen = store.nodes().lives().await.unwrap();
        assert!(store.nodes().bury(seen.clone()).await.unwrap().is_empty());
        assert!(claim(store, &b, &session).await.is_none());
        clock.advance(Duration::from_millis(1));
        assert!(!store.nodes().renew(&a, LEASE).await.unwrap(), "dead, if not yet buried");
        assert!(!store.nodes().renew(&b, LEASE).await.unwrap());
        let earlier =
            |life: &Life| Life { expires_at: UnixMillis(life.expires_at.0 - 1), ..life.clone() };
        let other = seen.iter().map(earlier);
        let buried = store.nodes().bury(other.collect()).await.unwrap();
        assert!(buried.is_empty(), "they have said something since: {buried:?}");
        let mut buried = store.nodes().bury(seen).await.unwrap();
        buried.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(buried, [(a, "a".to_owned()), (b, "b".to_owned())]);
        let c = join(store, "c").await;
        assert_eq!(claim(store, &c, &session).await.unwrap().epoch, 4);

        // In the same state directory, under the same lock: the predecessor is dead.
        let again = join(store, "c").await;
        assert_eq!(claim(store, &again, &session).await.unwrap().epoch, 5);
        assert!(!store.nodes().renew(&c, LEASE).await.unwrap());

        // A copy of a database has its owners in it, who are not there.
        let d = join(store, "d").await;
        store.nodes().outlive(&d).await.unwrap();
        assert_eq!(claim(store, &d, &session).await.unwrap().epoch, 6);
        assert!(store.nodes().renew(&d, LEASE).await.unwrap());
        opened.close().await;
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_claim_at_once_one_gets_each_session() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let mut keys = Vec::new();
        for n in 0..20 {
            keys.push(opened.session(&format!("s{n}")).await.id);
        }
        let mut nodes = Vec::new();
        for home in ["a", "b", "c", "d"] {
            nodes.push(join(store, home).await);
        }
        let leases = store.leases();
        let claims = nodes.iter().map(|node| leases.claim(node, keys.clone()));
        let claimed: Vec<_> = join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
        // Rows that another claim had locked were left to it.
        assert_eq!(claimed.len(), keys.len());
        assert!(claimed.iter().all(|lease| lease.epoch == 1));
        let survey = store.leases().survey(&nodes[0]).await.unwrap();
        assert_eq!((survey.nodes, survey.held), (4, 20));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_owner_writes_is_refused_alone_whatever_it_is() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let (shop, other) = (opened.session("shop").await, opened.session("other").await);
        let (a, b) = (join(store, "a").await, join(store, "b").await);
        let old = claim(store, &a, &shop).await.unwrap();
        let neighbour = claim(store, &a, &other).await.unwrap();
        let theirs = store.under(old.clone());
        let device_id = device::create(&theirs, &shop.id).await.unwrap();
        let backend = device::Backend::new(theirs.clone(), device_id, &shop.id);
        backend.put_session("bob", b"one").await.unwrap();

        store.nodes().leave(&a).await.unwrap();
        // Nobody has begun anew: what the last owner still has to write is welcome.
        backend.put_session("bob", b"two").await.unwrap();
        let new = claim(store, &b, &shop).await.unwrap();
        assert!(!old.lost.is_cancelled(), "it has not tried");

        let ours = store.under(new.clone());
        let neighbours = store.under(neighbour);
        let (refused, recorded, neighbour, unit) = tokio::join!(
            theirs.writer().record(connecting(&shop), Patience::Wait),
            ours.writer().record(connecting(&shop), Patience::Wait),
            neighbours.writer().record(connecting(&other), Patience::Wait),
            write(&theirs, &shop.id),
        );
        assert!(matches!(refused, Err(Error::LeaseLost)), "{refused:?}");
        assert!(matches!(unit, Err(Error::LeaseLost)), "{unit:?}");
        assert!(matches!(recorded, Ok(Recorded::New { .. })), "{recorded:?}");
        assert!(matches!(neighbour, Ok(Recorded::New { .. })), "{neighbour:?}");
        assert!(old.lost.is_cancelled(), "whoever runs it must know");

        // Signal state, the device, the outbox, a new run.
        backend.put_session("bob", b"three").await.unwrap_err();
        let read = device::Backend::new(store.clone(), device_id, &shop.id);
        assert_eq!(read.get_session("bob").await.unwrap().unwrap().as_ref(), b"two");
        // A client that is nobody's any more has nothing to complain of, and changes nothing.
        backend.save(&Device::new()).await.unwrap();
        assert!(read.load().await.unwrap().is_none());
        assert!(matches!(device::erase(&theirs, device_id).await, Err(Error::LeaseLost)));
        let requeued = theirs.messages().requeue_sending(&shop.id).await;
        assert!(matches!(requeued, Err(Error::LeaseLost)), "{requeued:?}");
        let run = theirs.sessions().next_generation(&shop.id).await;
        assert!(matches!(run, Err(Error::LeaseLost)), "{run:?}");
        assert_eq!(ours.sessions().next_generation(&shop.id).await.unwrap(), Some(1));
        assert_eq!(database.count("SELECT count(*) FROM event").await, 2);

        // A session that is deleted has no owner any more.
        assert!(store.sessions().delete(&shop.organization_id, &shop.id).await.unwrap());
        assert!(matches!(write(&ours, &shop.id).await, Err(Error::LeaseLost)));
        opened.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_under_way_and_a_takeover_exclude_each_other() {
    on(Kind::Postgres, async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let shop = opened.session("shop").await;
        let (a, b) = (join(store, "a").await, join(store, "b").await);
        let old = claim(store, &a, &shop).await.unwrap();
        store.nodes().leave(&a).await.unwrap();

        // As the writer does: the lease is looked at and locked, and the commit is still to come.
        let db = database.connect().await;
        let txn = db.begin().await.unwrap();
        let look = format!("SELECT epoch FROM lease WHERE session_key = '{}' FOR SHARE", shop.id);
        txn.execute_unprepared(&look).await.unwrap();
        assert!(claim(store, &b, &shop).await.is_none(), "not while somebody may still commit");
        txn.commit().await.unwrap();
        db.close().await.unwrap();
        assert_eq!(claim(store, &b, &shop).await.unwrap().epoch, 2);

        // As a claim does: a write that comes meanwhile waits, and sees who has won.
        let c = join(store, "c").await;
        store.nodes().leave(&b).await.unwrap();
        let db = database.connect().await;
        let txn = db.begin().await.unwrap();
        let take = format!(
            "UPDATE lease SET node_id = '{c}', epoch = 3 WHERE session_key = '{}'",
            shop.id
        );
        txn.execute_unprepared(&take).await.unwrap();
        let second = Lease::new(shop.id.clone(), 2);
        let under = store.under(second);
        let (late, committed) = tokio::join!(write(&under, &shop.id), async {
            let waits = "SELECT count(*) FROM pg_stat_activity \
                         WHERE wait_event_type = 'Lock' AND datname = current_database()";
            let waiting = async { while database.count(waits).await == 0 {} };
            tokio::time::timeout(DEADLINE, waiting).await.expect("somebody waits for the lock");
            txn.commit().await
        });
        committed.unwrap();
        assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
        assert_eq!(old.epoch, 1);
        db.close().await.unwrap();
        opened.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_owner_claimed_is_taken_back_and_what_a_living_one_claims_is_not() {
    on_each(async |database: &Database| {
        let opened = database.open().await;
        let store = &opened.store;
        let (dead, living) = (opened.session("dead").await, opened.session("living").await);
        let (a, b) = (join(store, "a").await, join(store, "b").await);
        for (node, session) in [(&a, &dead), (&b, &living)] {
            let lease = claim(store, node, session).await.unwrap();
            let qr = Event::Qr { qr: "2@code".to_owned(), expires_at: session.created_at };
            let new = NewEvent { event: qr, ..connecting(session) };
            store.under(lease).writer().record(new, Patience::Wait).await.unwrap();
        }
        store.nodes().leave(&a).await.unwrap();
        let neglected = store.leases().neglected().await.unwrap();
        assert_eq!(neglected.iter().map(|row| &row.id).collect::<Vec<_>>(), [&dead.id]);
        store.leases().take_back(vec![dead.id.clone(), living.id.clone()]).await.unwrap();
        let status = "SELECT session_id || ' ' || status FROM session ORDER BY 1";
        let rows = database.query(status).await;
        let statuses: Vec<String> =
            rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(statuses, ["dead connecting", "living qr_generated"]);
        opened.close().await;
    })
    .await;
}
