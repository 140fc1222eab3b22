//! Every type of event that the catalogue lists happens: on the real wire, between real daemons, or over real
//! HTTP, and what arrives is as the catalogue's schema says.
//!
//! [`scene`] names for each type where it happens. A type without one does not compile, and one that does not
//! arrive fails its scene.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use wagate::{config::OnOtherAccount, webhook::EventType};
use wagate_simulator::{Fault, Lasting, Options, ReceiptPolicy, Scope};

use crate::{
    contract::close,
    database::{self, Kind, on_each},
    graph,
    http_app::App,
    meta, meta_silence,
    node::Cluster,
    receiver::{Behaviour, Receiver, Request},
    schema,
    webhooks_api::endpoint,
    webhooks_described,
    world::{ALICE, BOB, World, calls_this_machine},
};

/// Where a type of event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// A session from its making to its deletion, with a contact who writes and calls.
    Life,
    /// Pairing by code that is refused, given, and taken by another account's phone; a passkey.
    Pairing,
    /// Credentials that WhatsApp refuses.
    Refused,
    /// Two daemons on one PostgreSQL, of which one goes.
    Daemons,
    /// A session that runs elsewhere, and whose client tells of groups.
    Elsewhere,
    /// A number at Meta's that falls silent, and is heard of again.
    Meta,
    /// An endpoint that fails, recovers, gives up and is gone.
    Endpoint,
}

const fn scene(kind: EventType) -> Scene {
    match kind {
        EventType::MessageReceived
        | EventType::MessageCreated
        | EventType::MessageSent
        | EventType::MessageAck
        | EventType::Call
        | EventType::SessionQr
        | EventType::SessionAuthenticated
        | EventType::SessionLoadingScreen
        | EventType::SessionReady
        | EventType::SessionChangeState
        | EventType::SessionDisconnected
        | EventType::SessionCreated
        | EventType::SessionDeleted => Scene::Life,
        EventType::SessionPairingCode
        | EventType::SessionPairingFailed
        | EventType::SessionPasskeyRequested
        | EventType::SessionAccountChanged => Scene::Pairing,
        EventType::SessionAuthFailure => Scene::Refused,
        EventType::SessionMigrated => Scene::Daemons,
        EventType::GroupJoined
        | EventType::GroupLeft
        | EventType::GroupUpdated
        | EventType::Unknown => Scene::Elsewhere,
        EventType::MetaAccountSilent | EventType::MetaAccountRecovered => Scene::Meta,
        EventType::EndpointFailing
        | EventType::EndpointRecovered
        | EventType::EndpointDisabled
        | EventType::DeliveryExhausted => Scene::Endpoint,
    }
}

fn types(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect()
}

/// Waits until all types of a scene have come, and holds everything that came against the catalogue.
async fn all_of(scene_of: Scene, receiver: &Receiver, secret: &str, catalogue: &Value) {
    let wanted: Vec<_> = EventType::ALL
        .iter()
        .filter(|kind| scene(**kind) == scene_of)
        .map(|kind| kind.name())
        .collect();
    assert!(!wanted.is_empty());
    let requests = receiver
        .until(|requests| {
            let seen = types(requests);
            wanted.iter().all(|kind| seen.contains(*kind))
        })
        .await;
    for request in requests {
        assert!(request.is_signed_with(secret));
        webhooks_described::check("event", &request);
        let body = request.json();
        let entries = catalogue["data"].as_array().unwrap();
        let entry = entries.iter().find(|it| it["type"] == body["type"]).expect("it is listed");
        let mut schema = entry["schema"].clone();
        assert!(schema.as_object_mut().unwrap().remove("$schema").is_some());
        // Members may be added; those that are there are in the catalogue.
        close(&mut schema);
        let faults = schema::faults(&schema, "", &body["data"]);
        assert!(faults.is_empty(), "{}: {}\n{body:#}", body["type"], faults.join("; "));
        let faults = schema::faults(&schema, "", &entry["example"]);
        assert!(faults.is_empty(), "the example of {}: {}", body["type"], faults.join("; "));
    }
}

/// A daemon beside a simulated WhatsApp, with an endpoint that is told of everything, in a scene.
async fn played(scene: Scene, kind: Kind, play: impl AsyncFn(&mut World)) {
    database::on(kind, async |database| {
        let mut world = World::start_with(database, Options::default(), |config| {
            calls_this_machine(config);
            config.whatsapp.on_other_account = OnOtherAccount::Flag;
        })
        .await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "event_types": ["*"] });
        let made = world.post("/api/webhooks", body).await;
        let secret = made.body["data"]["secret"].as_str().unwrap().to_owned();
        play(&mut world).await;
        let catalogue = world.get("/api/webhooks/event-types").await.body;
        all_of(scene, &receiver, &secret, &catalogue).await;
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_can_see_in_its_life_arrives() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        played(Scene::Life, kind, async |world| {
            let bob = world.whatsapp.contact(BOB).unwrap();
            bob.set_receipts(ReceiptPolicy::None);
            let phone = world.connect("sales", ALICE).await;
            bob.send_text(ALICE, "hello").await.unwrap();
            let message = world.send("sales", BOB, "hello?").await;
            world.until_ack("sales", &message, 1).await;
            bob.set_receipts(ReceiptPolicy::Read);
            let message = world.send("sales", BOB, "hello yourself").await;
            world.until_ack("sales", &message, 3).await;
            bob.call(ALICE).unwrap();
            world
                .until("the call", async || {
                    let events = world.events("sales").await;
                    let rang = events.iter().any(|(name, _)| name == "call");
                    if rang { Ok(()) } else { Err(json!(events)) }
                })
                .await;
            phone.unlink_all();
            world.until_status("sales", "session_not_connected").await;
            let gone = world.delete("/api/whatsapp/session/sales").await;
            assert!(gone.status.is_success(), "{}", gone.body);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_come_of_pairing_arrives() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        played(Scene::Pairing, kind, async |world| {
            world.connect("sales", ALICE).await.unlink_all();
            world.until_status("sales", "session_not_connected").await;
            world.post("/api/whatsapp/session/sales/start", json!({})).await;
            let qr = world.until_qr("sales").await;
            let everyone = |fault| world.whatsapp.fault(Scope::Everyone, fault, Lasting::Once);

            everyone(Fault::AskPasskey { fetched: false }).await;
            let bob = world.whatsapp.phone(BOB).unwrap();
            bob.scan(&qr).await.unwrap_err();
            everyone(Fault::RefusePairingCode { code: 429 }).await;
            let pair = json!({ "phoneNumber": BOB });
            let refused = world.post("/api/whatsapp/session/sales/pair", pair.clone()).await;
            assert_eq!(refused.body["code"], "PAIRING_RATE_LIMITED", "{}", refused.body);
            let given = world.post("/api/whatsapp/session/sales/pair", pair).await;
            let code = given.body["data"]["code"].as_str().expect("a code").to_owned();
            bob.enter_code(&code).await.unwrap();
            let changed = world.until_status("sales", "session_connected").await;
            assert_eq!(changed["accountChanged"]["previousPhoneNumber"], ALICE, "{changed}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_credentials_are_refused_arrives() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        played(Scene::Refused, kind, async |world| {
            let phone = world.connect("sales", ALICE).await;
            world.stop_daemon().await;
            phone.wait_offline().await.unwrap();
            phone.fault(Fault::Failure { reason: 401 }, Lasting::UntilCleared).await;
            world.start_daemon().await;
            world.until_status("sales", "auth_failure").await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_another_daemon_runs_a_session_arrives() {
    database::on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, "4s").await;
        let a = cluster.start("a");
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "event_types": ["*"] });
        let (_, made) = a.post("/api/webhooks", body).await;
        let secret = made["data"]["secret"].as_str().unwrap().to_owned();
        a.create("s0").await;
        let names = ["s0".to_owned()];
        cluster.pair(&a, &names).await;
        // It goes in good order, and the other one takes over.
        let b = cluster.start("b");
        a.terminate().await;
        b.until("s0", "connected", |seen| seen["isConnected"] == true).await;
        let (_, catalogue) = b.get("/api/webhooks/event-types").await;
        all_of(Scene::Daemons, &receiver, &secret, &catalogue).await;
        let moved = receiver.requests().into_iter().map(|it| it.json());
        let moved: Vec<_> = moved.filter(|it| it["type"] == "session.migrated").collect();
        assert_eq!(moved.len(), 1, "{moved:?}");
        assert_eq!(moved[0]["data"]["sessionId"], "s0");
        b.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test]
async fn what_becomes_of_an_endpoint_arrives_at_the_others() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
        let body = json!({ "url": receiver.url(), "max_in_flight": 1, "max_retries": 2 });
        endpoint(&app, body).await;
        let body = json!({ "url": watcher.url(), "event_types": ["*"] });
        let (_, secret) = endpoint(&app, body).await;
        app.session("shop").await;
        receiver.usually(Behaviour::status(500));
        for n in 0..10 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        // Until the retries are used up and the breaker is half open.
        for _ in 0..4 {
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_mins(30));
        }
        receiver.usually(Behaviour::status(200));
        app.hear("shop", "4911", "good").await;
        app.deliveries.drive().await.unwrap();
        receiver.usually(Behaviour::status(410));
        app.hear("shop", "4911", "gone").await;
        app.deliveries.drive().await.unwrap();
        let catalogue = app.get("/api/webhooks/event-types").await.json();
        all_of(Scene::Endpoint, &watcher, &secret, &catalogue).await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_client_elsewhere_tells_arrives() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "event_types": ["*"] });
        let (_, secret) = endpoint(&app, body).await;
        app.external("shop", json!({})).await;
        let notice = |kind: &str| {
            json!({ "notification": {
                "id": { "fromMe": false, "remote": "1203@g.us", "id": "3EB0" },
                "chatId": "1203@g.us", "author": "15550001111@c.us", "type": kind,
                "recipientIds": ["15550002222@c.us"], "timestamp": app.clock.now().as_secs(),
            } })
        };
        app.tell("shop", "group_join", notice("add")).await;
        app.tell("shop", "group_leave", notice("remove")).await;
        // A notice of which its client knows next to nothing.
        app.tell("shop", "group_update", json!({ "chatId": "1203@g.us" })).await;
        app.tell("shop", "media_uploaded", json!({ "list": [1, null, { "x": "\u{0}" }] })).await;
        app.tell("shop", "battery_changed", Value::Null).await;
        app.tell("shop", "change_state", json!({ "state": "TOS_BLOCK" })).await;
        app.tell("shop", "disconnected", json!({ "reason": "NAVIGATION" })).await;
        app.tell("shop", "auth_failure", json!({ "msg": "no" })).await;
        app.deliveries.drive().await.unwrap();
        let catalogue = app.get("/api/webhooks/event-types").await.json();
        all_of(Scene::Elsewhere, &receiver, &secret, &catalogue).await;
        assert_eq!(receiver.count(), 9, "all of them, and that the session was made");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn that_a_number_at_meta_s_falls_silent_and_is_heard_of_again_arrives() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = graph::app(database, &graph).await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "event_types": ["meta.*"] });
        let (_, secret) = endpoint(&app, body).await;
        meta::set_up(&app, &app.token, meta::complete(meta::NUMBER, meta::WABA, meta::SECRET))
            .await;
        for _ in 0..8 {
            meta_silence::write(&app, meta::NUMBER, meta::SECRET).await;
            app.clock.advance(Duration::from_hours(23));
        }
        app.clock.advance(Duration::from_hours(1));
        app.watch.look().await.unwrap();
        meta_silence::write(&app, meta::NUMBER, meta::SECRET).await;
        app.watch.look().await.unwrap();
        app.deliveries.drive().await.unwrap();
        let catalogue = app.get("/api/webhooks/event-types").await.json();
        all_of(Scene::Meta, &receiver, &secret, &catalogue).await;
        assert_eq!(receiver.count(), 2);
        app.close().await;
    })
    .await;
}

#[test]
fn the_catalogue_is_the_list_of_types() {
    let names: BTreeSet<_> = EventType::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), EventType::ALL.len());
    let scenes = [
        Scene::Life,
        Scene::Pairing,
        Scene::Refused,
        Scene::Daemons,
        Scene::Elsewhere,
        Scene::Meta,
        Scene::Endpoint,
    ];
    for scene_of in scenes {
        assert!(EventType::ALL.iter().any(|kind| scene(*kind) == scene_of), "{scene_of:?}");
    }
}
