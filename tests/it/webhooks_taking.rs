//! Between the look at what is due and its being taken all can have changed: taking decides again.
//! And who goes first when more is due than there are places.

use std::time::Duration;

use entity::webhook::state::Ordering;
use serde_json::json;
use wagate::store::webhooks::{Claimed, Claiming, Found};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

const LEASE: Duration = Duration::from_mins(1);

/// What is due for this endpoint.
async fn look(app: &App, endpoint: &str, ordering: Ordering) -> Found {
    let endpoint = endpoint.parse().unwrap();
    let wanted = [Claiming { endpoint, ordering, limit: 10, shared: None, probe: false }];
    app.store.webhooks().find_due(&wanted).await.unwrap()
}

async fn take(app: &App, me: &str, found: Found) -> Vec<Claimed> {
    app.store.webhooks().take(me, found, LEASE).await.unwrap()
}

#[tokio::test]
async fn nothing_is_taken_for_an_endpoint_that_was_paused_disabled_or_deleted_meanwhile() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        for verb in ["pause", "disable", "delete"] {
            // One at a time: what disables it is the answer to the first.
            let body = json!({ "url": receiver.url(), "max_in_flight": 1 });
            let (id, _) = endpoint(&app, body).await;
            let path = format!("/api/webhooks/{id}");
            for text in ["first", "second"] {
                app.hear("shop", "4911", text).await;
            }
            let (seen, seen_too) =
                (look(&app, &id, Ordering::None).await, look(&app, &id, Ordering::None).await);
            match verb {
                "pause" => {
                    assert_eq!(app.post(&format!("{path}/pause"), json!({})).await.status, 200);
                }
                "disable" => {
                    receiver.next([Behaviour::status(410)]);
                    app.deliveries.drive().await.unwrap();
                    let state = app.get(&path).await.json()["data"]["state"].clone();
                    assert_eq!(state, "disabled");
                }
                _ => assert_eq!(app.delete(&path).await.status, 204),
            }
            let taken = take(&app, "late", seen).await;
            assert!(taken.is_empty(), "{verb}: {taken:?}");
            assert_eq!(app.store.webhooks().backlog().await.unwrap().1, 0, "{verb}");
            if verb != "delete" {
                // As soon as it may be called again, the same look is good for what is still to be sent.
                app.post(&format!("{path}/resume"), json!({})).await;
                let taken = take(&app, "in time", seen_too).await;
                assert_eq!(taken.len(), if verb == "pause" { 2 } else { 1 }, "{verb}");
                app.delete(&path).await;
                app.store.webhooks().recover("in time").await.unwrap();
                app.deliveries.upkeep().await.unwrap();
            }
        }
        assert_eq!(receiver.count(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_another_daemon_has_taken_meanwhile_is_left_to_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        let (of_one, of_two) =
            (look(&app, &id, Ordering::None).await, look(&app, &id, Ordering::None).await);
        assert_eq!(take(&app, "one", of_one).await.len(), 1);
        assert!(take(&app, "two", of_two).await.is_empty());
        let claimed = "SELECT COUNT(*) FROM webhook_delivery WHERE claimed_by = 'one'";
        assert_eq!(database.count(claimed).await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_comes_first_and_is_to_be_sent_again_meanwhile_is_waited_for() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({
            "url": receiver.url(), "ordering": "by_conversation", "max_retries": 0,
        });
        let (id, _) = endpoint(&app, body).await;
        app.session("shop").await;
        receiver.next([Behaviour::status(500)]);
        app.hear("shop", "4911", "first").await;
        app.deliveries.drive().await.unwrap();
        let first = log(&app, &id).await.remove(0);
        assert_eq!(first["status"], "exhausted");
        app.hear("shop", "4911", "second").await;
        let seen = look(&app, &id, Ordering::ByConversation).await;
        // Somebody wants the first one sent after all.
        let again = format!("/api/webhooks/events/{}/retry", first["id"].as_str().unwrap());
        assert!(app.post(&again, json!({})).await.status.is_success());
        assert!(take(&app, "late", seen).await.is_empty());
        let found = look(&app, &id, Ordering::ByConversation).await;
        let taken = take(&app, "test", found).await;
        assert_eq!(taken.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [&first["id"]]);
        app.close().await;
    })
    .await;
}

/// A delivery that failed goes first by its schedule, and is not put behind all that is new.
#[tokio::test]
async fn what_is_tried_again_and_what_is_new_have_half_of_the_places_each() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        for (ordering, word) in
            [(Ordering::None, "none"), (Ordering::ByConversation, "by_conversation")]
        {
            let receiver = Receiver::start().await;
            receiver.usually(Behaviour::status(500));
            let body = json!({ "url": receiver.url(), "ordering": word });
            let (id, _) = endpoint(&app, body).await;
            for n in 0..9 {
                app.hear("shop", &format!("49110{n}"), "refused").await;
            }
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), 9);
            app.clock.advance(Duration::from_secs(10));
            for n in 0..6 {
                app.hear("shop", &format!("49111{n}"), "new").await;
            }
            app.clock.advance(Duration::from_secs(3));
            let stats = app.get(&format!("/api/webhooks/{id}/stats")).await.json();
            let oldest = stats["data"]["oldest_due_seconds"].as_i64().unwrap();
            assert!(
                (7..=9).contains(&oldest),
                "of what is tried again, not of what is new: {oldest}"
            );

            let places = async |limit: usize| {
                let wanted = [Claiming {
                    endpoint: id.parse().unwrap(),
                    ordering,
                    limit,
                    shared: None,
                    probe: false,
                }];
                let found = app.store.webhooks().find_due(&wanted).await.unwrap();
                let taken = take(&app, "test", found).await;
                let again = taken.iter().filter(|it| it.attempts > 0).count();
                (again, taken.len() - again)
            };
            assert_eq!(places(1).await, (1, 0));
            assert_eq!(places(4).await, (2, 2));
            assert_eq!(places(6).await, (3, 3));
            // What one leaves is the other's.
            assert_eq!(places(4).await, (3, 1));
            app.hear("shop", "491199", "new").await;
            assert_eq!(places(4).await, (0, 1));
            assert_eq!(app.delete(&format!("/api/webhooks/{id}")).await.status, 204);
        }
        app.close().await;
    })
    .await;
}

/// What comes first are two hundred and more of one conversation whose head is under way.
#[tokio::test]
async fn behind_a_long_conversation_the_heads_of_others_are_found_and_nothing_else() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        app.session("shop").await;
        let body = json!({ "url": receiver.url(), "ordering": "by_conversation" });
        let (id, _) = endpoint(&app, body).await;
        for n in 0..250 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        let first = look(&app, &id, Ordering::ByConversation).await;
        let first = take(&app, "test", first).await;
        assert_eq!(first.len(), 1, "the head of the one conversation");
        assert!(
            take(&app, "test", look(&app, &id, Ordering::ByConversation).await).await.is_empty()
        );
        for n in 0..24 {
            app.hear("shop", &format!("4912{}", n % 12), &n.to_string()).await;
        }
        let numbers = |taken: &[Claimed]| -> Vec<_> {
            taken.iter().map(|it| it.event.as_ref().unwrap().seq).collect()
        };
        let after = first[0].event.as_ref().unwrap().seq + 249;
        let taken = take(&app, "test", look(&app, &id, Ordering::ByConversation).await).await;
        assert_eq!(numbers(&taken), (1..=10).map(|n| after + n).collect::<Vec<_>>());
        let taken = take(&app, "test", look(&app, &id, Ordering::ByConversation).await).await;
        assert_eq!(numbers(&taken), [after + 11, after + 12]);
        assert!(
            take(&app, "test", look(&app, &id, Ordering::ByConversation).await).await.is_empty()
        );
        // A breaker's probe is one of them, too.
        app.store.webhooks().recover("test").await.unwrap();
        let wanted = [Claiming {
            endpoint: id.parse().unwrap(),
            ordering: Ordering::ByConversation,
            limit: 1,
            shared: None,
            probe: true,
        }];
        let found = app.store.webhooks().find_due(&wanted).await.unwrap();
        assert_eq!(numbers(&take(&app, "test", found).await), numbers(&first));
        app.close().await;
    })
    .await;
}
