//! Seed 002's call: a user asks to be connected, and scans what comes back.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate_simulator::{Fault, Lasting, Scope};

use crate::{
    database,
    http_app::{self, App},
    world::{ALICE, Answer, BOB, DEADLINE, on_each},
};

const CONNECT: &str = "/api/whatsapp/connect";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_given_a_code_scans_it_and_is_connected_once() {
    on_each(async |world| {
        let body = json!({ "user_id": "user-uuid-123", "phone_number": ALICE });
        let first = world.post(CONNECT, body.clone()).await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
        let members: Vec<_> = first.body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["qr_code", "session_id", "status"], "the seed's bare shape");
        assert_eq!(first.body["status"], "reconnecting");
        let id = first.body["session_id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("wa_"));

        // Asked again before anything was scanned: the same session, with its code.
        let again = world.post(CONNECT, body.clone()).await;
        assert_eq!(again.status, StatusCode::CREATED);
        assert_eq!(again.body["session_id"], id.as_str());
        let code = again.body["qr_code"].as_str().expect("a code").to_owned();

        world.whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
        let seen = world.until_status(&id, "session_connected").await;
        assert_eq!(
            (&seen["userId"], &seen["phoneNumber"]),
            (&json!("user-uuid-123"), &json!(ALICE))
        );
        let refused = world.post(CONNECT, body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        assert_eq!(refused.body["code"], "SESSION_EXISTS");
        assert_eq!(refused.body["status"], 400);
        for member in ["detail", "message"] {
            assert_eq!(refused.body[member], "Sessão já existente");
        }
        // Another user is another matter.
        let other = json!({ "user_id": "user-2", "phone_number": BOB });
        assert_eq!(world.post(CONNECT, other).await.status, StatusCode::CREATED);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_stopped_is_taken_up_and_one_of_another_number_is_not() {
    on_each(async |world| {
        let body = json!({ "user_id": "user-1", "phone_number": ALICE });
        let first = world.post(CONNECT, body.clone()).await;
        let id = first.body["session_id"].as_str().unwrap().to_owned();
        let code = world.until_qr(&id).await;
        world.whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
        world.until_status(&id, "session_connected").await;
        world.post(&format!("/api/whatsapp/session/{id}/stop"), json!({})).await;

        // It is linked: it connects, and there is nothing to scan.
        let again = world.post(CONNECT, body).await;
        assert_eq!((again.status, &again.body["session_id"]), (StatusCode::CREATED, &json!(id)));
        // As the seed has it, what is not there is left out.
        assert_eq!((&again.body["status"], again.body.get("qr_code")), (&json!("connected"), None));

        world.post(&format!("/api/whatsapp/session/{id}/stop"), json!({})).await;
        let other = json!({ "user_id": "user-1", "phone_number": BOB });
        let other = world.post(CONNECT, other).await;
        assert_eq!(other.status, StatusCode::CREATED);
        assert_ne!(other.body["session_id"], id.as_str());
        assert_eq!(world.status(&id).await["phoneNumber"], ALICE, "that one is left alone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_under_its_key_comes_to_what_it_came_to() {
    on_each(async |world| {
        let ask = async |key: &str, number: &str| {
            let body = json!({ "user_id": "user-1", "phone_number": number });
            let request = world.request(Method::POST, CONNECT).header("idempotency-key", key);
            Answer::of(request.json(&body)).await
        };
        let first = ask("first", ALICE).await;
        assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
        let id = first.body["session_id"].clone();
        let again = ask("first", ALICE).await;
        assert_eq!((again.status, &again.body["session_id"]), (StatusCode::CREATED, &id));
        let code = again.body["qr_code"].as_str().expect("a code").to_owned();
        let other = ask("first", BOB).await;
        assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.body);
        // A key may stand for a session that was there, as well.
        let taken_up = ask("second", ALICE).await;
        assert_eq!((taken_up.status, &taken_up.body["session_id"]), (StatusCode::CREATED, &id));

        world.whatsapp.phone(ALICE).unwrap().scan(&code).await.unwrap();
        world.until_status(id.as_str().unwrap(), "session_connected").await;
        // Without its key it is refused now; under it, it has been carried out.
        for key in ["first", "second"] {
            let again = ask(key, ALICE).await;
            assert_eq!((again.status, &again.body["session_id"]), (StatusCode::CREATED, &id));
            assert_eq!(again.body["status"], "connected");
        }
        // What was refused leaves its key free.
        assert_eq!(ask("third", ALICE).await.status, StatusCode::BAD_REQUEST);
        world.delete(&format!("/api/whatsapp/session/{}", id.as_str().unwrap())).await;
        assert_eq!(ask("third", ALICE).await.status, StatusCode::CREATED);
        // What is gone is not made anew.
        let gone = ask("first", ALICE).await;
        assert_eq!(
            (gone.status, &gone.body["code"]),
            (StatusCode::CONFLICT, &json!("IDEMPOTENCY_RESULT_GONE"))
        );
    })
    .await;
}

/// That it was disconnected once, long before, says nothing of this time.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_request_again_while_an_old_session_is_dialled_waits_for_its_code_as_well() {
    on_each(async |world| {
        let body = json!({ "user_id": "user-1", "phone_number": ALICE });
        let made = world.post(CONNECT, body.clone()).await;
        let id = made.body["session_id"].as_str().unwrap().to_owned();
        world.post(&format!("/api/whatsapp/session/{id}/stop"), json!({})).await;
        assert!(!world.status(&id).await["lastDisconnect"].is_null());
        let ask = || async {
            let request = world.request(Method::POST, CONNECT).header("idempotency-key", "again");
            Answer::of(request.json(&body)).await
        };
        let (one, two) = tokio::join!(ask(), ask());
        for answer in [one, two] {
            assert_eq!(
                (answer.status, &answer.body["session_id"]),
                (StatusCode::CREATED, &json!(id))
            );
            assert!(answer.body["qr_code"].is_string(), "{}", answer.body);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_dial_that_is_lost_is_tried_again_and_the_answer_has_its_code() {
    on_each(async |world| {
        world.whatsapp.fault(Scope::Everyone, Fault::Outage, Lasting::Once).await;
        let body = json!({ "user_id": "user-1", "phone_number": ALICE });
        let asked = world.post(CONNECT, body).await;
        assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.body);
        let id = asked.body["session_id"].as_str().unwrap();
        assert!(!world.status(id).await["lastDisconnect"].is_null(), "the first one was lost");
        let code = asked.body["qr_code"].as_str().expect("a code");
        world.whatsapp.phone(ALICE).unwrap().scan(code).await.unwrap();
        world.until_status(id, "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_requests_of_one_user_at_once_make_one_session() {
    database::on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "user_id": "user-1", "phone_number": "6281234567890" });
        let answers = {
            let asked = (0..10).map(|_| app.post(CONNECT, body.clone()));
            let mut asked = pin!(futures_util::future::join_all(asked));
            let begun = Instant::now();
            loop {
                assert!(begun.elapsed() < DEADLINE, "not all are answered");
                // WhatsApp is not there: that is told when it has been dialled as often as there is time for.
                app.clock.advance(Duration::from_secs(1));
                let some = Duration::from_millis(20);
                if let Ok(answers) = tokio::time::timeout(some, &mut asked).await {
                    break answers;
                }
            }
        };
        let id = answers[0].json()["session_id"].clone();
        for answer in &answers {
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
            assert_eq!(answer.json()["session_id"], id);
            assert_eq!(answer.json().get("qr_code"), None);
        }
        assert_eq!(database.count("SELECT count(*) FROM session").await, 1);
        app.post(CONNECT, json!({ "user_id": "", "phone_number": "12" }))
            .await
            .invalid(&["/user_id", "/phone_number"]);
        app.post(CONNECT, json!({})).await.invalid(&["/user_id", "/phone_number"]);
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_the_session_disconnected_with_the_reason() {
    database::on_each(async |database| {
        let app = App::start(database).await;
        app.stop_sessions().await;
        app.clock.advance(Duration::from_secs(1));
        let body = json!({ "user_id": "user-1", "phone_number": "6281234567890" });
        app.post(CONNECT, body.clone()).await.problem(503, "UNAVAILABLE");
        // With a key it is as before: what has failed is tried again, and not said to be done.
        for _ in 0..2 {
            let again = app.request(Method::POST, CONNECT).header("idempotency-key", "key");
            let again = http_app::Answer::to(http_app::json(again, &body)).await;
            again.problem(503, "UNAVAILABLE");
        }
        let listed = app.get("/api/whatsapp/session/list-realtime?userId=user-1").await.json();
        assert_eq!(listed["summary"]["total"], 1, "it was there before the start");
        let id = listed["data"][0]["sessionId"].as_str().unwrap();
        let seen = app.get(&format!("/api/whatsapp/session/{id}")).await.json()["data"].clone();
        assert_eq!(seen["status"], "session_not_connected");
        assert_eq!(seen["desiredState"], "stopped");
        let message = seen["message"].as_str().unwrap();
        assert!(message.starts_with("The session could not be started: "), "{message}");
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_nothing_of_a_run_that_another_daemon_has_begun() {
    database::on_each(async |database| {
        let app = App::start(database).await;
        app.stop_sessions().await;
        // As if one had by the time that it is written down.
        let begin = "UPDATE session SET generation = generation + 1 WHERE id = NEW.id";
        let begins = match database.kind {
            database::Kind::Sqlite => {
                format!("CREATE TRIGGER begins AFTER INSERT ON session BEGIN {begin}; END")
            }
            database::Kind::Postgres => format!(
                "CREATE FUNCTION begins() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN {begin}; RETURN NULL; END $$; \
                 CREATE TRIGGER begins AFTER INSERT ON session FOR EACH ROW EXECUTE FUNCTION begins()"
            ),
        };
        database.execute(&begins).await;
        let body = json!({ "user_id": "user-1", "phone_number": "6281234567890" });
        app.post(CONNECT, body).await.problem(503, "UNAVAILABLE");
        let said = "SELECT count(*) FROM session WHERE message LIKE 'The session could not be started%'";
        assert_eq!(database.count(said).await, 0);
        let wish = "SELECT count(*) FROM session WHERE desired_state = 'stopped'";
        assert_eq!(database.count(wish).await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_answered_with_the_members_that_the_seed_has() {
    database::on_each(async |database| {
        let app = App::start(database).await;
        let (user, number) = (json!("user-1"), json!("6281234567890"));
        for (body, pointers) in [
            (json!({}), &["/user_id", "/phone_number"][..]),
            (json!({ "user_id": user }), &["/phone_number"][..]),
            (json!({ "phone_number": number }), &["/user_id"][..]),
            (json!({ "user_id": "", "phone_number": "" }), &["/user_id", "/phone_number"][..]),
            (json!({ "user_id": 7, "phone_number": number }), &["/user_id"][..]),
            (json!({ "user_id": user, "phone_number": "12" }), &["/phone_number"][..]),
        ] {
            let refused = app.post(CONNECT, body.clone()).await;
            refused.invalid(pointers);
            let problem = refused.json();
            assert_eq!(
                (&problem["statusCode"], &problem["message"]),
                (&json!(400), &json!("Invalid params")),
                "{body}"
            );
        }
        app.close().await;
    })
    .await;
}
