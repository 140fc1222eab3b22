//! Pairing on the real wire: codes of both kinds, refusals, and whose account it is.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::config::OnOtherAccount;
use wagate_simulator::{Fault, Lasting, Options, Scope};

use crate::{
    database::{self, Kind},
    world::{self, ALICE, Answer, BOB, World},
};

const CAROL: &str = "15550003333";

impl World {
    async fn pair(&self, id: &str, number: &str) -> Answer {
        self.post(&format!("/api/whatsapp/session/{id}/pair"), json!({ "phoneNumber": number }))
            .await
    }

    /// A pairing code, which must be given.
    async fn code(&self, id: &str, number: &str) -> Value {
        let given = self.pair(id, number).await;
        assert_eq!(given.status, StatusCode::OK, "{}", given.body);
        given.body["data"].clone()
    }

    pub(crate) async fn start_session(&self, id: &str) {
        let started = self.post(&format!("/api/whatsapp/session/{id}/start"), json!({})).await;
        assert_eq!(started.status, StatusCode::OK, "{}", started.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_pairing_code_asked_for_at_once_share_one_connection() {
    world::on_each(async |world| {
        let stopped = json!({ "sessionId": "sales", "start": false });
        world.post("/api/whatsapp/session", stopped).await;
        let phone = world.whatsapp.phone(ALICE).unwrap();

        let starts = join_all((0..5).map(|_| world.start_session("sales")));
        let (_, code, other) =
            tokio::join!(starts, world.code("sales", ALICE), world.code("sales", ALICE));
        assert_eq!(code, other, "asked for twice, given once");
        world.until_qr("sales").await;
        assert_eq!(world.whatsapp.info().connections, 1);

        phone.enter_code(code["code"].as_str().unwrap()).await.unwrap();
        world.until_status("sales", "session_connected").await;
        assert_eq!(world.whatsapp.info().connections, 2, "the second one logs in");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_and_the_login_that_follows_are_one_story_and_the_phone_lists_the_given_name() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start_with(database, Options::default(), |config| {
                config.whatsapp.device_name = "Shop in the harbour".to_owned();
            })
            .await;
            let phone = world.connect("sales", ALICE).await;
            let names: Vec<_> =
                world.events("sales").await.into_iter().map(|(name, _)| name).collect();
            // WhatsApp ends the pairing's connection: that is no loss, and nobody hears of it.
            let story = ["change_state", "qr", "authenticated", "ready"];
            let told: Vec<_> = names.iter().filter(|name| *name != "loading_screen").collect();
            assert_eq!(told, story);
            let seen = world.status("sales").await;
            assert!(seen["lastDisconnect"].is_null(), "{seen}");
            world.stop_daemon().await;
            world.start_daemon().await;
            world.until_status("sales", "session_connected").await;
            let listed: Vec<_> = phone.devices().into_iter().map(|it| it.platform).collect();
            assert_eq!(listed, ["Shop in the harbour"]);
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_good_is_given_again_and_another_number_has_to_wait() {
    world::on_each(async |world| {
        world.create("sales").await;
        let qr = world.until_qr("sales").await;
        let first = world.code("sales", ALICE).await;
        assert_eq!(world.code("sales", &format!("+{ALICE}")).await, first);

        let other = world
            .request(Method::POST, "/api/whatsapp/session/sales/pair")
            .json(&json!({ "phoneNumber": BOB }))
            .send()
            .await
            .unwrap();
        assert_eq!(other.status(), StatusCode::CONFLICT);
        let wait: u64 = other.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=180).contains(&wait), "{wait}");
        let problem: Value = other.json().await.unwrap();
        assert_eq!(problem["code"], "PAIRING_CODE_OUTSTANDING");

        // The QR code is as good as before, and it is the same client.
        let status = world.status("sales").await;
        assert_eq!(status["qr"], qr.as_str());
        assert_eq!(status["pairing"]["attempts"], 2, "a series of QR codes, and one code");
        assert_eq!(world.whatsapp.info().connections, 1);
        let events = world.events("sales").await;
        let given: Vec<_> = events.iter().filter(|(name, _)| name == "pairing_code").collect();
        assert_eq!(given.len(), 1);
        assert_eq!(given[0].1["expiresAt"], first["expiresAt"]);
        let code = first["code"].as_str().unwrap();
        assert!(!format!("{events:?}").contains(code), "only who asked is told the code");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_stays_good_while_qr_codes_rotate() {
    // The library shows a first code for a minute and each other one for 20 seconds, so: once.
    database::on(Kind::Sqlite, async |database| {
        let world = World::start(database).await;
        world.create("sales").await;
        let mut codes = HashSet::from([world.until_qr("sales").await]);
        let phone = world.whatsapp.phone(ALICE).unwrap();
        let given = world.code("sales", ALICE).await;
        while codes.len() < 4 {
            let next = world
                .until("the next QR code", async || {
                    let seen = world.status("sales").await;
                    let qr = seen["qr"].as_str().filter(|qr| !codes.contains(*qr));
                    qr.map(ToOwned::to_owned).ok_or(seen.clone())
                })
                .await;
            codes.insert(next);
            assert_eq!(world.code("sales", ALICE).await, given);
        }
        phone.enter_code(given["code"].as_str().unwrap()).await.unwrap();
        world.until_status("sales", "session_connected").await;
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_outlives_the_last_qr_code() {
    database::on(Kind::Sqlite, async |database| {
        let options = Options { pairing_refs: 1, ..Options::default() };
        let world =
            World::start_with(database, options, |config| config.whatsapp.max_qr_rounds = 1).await;
        world.create("sales").await;
        world.until_qr("sales").await;
        let phone = world.whatsapp.phone(ALICE).unwrap();
        let given = world.code("sales", ALICE).await;
        // Waits for a code after the first until that has expired.
        let none = world.get("/api/whatsapp/session/sales/qr.json?after=1&wait=60").await;
        assert_eq!(none.status, StatusCode::NOT_FOUND, "{}", none.body);
        // No other one is promised: the code to type is all that is left, and for how long.
        let until = given["expiresAt"].as_str().unwrap();
        let seen = world.until("what is left", async || {
            let seen = world.status("sales").await;
            let message = seen["message"].as_str().unwrap();
            let told = message.contains("can be typed until") && message.ends_with(until);
            if told { Ok(seen) } else { Err(seen) }
        });
        let seen = seen.await;
        assert_eq!((&seen["status"], &seen["needsQR"]), (&json!("qr_generated"), &json!(false)));
        let none = world.get("/api/whatsapp/session/sales/qr.json").await;
        assert_eq!(none.body["reason"], "typed_code_only", "{}", none.body);
        assert!(none.body["detail"].as_str().unwrap().ends_with(until), "{}", none.body);
        let given_events = world.events("sales").await.into_iter();
        let told: Vec<_> = given_events.filter(|(name, _)| name == "pairing_code").collect();
        let told: Vec<_> = told.iter().map(|(_, data)| &data["qrExhausted"]).collect();
        assert_eq!(told, [&json!(false), &json!(true)]);
        assert_eq!(seen["pairing"]["attempts"], 2, "a series of QR codes, and one code");

        assert_eq!(world.code("sales", ALICE).await, given);
        phone.enter_code(given["code"].as_str().unwrap()).await.unwrap();
        world.until_status("sales", "session_connected").await;
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_pairs_is_not_dialled_at_each_start_of_the_daemon_until_somebody_asks() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let mut world = World::start_with(database, Options::default(), |config| {
                config.whatsapp.max_qr_rounds = 1;
            })
            .await;
            world.create("sales").await;
            world.until_qr("sales").await;
            // A series that is cut off is shown once more,
            world.stop_daemon().await;
            world.start_daemon().await;
            world
                .until("another code", async || {
                    let seen = world.status("sales").await;
                    if seen["qrSequence"] == 2 { Ok(()) } else { Err(seen) }
                })
                .await;
            let dials = world.whatsapp.info().connections;
            // and no more often, however often the daemon is started.
            for _ in 0..3 {
                world.stop_daemon().await;
                world.start_daemon().await;
                let seen = world.until_status("sales", "session_not_connected").await;
                assert_eq!(seen["lastDisconnect"]["reason"], "qr_codes_exhausted", "{seen}");
                assert!(seen["nextAttemptAt"].is_null(), "{seen}");
                assert_eq!(world.whatsapp.info().connections, dials);
            }

            world.start_session("sales").await;
            let qr = world.until_qr("sales").await;
            world.whatsapp.phone(ALICE).unwrap().scan(&qr).await.unwrap();
            world.until_status("sales", "session_connected").await;
            let rounds = "SELECT count(*) FROM session WHERE qr_rounds > 0";
            assert_eq!(world.count(rounds).await, 0, "somebody has scanned one");
            world.stop_daemon().await;
            world.start_daemon().await;
            world.until_status("sales", "session_connected").await;
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_a_pairing_code_has_its_own_answer_and_is_remembered() {
    let refusals = [
        (400, 422, "PAIRING_REFUSED", "bad_request", true),
        (403, 422, "PAIRING_FORBIDDEN", "forbidden", false),
        (429, 429, "PAIRING_RATE_LIMITED", "rate_limited", true),
        (452, 422, "PAIRING_CODE_NOT_AVAILABLE", "not_available", false),
        (500, 503, "PAIRING_UNAVAILABLE", "server_error", true),
    ];
    world::on_each(async |world| {
        world.create("sales").await;
        world.until_qr("sales").await;
        let mut attempts = 1;
        for (code, status, word, reason, passes) in refusals {
            let fault = Fault::RefusePairingCode { code };
            world.whatsapp.fault(Scope::Everyone, fault, Lasting::Once).await;
            let refused = world
                .request(Method::POST, "/api/whatsapp/session/sales/pair")
                .json(&json!({ "phoneNumber": ALICE }))
                .send()
                .await
                .unwrap();
            assert_eq!(refused.status(), status);
            assert_eq!(refused.headers().contains_key("retry-after"), passes, "{code}");
            assert_eq!(refused.headers()["content-type"], "application/problem+json");
            let problem: Value = refused.json().await.unwrap();
            assert_eq!(problem["code"], word, "{problem}");
            assert_eq!(problem["reason"], reason);
            assert_eq!(problem["whatsappCode"], code);

            attempts += 1;
            let seen = world.status("sales").await;
            assert_eq!(seen["status"], "qr_generated", "the QR code is still good");
            assert_eq!(seen["pairing"]["attempts"], attempts);
            assert_eq!(seen["pairing"]["lastError"]["reason"], reason);
            assert!(seen["pairing"]["lastError"]["at"].is_string());
            let (name, data) = world.events("sales").await.pop().unwrap();
            assert_eq!((name.as_str(), &data["reason"]), ("pairing_failed", &json!(reason)));
        }

        // What is wrong with the number itself is the request's fault.
        for number in ["12", "0155500011", "not a number"] {
            let bad = world.pair("sales", number).await;
            assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.body);
            assert_eq!(bad.body["code"], "VALIDATION_FAILED");
            assert_eq!(bad.body["errors"][0]["pointer"], "/phoneNumber");
        }

        // It outlives the daemon, and is over when a pairing succeeds.
        world.stop_daemon().await;
        world.start_daemon().await;
        let seen = world.until_status("sales", "qr_generated").await;
        assert_eq!(seen["pairing"]["lastError"]["reason"], "server_error", "{seen}");
        let phone = world.whatsapp.phone(ALICE).unwrap();
        let given = world.code("sales", ALICE).await;
        phone.enter_code(given["code"].as_str().unwrap()).await.unwrap();
        let seen = world.until_status("sales", "session_connected").await;
        assert!(seen["pairing"]["lastError"].is_null(), "{seen}");
        assert!(seen["pairing"]["lastQrAt"].is_string());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_cannot_be_asked_for_is_503() {
    world::on_each(async |world| {
        world.whatsapp.close().await;
        world.create("sales").await;
        let refused = world.pair("sales", ALICE).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
        world.whatsapp.reopen().await.unwrap();
        world.until_qr("sales").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_that_whatsapp_asks_for_is_said_and_the_code_stays() {
    world::on_each(async |world| {
        world.create("sales").await;
        let qr = world.until_qr("sales").await;
        let fault = Fault::AskPasskey { fetched: false };
        world.whatsapp.fault(Scope::Everyone, fault, Lasting::Once).await;
        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.scan(&qr).await.unwrap_err();
        let asked = world
            .until("the request to be seen", async || {
                let seen = world.status("sales").await;
                if seen["pairing"]["lastError"].is_object() { Ok(seen) } else { Err(seen) }
            })
            .await;
        assert_eq!(asked["pairing"]["lastError"]["reason"], "passkey_required");
        assert!(asked["message"].as_str().unwrap().contains("passkey"), "{asked}");
        let events = world.events("sales").await;
        let said = events.iter().find(|(name, _)| name == "passkey_requested").unwrap();
        assert_eq!(said.1["reason"], "passkey_required");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_paired_again_keeps_its_id_and_its_history() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let named = json!({ "userId": "user-1" });
        world
            .request(Method::PATCH, "/api/whatsapp/session/sales")
            .json(&named)
            .send()
            .await
            .unwrap();
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.send_text(ALICE, "before").await.unwrap();
        world.until_messages("sales", 1).await;
        let before = world.events("sales").await;

        phone.unlink_all();
        let ended = world.until_status("sales", "session_not_connected").await;
        assert_eq!(ended["lastDisconnect"]["reason"], "logged_out");
        assert_eq!(ended["phoneNumber"], ALICE, "whose it is, is not forgotten");
        world.start_session("sales").await;
        let qr = world.until_qr("sales").await;
        phone.scan(&qr).await.unwrap();
        let again = world.until_status("sales", "session_connected").await;
        assert_eq!(again["userId"], "user-1");
        assert_eq!(again["createdAt"], ended["createdAt"]);
        assert!(again["accountChanged"].is_null());

        bob.send_text(ALICE, "after").await.unwrap();
        let bodies: Vec<_> =
            world.until_messages("sales", 2).await.iter().map(|it| it["body"].clone()).collect();
        assert_eq!(bodies, ["before", "after"]);
        let events = world.events("sales").await;
        assert_eq!(events[..before.len()], before[..]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_unlinked_again_and_the_session_stays_whose_it_was() {
    world::on_each(async |world| {
        let alice = world.connect("sales", ALICE).await;
        alice.unlink_all();
        world.until_status("sales", "session_not_connected").await;
        world.start_session("sales").await;
        let qr = world.until_qr("sales").await;

        let carol = world.whatsapp.phone(CAROL).unwrap();
        carol.scan(&qr).await.unwrap();
        // Something for the device that must not come here.
        world.whatsapp.contact(BOB).unwrap().send_text(CAROL, "for Carol").await.unwrap();
        let refused = world.until_status("sales", "auth_failure").await;
        assert_eq!(refused["lastDisconnect"]["reason"], "other_account", "{refused}");
        assert_eq!(refused["pairing"]["lastError"]["reason"], "other_account");
        assert_eq!(refused["phoneNumber"], ALICE);
        assert!(refused["accountChanged"].is_null());
        assert!(carol.devices().is_empty(), "the new device is gone at WhatsApp");
        let events = world.events("sales").await;
        let ready = events.iter().filter(|(name, _)| name == "ready").count();
        assert_eq!(ready, 1, "Alice's");
        assert!(!format!("{events:?}").contains("for Carol"));
        assert_eq!(world.get("/api/whatsapp/session/sales/messages").await.body["data"], json!([]));

        // A restart changes nothing; a start, and the right phone, do.
        world.stop_daemon().await;
        world.start_daemon().await;
        assert_eq!(world.status("sales").await["status"], "auth_failure");
        world.start_session("sales").await;
        let qr = world.until_qr("sales").await;
        alice.scan(&qr).await.unwrap();
        let back = world.until_status("sales", "session_connected").await;
        assert_eq!(back["phoneNumber"], ALICE);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_account_is_forgotten_takes_any_other() {
    world::on_each(async |world| {
        world.connect("sales", ALICE).await;
        let forget = json!({ "forgetAccount": true });
        let out = world.post("/api/whatsapp/session/sales/logout", forget).await;
        assert_eq!(out.status, StatusCode::OK, "{}", out.body);
        assert!(out.body["data"]["phoneNumber"].is_null(), "{}", out.body);
        world.start_session("sales").await;
        let qr = world.until_qr("sales").await;
        world.whatsapp.phone(CAROL).unwrap().scan(&qr).await.unwrap();
        let seen = world.until_status("sales", "session_connected").await;
        assert_eq!(seen["phoneNumber"], CAROL);
        assert!(seen["accountChanged"].is_null(), "it belonged to nobody");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_flagged_where_that_is_configured() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let world = World::start_with(database, Options::default(), |config| {
                config.whatsapp.on_other_account = OnOtherAccount::Flag;
            })
            .await;
            world.connect("sales", ALICE).await.unlink_all();
            world.until_status("sales", "session_not_connected").await;
            world.start_session("sales").await;
            let qr = world.until_qr("sales").await;
            world.whatsapp.phone(CAROL).unwrap().scan(&qr).await.unwrap();
            let changed = world.until_status("sales", "session_connected").await;
            assert_eq!(changed["phoneNumber"], CAROL);
            assert_eq!(changed["accountChanged"]["previousPhoneNumber"], ALICE, "{changed}");
            let events = world.events("sales").await;
            let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
            let at = names.iter().position(|name| *name == "account_changed").unwrap();
            assert_eq!(names[at + 1], "ready", "{names:?}");
            assert_eq!(events[at].1["phoneNumber"], CAROL);
            world.end().await;
        })
        .await;
    }
}
