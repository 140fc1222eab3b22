//! What is owed arrives: in order where order is asked for, signed, filtered, at its pace.

use std::{collections::BTreeSet, time::Duration};

use entity::webhook::state::DeliveryState;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use wagate::event::{Ack, AckLevel, Event};

use crate::{
    database::{Database, on_each},
    http_app::{App, deliveries},
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

#[tokio::test]
async fn an_endpoint_is_told_of_what_it_asked_for_and_of_nothing_else() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (all, messages, of_shop) =
            (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        let of_number = Receiver::start().await;
        app.session("shop").await;
        app.session("other").await;
        // Nobody is owed what was before.
        app.connect("shop").await;
        endpoint(&app, json!({ "url": all.url() })).await;
        endpoint(&app, json!({ "url": messages.url(), "event_types": ["message.*"] })).await;
        let filter =
            json!({ "url": of_shop.url(), "event_types": ["message"], "session_ids": ["shop"] });
        endpoint(&app, filter).await;
        // Of the two, one is connected with this number.
        let filter = json!({
            "url": of_number.url(), "event_types": ["message", "session.*"],
            "phone_numbers": ["+62 812-3456-7890"],
        });
        endpoint(&app, filter).await;

        app.hear("other", "4911", "to other").await;
        app.hear("shop", "4911", "to shop").await;
        app.connect("shop").await;
        let secret_code = "2@secret";
        app.show_qr("other", secret_code).await;
        app.deliveries.drive().await.unwrap();

        let types = |receiver: &Receiver| {
            let mut requests = receiver.requests();
            requests.sort_by_key(crate::receiver::Request::sequence);
            requests
                .iter()
                .map(|it| it.json()["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            types(&all),
            ["message.received", "message.received", "session.ready", "session.qr"]
        );
        assert_eq!(types(&messages), ["message.received", "message.received"]);
        assert_eq!(types(&of_shop), ["message.received"]);
        assert_eq!(types(&of_number), ["message.received", "session.ready"]);
        assert_eq!(of_shop.requests()[0].json()["session_id"], "shop");

        // A pairing code is sealed where it is kept and open where it is sent.
        let sent = all.requests();
        let code = sent.iter().find(|it| it.json()["type"] == "session.qr").unwrap();
        assert_eq!(code.json()["data"]["qr"], secret_code);
        let kept = database.query("SELECT payload FROM webhook_event").await;
        for row in kept {
            let payload: String = row.try_get_by_index(0).unwrap();
            assert!(!payload.contains(secret_code), "{payload}");
        }

        // The envelope, to the letter.
        let ready = sent.iter().find(|it| it.json()["type"] == "session.ready").unwrap().json();
        assert_eq!(
            ready,
            json!({
                "type": "session.ready", "timestamp": "2027-01-15T08:00:00.000Z",
                "id": ready["id"], "sequence": ready["sequence"], "client_id": 1,
                "session_id": "shop",
                "data": { "phoneNumber": "6281234567890", "pushName": "Test" },
            })
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_recorded_twice_is_told_once_and_rolled_back_is_told_never() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let message = Event::Message(Box::new(app.message("4911", "once")));
        app.happen("shop", message.clone()).await;
        app.happen("shop", message).await;
        // An acknowledgement of a message that nobody knows comes to nothing.
        let ack = Ack {
            wa_id: "nobody's".to_owned(),
            chat: "4911@s.whatsapp.net".to_owned(),
            by: "4911@s.whatsapp.net".to_owned(),
            level: AckLevel::Read,
            error: None,
            at: app.clock.now(),
        };
        app.happen("shop", Event::Ack(ack)).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_written_for_one() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        assert_eq!(database.count("SELECT webhook_version FROM organization").await, 0);
        let kept = database.query("SELECT event_type FROM webhook_event").await;
        let kept: Vec<String> = kept.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(kept, ["session.created"], "the feed's, as no session's run has seen it");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_by_the_schedule_under_the_same_id() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, secret) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        receiver.next([401, 500, 404].map(Behaviour::status));
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 1);
        // Not yet due.
        app.clock.advance(Duration::from_secs(3));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 1);
        for (wait, count) in [(6, 2), (40, 3), (400, 4)] {
            app.clock.advance(Duration::from_secs(wait));
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.requests().len(), count);
        }
        let requests = receiver.requests();
        for request in &requests {
            assert_eq!(request.id(), requests[0].id());
            assert_eq!(request.body, requests[0].body);
            assert!(request.is_signed_with(&secret));
        }
        let times: Vec<i64> =
            requests.iter().map(|it| it.headers["webhook-timestamp"].parse().unwrap()).collect();
        assert!(times.is_sorted() && times[0] < times[3], "each is signed anew: {times:?}");
        let row = &log(&app, &id).await[0];
        assert_eq!((&row["status"], &row["attempts"]), (&json!("succeeded"), &json!(4)));
        let detail =
            app.get(&format!("/api/webhooks/events/{}", row["id"].as_str().unwrap())).await.json();
        let statuses: Vec<_> = detail["data"]["attempt_log"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt["status"].as_i64().unwrap())
            .collect();
        assert_eq!(statuses, [401, 500, 404, 200]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn it_is_given_up_after_its_retries_and_at_its_age_and_can_be_sent_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        receiver.usually(Behaviour::status(500));
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_retries": 1 })).await;
        let watch = json!({ "url": watcher.url(), "event_types": ["webhook.*"] });
        endpoint(&app, watch).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        app.clock.advance(Duration::from_secs(10));
        app.deliveries.drive().await.unwrap();
        app.clock.advance(Duration::from_hours(1));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 2);
        let row = log(&app, &id).await.remove(0);
        assert_eq!((&row["status"], &row["attempts"]), (&json!("exhausted"), &json!(2)));
        let told: Vec<_> = watcher.requests().iter().map(|it| it.json()["type"].clone()).collect();
        assert_eq!(told, ["webhook.delivery.exhausted"]);

        receiver.usually(Behaviour::status(204));
        let again = format!("/api/webhooks/events/{}/retry", row["id"].as_str().unwrap());
        app.post(&again, json!({})).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(log(&app, &id).await[0]["status"], "succeeded");

        // What waits for a paused endpoint grows old, too.
        app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        app.hear("shop", "4911", "y").await;
        app.clock.advance(Duration::from_hours(73));
        app.deliveries.upkeep().await.unwrap();
        app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 3);
        let row = &log(&app, &id).await[0];
        assert_eq!((&row["status"], &row["error"]), (&json!("exhausted"), &json!("expired")));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn while_it_is_paused_everything_waits_for_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.post(&format!("/api/webhooks/{id}/pause"), json!({})).await;
        for n in 0..3 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.deliveries.drive().await.unwrap();
        assert!(receiver.requests().is_empty());
        app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 3);
        app.close().await;
    })
    .await;
}

/// As a receiver makes it of its own.
fn fingerprint(secret: &str) -> String {
    let hash =
        ring::digest::digest(&ring::digest::SHA256, format!("fingerprint:{secret}").as_bytes());
    format!("{:08x}", u32::from_be_bytes(*hash.as_ref().first_chunk().unwrap()))
}

#[tokio::test]
async fn secrets_overlap_while_they_are_rotated() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, old) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let body = json!({ "overlap_seconds": 3600 });
        let rotated = app.post(&format!("/api/webhooks/{id}/secret/rotate"), body).await.json();
        let new = rotated["data"]["secret"].as_str().unwrap();
        assert_eq!(rotated["data"]["old_secrets_until"], "2027-01-15T09:00:00.000Z");
        // Each can be told by its fingerprint, and learned from nothing that is shown.
        let shown = app.get(&format!("/api/webhooks/{id}")).await.json()["data"].clone();
        let told = shown["secrets"].as_array().unwrap().iter();
        let told: BTreeSet<_> = told.map(|it| it["fingerprint"].as_str().unwrap()).collect();
        let (of_new, of_old) = (fingerprint(new), fingerprint(&old));
        assert_eq!(told, BTreeSet::from([&*of_new, &*of_old]));
        for secret in [new, &old] {
            assert!(!shown.to_string().contains(secret.trim_start_matches("whsec_")));
        }
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        let request = receiver.requests().remove(0);
        assert!(request.is_signed_with(&old) && request.is_signed_with(new));
        assert!(request.headers["webhook-signature"].split(' ').count() == 2);

        app.clock.advance(Duration::from_hours(1));
        app.hear("shop", "4911", "y").await;
        app.deliveries.drive().await.unwrap();
        let request = receiver.requests().remove(1);
        assert!(!request.is_signed_with(&old) && request.is_signed_with(new));

        // At once, for a secret that has leaked.
        let body = json!({ "overlap_seconds": 0 });
        let rotated = app.post(&format!("/api/webhooks/{id}/secret/rotate"), body).await.json();
        app.hear("shop", "4911", "z").await;
        app.deliveries.drive().await.unwrap();
        let request = receiver.requests().remove(2);
        assert!(!request.is_signed_with(new));
        assert!(request.is_signed_with(rotated["data"]["secret"].as_str().unwrap()));
        // Nothing of it is in the database in clear.
        for row in database.query("SELECT secret FROM webhook_secret").await {
            let sealed: Vec<u8> = row.try_get_by_index(0).unwrap();
            assert_eq!(sealed.len(), 32 + 33);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_change_is_in_force_for_the_first_event_after_it_in_every_process() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "before").await;
        // Another process changes the endpoint behind this one's back.
        if database.kind == crate::database::Kind::Postgres {
            let other = database.open().await;
            let id: entity::id::EndpointId = id.parse().unwrap();
            let by = wagate::store::audit::By::default();
            let deleted = other.store.webhooks().delete(&app.organization, &id, by).await;
            assert!(deleted.unwrap());
            other.close().await;
        } else {
            app.delete(&format!("/api/webhooks/{id}")).await;
        }
        app.hear("shop", "4911", "after").await;
        assert_eq!(database.count("SELECT COUNT(*) FROM webhook_delivery").await, 1);

        // And what was owed to it is cancelled, not sent.
        app.deliveries.drive().await.unwrap();
        app.deliveries.upkeep().await.unwrap();
        assert!(receiver.requests().is_empty());
        let cancelled = "SELECT COUNT(*) FROM webhook_delivery WHERE state = 'cancelled'";
        assert_eq!(database.count(cancelled).await, 1);
        app.close().await;
    })
    .await;
}

/// An endpoint that is owed one delivery, with its id.
async fn owed_one(database: &Database) -> (App, Receiver, String) {
    let app = App::start(database).await;
    let receiver = Receiver::start().await;
    let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
    app.session("shop").await;
    app.hear("shop", "4911", "x").await;
    (app, receiver, id)
}

#[tokio::test]
async fn of_two_workers_with_one_delivery_only_the_newer_one_counts() {
    on_each(async |database| {
        let (app, receiver, id) = owed_one(database).await;
        let (slow_tasks, quick_tasks) = (TaskTracker::new(), TaskTracker::new());
        let slow = deliveries(&app.store, "slow", &slow_tasks);
        let quick = deliveries(&app.store, "quick", &quick_tasks);

        let gate = receiver.hold();
        let driving = async { slow.drive().await.unwrap() };
        let overtaking = async {
            receiver.arrived(1).await;
            // While its lease lasts nobody else touches it.
            quick.upkeep().await.unwrap();
            app.clock.advance(Duration::from_secs(61));
            quick.upkeep().await.unwrap();
            assert_eq!(quick.stats().reclaimed, 1);
            let sending = async { quick.drive().await.unwrap() };
            let answering = async {
                receiver.arrived(2).await;
                // The newer one is told that it failed, the older one then that it succeeded.
                receiver.next([500, 200].map(Behaviour::status));
                gate.notify_one();
                gate.notify_one();
            };
            tokio::join!(sending, answering);
        };
        tokio::join!(driving, overtaking);
        let requests = receiver.requests();
        assert_eq!(requests[0].id(), requests[1].id());
        let (fenced, row) = (slow.stats().fenced, log(&app, &id).await.remove(0));
        assert_eq!(fenced + quick.stats().fenced, 1, "{row}");
        assert_eq!(fenced, 1);
        assert_eq!(row["attempts"], 1);
        drop((slow, quick));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_success_that_comes_late_does_not_settle_what_another_worker_is_sending() {
    on_each(async |database| {
        let (app, receiver, id) = owed_one(database).await;
        let (slow_tasks, quick_tasks) = (TaskTracker::new(), TaskTracker::new());
        let slow = deliveries(&app.store, "slow", &slow_tasks);
        let quick = deliveries(&app.store, "quick", &quick_tasks);

        let (gate, settled) = (receiver.hold(), Notify::new());
        let late = async {
            slow.drive().await.unwrap();
            settled.notify_one();
        };
        let overtaking = async {
            receiver.arrived(1).await;
            app.clock.advance(Duration::from_secs(61));
            quick.upkeep().await.unwrap();
            let sending = async { quick.drive().await.unwrap() };
            let answering = async {
                receiver.arrived(2).await;
                // Who came first is answered first.
                receiver.next([Behaviour::status(200)]);
                gate.notify_one();
                settled.notified().await;
                assert_eq!(slow.stats().fenced, 1);
                assert_eq!(app.store.webhooks().backlog().await.unwrap(), (0, 1));
                receiver.next([Behaviour::status(500)]);
                gate.notify_one();
            };
            tokio::join!(sending, answering);
        };
        tokio::join!(late, overtaking);
        let row = log(&app, &id).await.remove(0);
        assert_eq!((&row["status"], &row["attempts"]), (&json!("pending"), &json!(1)), "{row}");
        drop((slow, quick));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_and_not_recorded_is_sent_again_with_the_same_id() {
    on_each(async |database| {
        let (app, receiver, id) = owed_one(database).await;
        // A daemon sends it and dies before it can write that down.
        let tasks = TaskTracker::new();
        let dying = deliveries(&app.store, "test", &tasks);
        let gate = receiver.hold();
        tokio::select! {
            () = async { dying.drive().await.unwrap() } => panic!("nothing was answered"),
            _ = receiver.arrived(1) => {}
        }
        let claimed = app.store.webhooks().backlog().await.unwrap();
        assert_eq!(claimed, (0, 1));
        // It starts again.
        app.deliveries.recover().await.unwrap();
        assert_eq!(app.deliveries.stats().reclaimed, 1);
        gate.notify_one();
        let (driven, ()) = tokio::join!(app.deliveries.drive(), async {
            receiver.arrived(2).await;
            gate.notify_one();
        });
        driven.unwrap();
        let requests = receiver.requests();
        assert_eq!(requests[0].id(), requests[1].id());
        assert_eq!(log(&app, &id).await[0]["status"], DeliveryState::Succeeded.word());
        drop(dying);
        app.close().await;
    })
    .await;
}
