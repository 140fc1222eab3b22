//! Credentials go by a person's word only, and a session that is to begin anew by itself obeys whoever comes
//! before.

use std::time::Duration;

use entity::UnixMillis;
use serde_json::json;
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options, Phone};

use crate::{
    care_wire::{SECOND, pass_until_connected},
    database::{self, Kind},
    world::{self, ALICE, World},
};

async fn post(world: &World, verb: &str) {
    let answer = world.post(&format!("/api/whatsapp/session/sales/{verb}"), json!({})).await;
    assert_eq!(answer.status, reqwest::StatusCode::OK, "{}", answer.body);
}

/// How many codes were shown so far.
pub(crate) async fn codes(world: &World) -> usize {
    let events = world.events("sales").await.into_iter();
    events.filter(|(name, _)| name == "qr").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_refusal_after_an_operator_s_restart_costs_no_credentials() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        post(world, "stop").await;
        phone.wait_offline().await.unwrap();
        phone.fault(Fault::Failure { reason: 401 }, Lasting::Once).await;
        // Nobody has refused these credentials before: a person may know better than one answer.
        post(world, "restart").await;
        let refused = world.until_status("sales", "auth_failure").await;
        assert_eq!(refused["lastDisconnect"]["reason"], "credentials_refused", "{refused}");
        post(world, "start").await;
        world.until_status("sales", "session_connected").await;
        assert_eq!(codes(world).await, 1, "the one of the first pairing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_good_again_are_not_given_up_when_they_are_refused_later() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 401 }, Lasting::UntilCleared).await;
        world.until_status("sales", "auth_failure").await;
        world.whatsapp.clear_faults(None);
        post(world, "start").await;
        world.until_status("sales", "session_connected").await;

        // The run that a person has started goes on for weeks. What ends it is nobody's word.
        phone.unlink_all();
        let ended = world.until_status("sales", "session_not_connected").await;
        assert_eq!(ended["lastDisconnect"]["reason"], "logged_out", "{ended}");
        assert_eq!(codes(world).await, 1, "no new device was made");

        // Asked for again, and refused again: a new one; and only one for each word.
        post(world, "start").await;
        let qr = world.until_qr("sales").await;
        phone.scan(&qr).await.unwrap();
        world.until_status("sales", "session_connected").await;
        phone.unlink_all();
        world.until_status("sales", "session_not_connected").await;
        assert_eq!(codes(world).await, 2);
    })
    .await;
}

/// A world in which a session panics whenever another client takes its connection over.
async fn with_panics(test: impl AsyncFn(&World, &Phone)) {
    database::on(Kind::Sqlite, async |database| {
        let clock = Clock::manual(UnixMillis(1_795_500_000_000));
        let world = World::start_at(clock, database, Options::default(), |config| {
            // The sum of this and anything panics; a configuration file cannot say it.
            config.whatsapp.replaced_retry_after = Some(Duration::MAX);
        })
        .await;
        let phone = world.connect("sales", ALICE).await;
        test(&world, &phone).await;
        world.end().await;
    })
    .await;
}

/// Has the session panic once more: what is remembered of the last time is not taken for it.
async fn panic(world: &World, phone: &Phone) {
    let before = world.status("sales").await["lastDisconnect"]["at"].clone();
    phone.fault(Fault::Replaced, Lasting::Once).await;
    world
        .until("the panic", async || {
            let seen = world.status("sales").await;
            let last = &seen["lastDisconnect"];
            if last["reason"] == "panicked" && last["at"] != before { Ok(()) } else { Err(seen) }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_to_begin_anew_and_is_stopped_does_not_begin() {
    with_panics(async |world, phone| {
        panic(world, phone).await;
        post(world, "stop").await;
        let dials = world.whatsapp.info().connections;
        for _ in 0..20 {
            world.clock.advance(Duration::from_mins(1));
            assert_eq!(world.status("sales").await["status"], "session_not_connected");
        }
        assert_eq!(world.whatsapp.info().connections, dials, "stopped stays stopped");

        // Begun by a person before its time comes, it is one run, and stays one.
        post(world, "start").await;
        world.until_status("sales", "session_connected").await;
        panic(world, phone).await;
        post(world, "restart").await;
        world.until_status("sales", "session_connected").await;
        let logins = phone.logins().len();
        for _ in 0..20 {
            world.clock.advance(SECOND * 5);
            assert_eq!(world.status("sales").await["status"], "session_connected");
        }
        assert_eq!(phone.logins().len(), logins, "nobody else has dialled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panics_again_and_again_is_an_error_and_a_restart_dials_at_once() {
    with_panics(async |world, phone| {
        for _ in 0..4 {
            panic(world, phone).await;
            pass_until_connected(world, SECOND).await;
        }
        phone.fault(Fault::Replaced, Lasting::Once).await;
        let failed = world.until_status("sales", "error").await;
        assert_eq!(failed["lastDisconnect"]["reason"], "failed", "{failed}");
        assert!(failed["nextAttemptAt"].is_null(), "{failed}");
        let logins = phone.logins().len();
        world.clock.advance(Duration::from_hours(5));
        assert_eq!(world.status("sales").await["status"], "error");
        assert_eq!(phone.logins().len(), logins, "it is left alone");
        post(world, "restart").await;
        world.until_status("sales", "session_connected").await;
    })
    .await;
}
