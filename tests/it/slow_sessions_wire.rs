//! Who waits for one session holds up no other.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate_simulator::{Fault, Lasting, Options, Phone};

use crate::{
    database::{self, Database, Kind},
    world::{self, ALICE, BOB, World},
};

/// Logs a session in so often, by restarts.
async fn restart_until(world: &World, phone: &Phone, logins: std::ops::Range<usize>) {
    for round in logins {
        let restart = world.post("/api/whatsapp/session/sales/restart", json!({})).await;
        assert_eq!(restart.status, StatusCode::OK, "{}", restart.body);
        phone.wait_logged_in(round).await.unwrap();
        world.until_status("sales", "session_connected").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_takes_long_to_close_delays_no_other() {
    world::on_each(async |world| {
        let slow = world.connect("slow", ALICE).await;
        let phone = world.connect("sales", BOB).await;
        // WhatsApp never answers the goodbye, which is waited for: for ten seconds, or until we have seen enough.
        slow.fault(Fault::BlackHole, Lasting::Once).await;
        let unheard = world.whatsapp.info().stanzas_unheard;
        let logout = world.post("/api/whatsapp/session/slow/logout", json!({}));
        let mut logout = std::pin::pin!(logout);
        let others = async {
            while world.whatsapp.info().stanzas_unheard == unheard {
                tokio::task::yield_now().await;
            }
            restart_until(world, &phone, 2..4).await;
        };
        tokio::select! {
            biased;
            () = others => {}
            _ = &mut logout => panic!("the others were to be done before"),
        }
        // It is still at it, and nothing can be sent any more.
        let seen = world.status("slow").await;
        assert_eq!(seen["isConnected"], false, "{seen}");
        assert_eq!(seen["lastDisconnect"]["reason"], "logged_out_here", "{seen}");
        let body = json!({ "to": BOB, "text": "too late" });
        let refused = world.post("/api/whatsapp/session/slow/messages", body).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        assert_eq!(refused.body["code"], "SESSION_NOT_CONNECTED", "{}", refused.body);
        assert!(futures_util::poll!(&mut logout).is_pending(), "WhatsApp has not answered");
        slow.fault(Fault::Drop, Lasting::Once).await;
        let logged_out = logout.await;
        assert_eq!(logged_out.status, StatusCode::OK, "{}", logged_out.body);
        assert_eq!(logged_out.body["data"]["unlinked"], false, "{}", logged_out.body);
    })
    .await;
}

const MANY: usize = 6;

/// How long a message that is being sent may take when its session is to stop.
const DRAIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_close_slowly_do_so_side_by_side_and_none_of_them_says_it_is_connected() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, close_slowly).await;
    }
}

async fn close_slowly(database: &Database) {
    let mut world = World::start_with(database, Options::default(), |_| {}).await;
    world.whatsapp.contact(BOB).unwrap();
    let phones: Vec<_> = join_all((0..MANY).map(|n| {
        let world = &world;
        async move { world.connect(&format!("s{n}"), &format!("1556{n:07}")).await }
    }))
    .await;
    for phone in &phones {
        phone.fault(Fault::BlackHole, Lasting::Once).await;
    }
    // Each is in the middle of a message when it is told to stop: it has asked for the recipient's devices.
    let sends: Vec<_> = (0..MANY)
        .map(|n| {
            let path = format!("/api/whatsapp/session/s{n}/messages");
            let body = json!({ "to": BOB, "text": "hello" });
            world.request(Method::POST, &path).json(&body).send()
        })
        .collect();
    let unheard = world.whatsapp.info().stanzas_unheard;
    let asked = async {
        while world.whatsapp.info().stanzas_unheard < unheard + MANY as u64 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = asked => {}
        sent = try_join_all(sends) => panic!("nobody answers: {sent:?}"),
    }
    let begun = Instant::now();
    let daemon = world.daemon.take().expect("the daemon runs");
    let connected = "SELECT count(*) FROM session WHERE status = 'session_connected'";
    let said = async {
        while database.count(connected).await > 0 {
            assert!(begun.elapsed() < DRAIN, "none of them has closed yet");
        }
    };
    let (ended, ()) = tokio::join!(daemon.shutdown(), said);
    assert!(ended.is_clean(), "every part ends within its time: {ended:?}");
    let took = begun.elapsed();
    assert!(took >= DRAIN, "they were in the middle of something: {took:?}");
    assert!(took < DRAIN * 3, "one after the other they take {:?}: {took:?}", DRAIN * 6);
    world.end().await;
}
