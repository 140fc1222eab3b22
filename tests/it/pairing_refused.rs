//! Pairings that WhatsApp, or a forged answer, brings to nothing, on the real wire.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Error, Fault, Lasting, Scope};

use crate::{
    care_wire::{SECOND, on_each},
    world::{self, ALICE, BOB, World},
};

/// A new session whose server has this fault once, and its status once it has ended so.
async fn refused(world: &World, name: &str, fault: Fault, reason: &str) -> Value {
    world.whatsapp.fault(Scope::Everyone, fault, Lasting::Once).await;
    // A dial a time: nobody waits for its turn.
    world.clock.advance(2 * SECOND);
    world.create(name).await;
    world
        .until(reason, async || {
            let seen = world.status(name).await;
            if seen["lastDisconnect"]["reason"] == reason { Ok(seen) } else { Err(seen) }
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_may_not_be_linked_says_whatsapp_s_code_and_is_not_dialled_until_somebody_asks()
 {
    on_each(async |world| {
        for code in [401, 403, 405] {
            let name = format!("r{code}");
            let fault = Fault::RefusePairing { code };
            let seen = refused(world, &name, fault, "pairing_refused").await;
            assert_eq!(seen["status"], "auth_failure", "{seen}");
            assert_eq!(seen["lastDisconnect"]["code"], code, "{seen}");
            assert!(seen["nextAttemptAt"].is_null(), "{seen}");
        }
        // What passes is tried again by itself.
        for (code, reason) in [(429, "rate_limited"), (503, "server_unavailable")] {
            let name = format!("p{code}");
            let seen = refused(world, &name, Fault::RefusePairing { code }, reason).await;
            assert_eq!(seen["lastDisconnect"]["code"], code, "{seen}");
            assert_eq!(seen["reconnecting"], true, "{seen}");
            assert!(seen["nextAttemptAt"].is_string(), "{seen}");
        }
        let dials = world.whatsapp.info().connections;
        for name in ["p429", "p503"] {
            world
                .pass_until("a code", 10 * SECOND, async || {
                    let seen = world.status(name).await;
                    if seen["status"] == "qr_generated" { Ok(()) } else { Err(seen) }
                })
                .await;
        }
        assert_eq!(world.whatsapp.info().connections, dials + 2, "nobody else is dialled");
        let start = world.post("/api/whatsapp/session/r401/start", json!({})).await;
        assert!(start.status.is_success(), "{}", start.body);
        world.clock.advance(2 * SECOND);
        world.until_qr("r401").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_code_too_often_is_told_to_wait_as_long_as_whatsapp_says() {
    world::on_each(async |world| {
        for name in ["sales", "other"] {
            world.create(name).await;
            world.until_qr(name).await;
        }
        let limit = Fault::LimitPairingCodes { per_minute: 1 };
        world.whatsapp.fault(Scope::Everyone, limit, Lasting::UntilCleared).await;
        let ask = async |name: &str, number: &str| {
            world
                .request(Method::POST, &format!("/api/whatsapp/session/{name}/pair"))
                .json(&json!({ "phoneNumber": number }))
                .send()
                .await
                .unwrap()
        };
        assert_eq!(ask("sales", ALICE).await.status(), StatusCode::OK);
        let limited = ask("other", BOB).await;
        assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        // WhatsApp's number. Ours is a minute.
        assert!((5..=65).contains(&wait) && wait != 60, "{wait}");
        let problem: Value = limited.json().await.unwrap();
        assert_eq!(problem["code"], "PAIRING_RATE_LIMITED", "{problem}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_is_forged_is_refused_and_the_session_says_so() {
    world::on_each(async |world| {
        let phone = world.whatsapp.phone(ALICE).unwrap();
        world.create("sales").await;
        let qr = world.until_qr("sales").await;
        phone.fault(Fault::ForgePairing, Lasting::Once).await;
        let scanned = phone.scan(&qr).await;
        assert!(matches!(scanned, Err(Error::PairingRefused(_))), "{scanned:?}");
        let seen = world.until_status("sales", "auth_failure").await;
        assert_eq!(seen["lastDisconnect"]["reason"], "pairing_refused", "{seen}");
        assert!(
            seen["lastDisconnect"]["code"].is_null() && seen["phoneNumber"].is_null(),
            "{seen}"
        );
        world.start_session("sales").await;
        phone.scan(&world.until_qr("sales").await).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_whose_options_have_to_be_fetched_is_asked_for_all_the_same() {
    world::on_each(async |world| {
        let phone = world.whatsapp.phone(ALICE).unwrap();
        world.create("sales").await;
        let qr = world.until_qr("sales").await;
        phone.fault(Fault::AskPasskey { fetched: true }, Lasting::Once).await;
        let scanned = phone.scan(&qr).await;
        assert!(matches!(scanned, Err(Error::PasskeyRequired)), "{scanned:?}");
        world
            .until("the request", async || {
                let events = world.events("sales").await;
                let asked = events.iter().any(|(name, _)| name == "passkey_requested");
                if asked { Ok(()) } else { Err(json!(events.len())) }
            })
            .await;
        let seen = world.status("sales").await;
        assert_eq!(seen["status"], "qr_generated", "{seen}");
        assert_eq!(seen["pairing"]["lastError"]["reason"], "passkey_required", "{seen}");
    })
    .await;
}
