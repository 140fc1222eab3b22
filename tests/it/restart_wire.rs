//! An operator's restart: whatever a session is doing or waiting for, it is dialled at once.

use std::time::Duration;

use entity::UnixMillis;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options, Phone, Scope};

use crate::{
    budgets_wire::loading,
    database::{self, Kind},
    world::{ALICE, BOB, CAROL, DEADLINE, World},
};

const SECOND: Duration = Duration::from_secs(1);

async fn restart(world: &World) -> Value {
    let restarted = world.post("/api/whatsapp/session/sales/restart", json!({})).await;
    assert_eq!(restarted.status, StatusCode::OK, "{}", restarted.body);
    restarted.body
}

/// Restarts the session while time stands still: it must log in.
async fn logs_in(world: &World, phone: &Phone, state: &str) {
    let logins = phone.logins().len();
    restart(world).await;
    world.until_status("sales", "session_connected").await;
    assert_eq!(phone.logins().len(), logins + 1, "out of {state}");
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
async fn a_restart_dials_at_once_out_of_every_wait() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let world = World::start_at(clock, database, Options::default(), |_| {}).await;
            let phone = world.connect("sales", ALICE).await;
            logs_in(&world, &phone, "a connection").await;

            world.post("/api/whatsapp/session/sales/stop", json!({})).await;
            logs_in(&world, &phone, "a stop").await;

            phone.fault(Fault::Replaced, Lasting::Once).await;
            world.until_status("sales", "session_not_connected").await;
            logs_in(&world, &phone, "a connection that another client took").await;

            for fault in
                [Fault::Ban { code: 101, expire: 6 * 3600 }, Fault::Failure { reason: 401 }]
            {
                phone.fault(fault.clone(), Lasting::UntilCleared).await;
                pass_until(&world, "a refusal", |seen| seen["status"] == "auth_failure").await;
                world.whatsapp.clear_faults(None);
                logs_in(&world, &phone, &format!("{fault:?}")).await;
            }

            // Until it waits for longer than it would take by itself.
            world.whatsapp.close().await;
            let far = |seen: &Value, world: &World| {
                let at = seen["nextAttemptAt"].as_str().unwrap_or_default().to_owned();
                let soon = world.clock.now() + Duration::from_secs(5);
                at.as_str() > wagate::event::payload::rfc3339(soon).as_str()
            };
            pass_until(&world, "a long wait", |seen| far(seen, &world)).await;
            world.whatsapp.reopen().await.unwrap();
            logs_in(&world, &phone, "a long wait").await;

            let limit = Fault::RefuseUpgrade { status: 429, retry_after: Some(600) };
            world.whatsapp.fault(Scope::Everyone, limit, Lasting::Once).await;
            phone.fault(Fault::Drop, Lasting::Once).await;
            pass_until(&world, "the limit", |seen| {
                seen["lastDisconnect"]["reason"] == "rate_limited" && far(seen, &world)
            })
            .await;
            logs_in(&world, &phone, "a pause of all dials").await;

            world.whatsapp.fault(Scope::Everyone, Fault::SilentHandshake, Lasting::Once).await;
            restart(&world).await;
            let is_met = async {
                while !world.whatsapp.faults().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(DEADLINE, is_met).await.expect("somebody dials");
            assert_eq!(world.status("sales").await["status"], "connecting");
            logs_in(&world, &phone, "a dial that nobody answers").await;
            world.end().await;
        })
        .await;
    }
}

/// Has a session be in the middle of a message on a connection on which nobody answers any more.
async fn in_the_middle(world: &World, id: &str, phone: &Phone, text: &str) {
    phone.fault(Fault::BlackHole, Lasting::Once).await;
    let unheard = world.whatsapp.info().stanzas_unheard;
    let path = format!("/api/whatsapp/session/{id}/messages");
    let body = json!({ "to": BOB, "text": text, "queue": true });
    let asked = async {
        while world.whatsapp.info().stanzas_unheard == unheard {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = asked => {}
        sent = world.request(Method::POST, &path).json(&body).send() => panic!("nobody answers: {sent:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_waits_for_no_answer_on_a_connection_that_has_gone_silent() {
    crate::care_wire::on_each(async |world| {
        let bob = world.whatsapp.contact(BOB).unwrap();
        let phone = world.connect("sales", ALICE).await;
        let other = world.connect("support", CAROL).await;
        in_the_middle(world, "support", &other, "of a session that stops").await;
        in_the_middle(world, "sales", &phone, "of a session that is restarted").await;

        // A stop, which begins first, waits for its message as long as a stop does.
        let stop = world.post("/api/whatsapp/session/support/stop", json!({}));
        let restarted = async {
            world.until_status("support", "session_not_connected").await;
            restart(world).await;
            phone.wait_logged_in(2).await.unwrap();
        };
        let mut stop = std::pin::pin!(stop);
        tokio::select! {
            biased;
            () = restarted => {}
            _ = &mut stop => panic!("the restart has waited as long"),
        }
        assert_eq!(stop.await.status, StatusCode::OK);

        world.until_status("sales", "session_connected").await;
        let text = "of a session that is restarted";
        bob.wait_for_received(|it| it.text.as_deref() == Some(text)).await.unwrap();
        world.send("sales", BOB, "afterwards").await;
        bob.wait_for_received(|it| it.text.as_deref() == Some("afterwards")).await.unwrap();
        let came = bob.received().into_iter().filter(|it| it.text.as_deref() == Some(text));
        assert_eq!(came.count(), 1, "it arrives once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_a_code_is_shown_brings_a_new_code() {
    crate::world::on_each(async |world| {
        world.create("sales").await;
        let first = world.until_qr("sales").await;
        restart(world).await;
        let second = world
            .until("another code", async || {
                let seen = world.status("sales").await;
                match seen["qr"].as_str() {
                    Some(qr) if qr != first => Ok(qr.to_owned()),
                    _ => Err(seen),
                }
            })
            .await;
        world.whatsapp.phone(BOB).unwrap().scan(&second).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_it_loads_begins_anew_at_once() {
    crate::care_wire::on_each(async |world| {
        let phone = loading(world).await;
        world.whatsapp.clear_faults(None);
        logs_in(world, &phone, "loading").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_dials_at_once_what_waits_since_a_start_of_the_daemon_or_was_restored() {
    crate::care_wire::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 403 }, Lasting::Once).await;
        pass_until(world, "a refusal", |seen| seen["status"] == "auth_failure").await;
        world.stop_daemon().await;
        world.start_daemon().await;
        let waits = world.status("sales").await;
        assert!(waits["nextAttemptAt"].is_string(), "{waits}");
        logs_in(world, &phone, "a wait that a start of the daemon has found").await;

        // A database that says nothing of itself is a copy of one: its sessions are left alone.
        world.stop_daemon().await;
        world.execute("DELETE FROM installation").await;
        world.start_daemon().await;
        let restored = world.status("sales").await;
        assert_eq!(restored["lastDisconnect"]["reason"], "restored", "{restored}");
        assert_eq!(restored["status"], "session_not_connected", "{restored}");
        logs_in(world, &phone, "a restored database").await;
    })
    .await;
}
