//! Receivers that misbehave, and what must not come of it.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    database::{Database, on_each},
    http_app::App,
    http_tls,
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

/// What one try with a receiver that behaves like that is remembered as: the delivery, and the attempt.
async fn tried(database: &Database, behaviour: Behaviour) -> (Value, Value) {
    let app = App::start(database).await;
    let receiver = Receiver::start().await;
    receiver.usually(behaviour);
    let outcome = try_url(&app, &receiver.url()).await;
    app.close().await;
    database.execute("DELETE FROM webhook_endpoint").await;
    database.execute("DELETE FROM webhook_event").await;
    outcome
}

async fn try_url(app: &App, url: &str) -> (Value, Value) {
    let (id, _) = endpoint(app, json!({ "url": url, "timeout_ms": 1000 })).await;
    if app
        .store
        .sessions()
        .find(&app.organization, &"shop".parse().unwrap())
        .await
        .unwrap()
        .is_none()
    {
        app.session("shop").await;
    }
    app.hear("shop", "4911", "x").await;
    app.deliveries.drive().await.unwrap();
    let row = log(app, &id).await.remove(0);
    let path = format!("/api/webhooks/events/{}", row["id"].as_str().unwrap());
    let attempt = app.get(&path).await.json()["data"]["attempt_log"][0].clone();
    (row, attempt)
}

#[tokio::test]
async fn whatever_a_receiver_does_is_remembered_by_a_stable_word_and_tried_again() {
    on_each(async |database| {
        for (behaviour, status, error) in [
            (Behaviour::Reset, None, "connection_reset"),
            (Behaviour::Close, None, "connection_reset"),
            (Behaviour::Silence, None, "timeout"),
            (Behaviour::Drip, None, "timeout"),
            (Behaviour::Nonsense, None, "protocol_error"),
            (Behaviour::status(401), Some(401), "http_status"),
            (Behaviour::status(404), Some(404), "http_status"),
            (Behaviour::status(429), Some(429), "http_status"),
            (Behaviour::status(500), Some(500), "http_status"),
            (Behaviour::status(503), Some(503), "http_status"),
            (Behaviour::Endless(500), Some(500), "http_status"),
        ] {
            let (row, attempt) = tried(database, behaviour.clone()).await;
            assert_eq!(row["status"], "pending", "{behaviour:?}: {row}");
            assert_eq!(row["error"], error, "{behaviour:?}");
            assert!(row["next_attempt_at"].is_string());
            assert_eq!(attempt["status"], json!(status), "{behaviour:?}");
            assert_eq!(attempt["error"], error);
            // Whoever looks for the cause knows who was called, answer or none.
            assert!(attempt["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{behaviour:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_trickles_after_a_good_status_takes_its_time_and_is_a_success() {
    on_each(async |database| {
        let (row, attempt) = tried(database, Behaviour::Trickle).await;
        assert_eq!((&row["status"], &attempt["status"]), (&json!("succeeded"), &json!(200)));
        let kept = attempt["response"].as_str().unwrap();
        assert!(!kept.is_empty() && kept.bytes().all(|byte| byte == b'x'), "{kept}");
        assert!(kept.len() < 10_000);
    })
    .await;
}

/// A hundred MiB of nothing, packed.
fn bomb() -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        packer.write_all(&vec![0; 1 << 20]).unwrap();
    }
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_body_without_an_end_is_read_to_its_bound_and_a_bomb_is_not_unpacked() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        receiver.next([Behaviour::Endless(200)]);
        let (row, attempt) = try_url(&app, &receiver.url()).await;
        assert_eq!(row["status"], "succeeded");
        assert_eq!(attempt["response"].as_str().unwrap().len(), 16 << 10);
        // What is between two sockets counts, and no more.
        let poured = receiver.poured().await;
        assert!(poured < 32 << 20, "{poured} bytes were read, or as good as read");

        // Nobody is asked to pack anything, and what is packed all the same is kept as it came: to the bound,
        // and without a NUL, which no database keeps in a text.
        let bomb = bomb();
        assert!((64 << 10..128 << 10).contains(&bomb.len()), "{}", bomb.len());
        let headers = vec![("content-encoding", "gzip".to_owned())];
        let receiver = Receiver::start().await;
        receiver.next([Behaviour::Answer(200, headers, bomb)]);
        let (row, attempt) = try_url(&app, &receiver.url()).await;
        assert_eq!(row["status"], "succeeded");
        let response = attempt["response"].as_str().unwrap();
        let head: String = response.chars().take(3).collect();
        assert_eq!(head, "\u{1f}\u{fffd}\u{8}");
        assert!((16_382..=16_384).contains(&response.len()), "{}", response.len());
        assert!(!response.contains('\0'));
        assert!(receiver.requests().iter().all(|it| !it.headers.contains_key("accept-encoding")));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
        for status in [301, 302, 303, 307, 308] {
            let location = vec![("location", elsewhere.url())];
            receiver.usually(Behaviour::Answer(status, location, Vec::new()));
            let (row, attempt) = try_url(&app, &receiver.url()).await;
            assert_eq!(row["status"], "pending");
            assert_eq!(attempt["error"], "redirect_not_followed");
        }
        assert!(elsewhere.requests().is_empty());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_there_no_name_and_no_tls_are_told_apart() {
    on_each(async |database| {
        let app = App::start(database).await;
        let gone = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        // It speaks TLS, and nobody vouches for it.
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = http_tls::certificate(dir.path(), "own");
        let stranger = http_tls::Daemon::start(&dir.path().join("state"), &certificate, &key);
        let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = plain.local_addr().unwrap().port();
        let tasks = tokio_util::task::TaskTracker::new();
        let serving = tasks.spawn(async move {
            while let Ok((mut stream, _)) = plain.accept().await {
                stream.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n").await.ok();
                let mut hello = [0; 1024];
                let _ = stream.read(&mut hello).await.unwrap_or(0);
            }
        });
        let by_name = format!("http://receiver.test:{}/", gone.port());
        for (url, error, called) in [
            (format!("http://{gone}/"), "connection_refused", Some(gone.port())),
            (by_name, "connection_refused", Some(gone.port())),
            (format!("http://nowhere.test:{port}/"), "dns_error", None),
            (format!("https://127.0.0.1:{port}/"), "tls_error", Some(port)),
            (format!("{}/livez", stranger.base), "tls_error", None),
        ] {
            let (row, attempt) = try_url(&app, &url).await;
            if let Some(port) = called {
                assert_eq!(attempt["peer"], format!("127.0.0.1:{port}"), "{url}");
            }
            assert_eq!(attempt["peer"].is_null(), error == "dns_error", "{url}");
            assert_eq!(
                (&row["status"], &row["error"]),
                (&json!("pending"), &json!(error)),
                "{url}"
            );
        }
        serving.abort();
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn no_name_leads_inside_whatever_it_answers_when() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let port = receiver.address.port();
        // Only its address that may be called is called.
        let (row, attempt) = try_url(&app, &format!("http://mixed.test:{port}/")).await;
        assert_eq!(row["status"], "succeeded");
        assert_eq!(attempt["peer"], format!("127.0.0.1:{port}"));

        // Good when it is saved, or looked at; something else when it is called.
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            let made = app
                .post("/api/webhooks", json!({ "url": format!("http://rebinding.test:{port}/") }))
                .await;
            if made.status == 400 {
                outcomes.push("refused".to_owned());
                continue;
            }
            let id = made.json()["data"]["id"].as_str().unwrap().to_owned();
            app.hear("shop", "4911", "x").await;
            app.deliveries.drive().await.unwrap();
            let row = log(&app, &id).await.remove(0);
            outcomes.push(format!("{} {}", row["status"], row["error"]));
            app.delete(&format!("/api/webhooks/{id}")).await;
        }
        assert!(outcomes.contains(&"\"exhausted\" \"blocked_address\"".to_owned()), "{outcomes:?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn gone_disables_at_once_and_tells_the_other_endpoints() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 1 })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(410));
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        let shown = app.get(&format!("/api/webhooks/{id}")).await.json()["data"].clone();
        assert_eq!(
            (&shown["state"], &shown["disabled_reason"]),
            (&json!("disabled"), &json!("gone"))
        );
        assert_eq!(log(&app, &id).await[0]["error"], "gone");
        let told: Vec<_> = watcher.requests().iter().map(|it| it.json()["type"].clone()).collect();
        assert!(told.contains(&json!("webhook.endpoint.disabled")), "{told:?}");
        app.post(&format!("/api/webhooks/{id}/pause"), json!({}))
            .await
            .problem(409, "WEBHOOK_DISABLED");

        // Meanwhile it is owed nothing, and that is remembered, with what it has refused.
        app.hear("shop", "4911", "missed").await;
        receiver.usually(Behaviour::status(200));
        let resumed = app.post(&format!("/api/webhooks/{id}/resume"), json!({})).await.json();
        let missed = &resumed["data"]["missed"];
        let span = missed["through_sequence"].as_i64().unwrap()
            - missed["after_sequence"].as_i64().unwrap();
        assert!(span >= 2, "{missed}");
        app.hear("shop", "4911", "after").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 2);

        // It can have that all the same.
        let replay = json!({
            "after_sequence": missed["after_sequence"],
            "through_sequence": missed["through_sequence"],
        });
        assert_eq!(app.post(&format!("/api/webhooks/{id}/replay"), replay).await.status, 202);
        for _ in 0..3 {
            app.store.webhooks().step_replays().await.unwrap();
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_secs(1));
        }
        let requests = receiver.requests();
        let texts = requests.iter().map(|it| it.json()["data"]["message"]["body"].clone());
        assert_eq!(texts.collect::<Vec<_>>(), ["x", "after", "x", "missed"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_breaker_spares_a_dead_endpoint_and_loses_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 1 })).await;
        endpoint(&app, json!({ "url": watcher.url(), "event_types": ["webhook.*"] })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::Reset);
        for n in 0..30 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 10, "then the breaker opens");
        let health =
            async || app.get(&format!("/api/webhooks/{id}")).await.json()["data"]["health"].clone();
        assert_eq!(health().await["breaker"], "open");
        app.clock.advance(Duration::from_secs(29));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 10, "nothing is burnt meanwhile");

        // One probe, which fails: closed for twice as long.
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(health().await["breaker"], "half_open");
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 11);
        app.clock.advance(Duration::from_secs(59));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 11);

        // A probe that succeeds lets everything through.
        receiver.usually(Behaviour::status(200));
        app.clock.advance(Duration::from_secs(1));
        for _ in 0..5 {
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_mins(10));
        }
        assert_eq!(health().await["breaker"], "closed");
        let rows = app.get(&format!("/api/webhooks/{id}/events?status=succeeded")).await.json();
        assert_eq!(rows["data"].as_array().unwrap().len(), 30);
        let told: Vec<_> = watcher.requests().iter().map(|it| it.json()["type"].clone()).collect();
        assert_eq!(told, ["webhook.endpoint.failing", "webhook.endpoint.recovered"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn failing_for_days_disables_with_what_is_missed_remembered() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(500));
        for n in 0..260 {
            if n % 20 == 0 {
                app.hear("shop", "4911", &n.to_string()).await;
            }
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_mins(31));
        }
        let shown = app.get(&format!("/api/webhooks/{id}")).await.json()["data"].clone();
        assert_eq!(
            (&shown["state"], &shown["disabled_reason"]),
            (&json!("disabled"), &json!("failing"))
        );
        assert_eq!(shown["gaps"].as_array().unwrap().len(), 1);
        assert_eq!(app.deliveries.stats().disabled, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_is_disabled_or_deleted_in_flight_harms_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        for verb in ["pause", "delete"] {
            let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
            if verb == "pause" {
                app.session("shop").await;
            }
            app.hear("shop", "4911", verb).await;
            let gate = receiver.hold();
            let before = receiver.requests().len();
            let driving = async { app.deliveries.drive().await.unwrap() };
            let meanwhile = async {
                receiver.arrived(before + 1).await;
                let path = format!("/api/webhooks/{id}");
                if verb == "pause" {
                    app.post(&format!("{path}/pause"), json!({})).await;
                } else {
                    app.delete(&path).await;
                }
                gate.notify_one();
            };
            tokio::join!(driving, meanwhile);
            app.delete(&format!("/api/webhooks/{id}")).await;
        }
        let done = "SELECT COUNT(*) FROM webhook_delivery WHERE state = 'succeeded'";
        assert_eq!(database.count(done).await, 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_in_flight_to_one_that_is_disabled_arrives_and_nothing_more() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 2 })).await;
        app.session("shop").await;
        for text in ["refused", "taken", "waits"] {
            app.hear("shop", "4911", text).await;
        }
        receiver.next([Behaviour::status(410)]);
        let gate = receiver.hold();
        let driving = async { app.deliveries.drive().await.unwrap() };
        let meanwhile = async {
            receiver.arrived(2).await;
            gate.notify_one();
            let state = async || {
                let shown = app.get(&format!("/api/webhooks/{id}")).await.json();
                shown["data"]["state"].clone()
            };
            while state().await != "disabled" {}
            gate.notify_one();
        };
        tokio::join!(driving, meanwhile);
        assert_eq!(receiver.count(), 2);
        let of = async |state: &str| {
            let count = format!("SELECT COUNT(*) FROM webhook_delivery WHERE state = '{state}'");
            database.count(&count).await
        };
        assert_eq!((of("succeeded").await, of("exhausted").await, of("pending").await), (1, 1, 1));
        // That something still got through does not say that it is back.
        let shown = app.get(&format!("/api/webhooks/{id}")).await.json()["data"].clone();
        assert_eq!(shown["state"], "disabled");
        assert_eq!(shown["gaps"].as_array().unwrap().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_written_under_a_wrong_clock_is_sent_all_the_same() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        receiver.next([Behaviour::status(500)]);
        app.hear("shop", "4911", "x").await;
        app.deliveries.drive().await.unwrap();
        // As if the clock had been a year ahead when the next try and the breaker's end were noted.
        let year = Duration::from_hours(365 * 24);
        let ahead = (app.clock.now() + year).0;
        database
            .execute(&format!(
                "UPDATE webhook_delivery SET next_at = {ahead}, expires_at = {ahead}"
            ))
            .await;
        database.execute(&format!("UPDATE webhook_health SET hold_until = {ahead}")).await;
        app.deliveries.upkeep().await.unwrap();
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 2);

        // And as if a daemon with such a clock had taken one, and would never come back.
        app.hear("shop", "4911", "y").await;
        database
            .execute(&format!(
                "UPDATE webhook_delivery SET state = 'claimed', claim = 7, claimed_by = 'gone', \
                 lease_until = {ahead} WHERE state = 'pending'"
            ))
            .await;
        app.deliveries.upkeep().await.unwrap();
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.requests().len(), 3);
        app.close().await;
    })
    .await;
}
