//! A database that refuses a step of what is asked of a session leaves none that says it is connected while nobody
//! runs it, and none that shall run and does not.

use std::time::Duration;

use entity::UnixMillis;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options};

use crate::{
    database::{self, Kind},
    world::{ALICE, World},
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a test on each database, with time standing still.
async fn on_each(test: impl AsyncFn(&World, Kind)) {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let world = World::start_at(clock, database, Options::default(), |_| {}).await;
            test(&world, kind).await;
            world.end().await;
        })
        .await;
    }
}

/// Has the database refuse what matches, as `DELETE ON device`.
async fn refuse(world: &World, kind: Kind, what: &str) {
    refuse_when(world, kind, what, "1 = 1").await;
}

/// The same of those rows for which this is so.
async fn refuse_when(world: &World, kind: Kind, what: &str, when: &str) {
    if kind == Kind::Sqlite {
        let raise = "SELECT RAISE(ABORT, 'refused')";
        let trigger = format!("BEFORE {what} WHEN {when} BEGIN {raise}; END");
        world.execute(&format!("CREATE TRIGGER refused {trigger}")).await;
        return;
    }
    let function = "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql \
                    AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$";
    world.execute(function).await;
    let trigger = format!("FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refused()");
    world.execute(&format!("CREATE TRIGGER refused BEFORE {what} {trigger}")).await;
}

async fn refuse_no_more(world: &World, kind: Kind) {
    if kind == Kind::Sqlite {
        world.execute("DROP TRIGGER refused").await;
    } else {
        world.execute("DROP FUNCTION refused() CASCADE").await;
    }
}

/// Asks for something that the database refuses.
async fn ask_in_vain(world: &World, method: Method, path: &str) {
    let path = format!("/api/whatsapp/session/sales{path}");
    let answer = world.request(method, &path).json(&json!({})).send().await.unwrap();
    assert!(answer.status().is_server_error(), "{path}: {}", answer.status());
}

/// Lets time pass until the session's status object is as wanted.
async fn pass_until(world: &World, what: &str, wanted: impl Fn(&Value) -> bool) {
    world
        .pass_until(what, SECOND, async || {
            let seen = world.status("sales").await;
            if wanted(&seen) { Ok(()) } else { Err(seen) }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_whose_keys_cannot_be_forgotten_has_ended_the_session_and_can_be_repeated() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        refuse(world, kind, "DELETE ON device").await;
        ask_in_vain(world, Method::POST, "/logout").await;
        let seen = world.status("sales").await;
        assert_eq!(seen["status"], "session_not_connected", "{seen}");
        assert_eq!(seen["lastDisconnect"]["reason"], "logged_out_here", "{seen}");
        assert_eq!(phone.devices().len(), 0, "WhatsApp has heard of it");

        refuse_no_more(world, kind).await;
        let logout = world.post("/api/whatsapp/session/sales/logout", json!({})).await;
        assert_eq!(logout.status, StatusCode::OK, "{}", logout.body);
        assert_eq!(world.count("SELECT count(*) FROM device").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_deleted_is_not_connected_and_is_deleted_the_next_time() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        // It is marked first; what is its own goes after that.
        refuse(world, kind, "UPDATE OF deleted_at ON session").await;
        ask_in_vain(world, Method::DELETE, "").await;
        let seen = world.status("sales").await;
        assert_eq!(seen["status"], "session_not_connected", "{seen}");
        phone.wait_offline().await.unwrap();
        // Nobody holds what nobody runs.
        let held = "SELECT count(*) FROM lease WHERE node_id IS NOT NULL";
        assert_eq!(world.count(held).await, 0);

        refuse_no_more(world, kind).await;
        let deleted = world.delete("/api/whatsapp/session/sales").await;
        assert_eq!(deleted.status, StatusCode::OK, "{}", deleted.body);
        let gone = world.get("/api/whatsapp/session/status/sales").await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_restart_was_refused_says_so_and_is_taken_up_when_it_can_be() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        refuse(world, kind, "UPDATE OF generation ON session").await;
        ask_in_vain(world, Method::POST, "/restart").await;
        pass_until(world, "no connection", |seen| seen["status"] == "connecting").await;
        assert!(phone.online_devices().is_empty());

        refuse_no_more(world, kind).await;
        pass_until(world, "a connection", |seen| seen["isConnected"] == true).await;
        assert_eq!(phone.online_devices().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_could_not_be_written_down_is_seen_all_the_same() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        refuse(world, kind, "UPDATE OF generation ON session").await;
        ask_in_vain(world, Method::POST, "/stop").await;
        phone.wait_offline().await.unwrap();
        let stopped = |seen: &Value| seen["status"] == "session_not_connected";
        pass_until(world, "a stop", stopped).await;

        refuse_no_more(world, kind).await;
        for _ in 0..30 {
            world.clock.advance(SECOND);
            assert!(stopped(&world.status("sales").await), "it is not dialled");
        }
        let started = world.post("/api/whatsapp/session/sales/start", json!({})).await;
        assert_eq!(started.status, StatusCode::OK, "{}", started.body);
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_could_not_be_said_is_given_up_and_the_next_one_is_said() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        let is_connected = "NEW.status = 'session_connected'";
        refuse_when(world, kind, "UPDATE ON session", is_connected).await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        pass_until(world, "the refusal", |seen| seen["lastDisconnect"]["reason"] == "not_recorded")
            .await;
        assert_eq!(world.status("sales").await["status"], "connecting");
        refuse_no_more(world, kind).await;
        pass_until(world, "it", |seen| seen["status"] == "session_connected").await;
        assert_eq!(phone.online_devices().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_could_not_be_said_is_said_in_a_while() {
    on_each(async |world, kind| {
        let phone = world.connect("sales", ALICE).await;
        let has_ended = "NEW.status <> 'session_connected'";
        refuse_when(world, kind, "UPDATE ON session", has_ended).await;
        phone.unlink_all();
        phone.wait_offline().await.unwrap();
        // Nobody can say otherwise, however often it is tried.
        world.clock.advance(Duration::from_mins(5));
        refuse_no_more(world, kind).await;
        let ends = ["auth_failure", "session_not_connected"];
        pass_until(world, "its end", |seen| ends.iter().any(|end| seen["status"] == *end)).await;
    })
    .await;
}
