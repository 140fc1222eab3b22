//! A session takes over from another one that the same phone was linked with: on the real wire, and when the
//! daemon is killed over it.

use reqwest::Method;
use serde_json::{Value, json};
use wagate_simulator::{Options, ReceiptKind, Simulator};

use crate::{
    database::{Database, Kind},
    process::{Installation, KILL_AT, Process, aborted},
    world::{self, ALICE, BOB, DEADLINE},
};

const SESSION: &str = "/api/whatsapp/session";

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_is_linked_anew_brings_its_history_and_what_waited_to_be_sent() {
    world::on_each(async |world| {
        let bob = world.whatsapp.contact(BOB).unwrap();
        let phone = world.connect("old", ALICE).await;
        bob.send_text(ALICE, "to the old one").await.unwrap();
        world.until_messages("old", 1).await;
        let sent = world.send("old", BOB, "from the old one").await;
        world.until_messages("old", 2).await;
        phone.unlink_all();
        world.until_status("old", "session_not_connected").await;
        let path = format!("{SESSION}/old/messages");
        let body = json!({ "to": BOB, "text": "waits", "queue": true });
        let waits = world.post(&path, body).await;
        assert_eq!(waits.status, 202, "{}", waits.body);
        let waits = waits.body["data"]["id"].as_str().unwrap().to_owned();

        world.create("new").await;
        let qr = world.until_qr("new").await;
        phone.scan(&qr).await.unwrap();
        world.until_status("new", "session_connected").await;
        let old = world.status("old").await;
        assert_eq!(old["migratedTo"], "new", "{old:#}");
        assert_eq!(world.status("new").await["migratedFrom"], json!(["old"]));
        let refused = world.post(&format!("{SESSION}/old/start"), json!({})).await;
        assert_eq!((refused.status.as_u16(), &refused.body["migratedTo"]), (409, &json!("new")));

        // What waited goes out through the new one, under its own id.
        world.until_ack("new", &waits, 2).await;
        assert_eq!(
            bob.received().iter().filter(|it| it.text.as_deref() == Some("waits")).count(),
            1
        );
        bob.send_text(ALICE, "to the new one").await.unwrap();
        let messages = world.until_messages("new", 4).await;
        let texts: Vec<_> = messages.iter().map(|it| it["body"].as_str().unwrap()).collect();
        assert_eq!(texts, ["to the old one", "from the old one", "waits", "to the new one"]);
        let seen = world.get(&format!("{SESSION}/new/messages/{sent}")).await;
        assert_eq!(seen.body["data"]["body"], "from the old one");

        // It stays so over a restart: the old one is not dialled.
        world.stop_daemon().await;
        world.start_daemon().await;
        world.until_status("new", "session_connected").await;
        let old = world.status("old").await;
        assert_eq!(
            (&old["status"], &old["migratedTo"]),
            (&json!("session_not_connected"), &json!("new"))
        );
        assert_eq!(phone.online_devices().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_of_one_phone_that_are_both_connected_keep_what_they_have() {
    world::on_each(async |world| {
        let phone = world.connect("one", ALICE).await;
        world.create("two").await;
        let qr = world.until_qr("two").await;
        phone.scan(&qr).await.unwrap();
        world.until_status("two", "session_connected").await;
        for id in ["one", "two"] {
            let seen = world.status(id).await;
            assert_eq!((&seen["isConnected"], &seen["migratedTo"]), (&json!(true), &Value::Null));
        }
        let path = format!("{SESSION}/two/migrate");
        let all = world.post(&path, json!({})).await;
        assert_eq!(
            all.body["data"]["skipped"],
            json!([{ "sessionId": "one", "reason": "running" }])
        );

        // Stopped, it is left where it is, until somebody says so.
        world.post(&format!("{SESSION}/one/stop"), json!({})).await;
        let device = "SELECT count(*) FROM device";
        let devices = world.count(device).await;
        let did = world.post(&path, json!({ "from": ["one"] })).await;
        assert_eq!(did.body["data"]["migrated"][0]["sessionId"], "one", "{}", did.body);
        assert_eq!(world.status("one").await["migratedTo"], "two");
        // Its device stays linked, and its keys stay here.
        assert_eq!(world.count(device).await, devices);
        assert_eq!(phone.devices().len(), 2);
    })
    .await;
}

/// Kills a daemon at this moment of a handover; the next one finds all of it done, once.
async fn killed_at(kind: Kind, moment: &str) {
    let Some(database) = Database::new(kind).await else { return };
    let directory = tempfile::tempdir().unwrap();
    let whatsapp =
        Simulator::start(Options { deadline: DEADLINE, ..Options::default() }).await.unwrap();
    let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
    let (phone, bob) = (whatsapp.phone(ALICE).unwrap(), whatsapp.contact(BOB).unwrap());

    let daemon = installation.start();
    let code = daemon.code("old").await.unwrap();
    phone.scan(&code).await.unwrap();
    daemon.paired("old").await.unwrap();
    let id = bob.send_text(ALICE, "to the old one").await.unwrap();
    bob.wait_for_receipt(&id, ReceiptKind::Delivered).await.unwrap();
    phone.unlink_all();
    daemon
        .watch("old", "logged out", |seen| {
            (seen["status"] == "session_not_connected").then_some(())
        })
        .await
        .unwrap();
    let body = json!({ "to": BOB, "text": "waits", "queue": true });
    assert_eq!(daemon.post(&format!("{SESSION}/old/messages"), body).await.0, 202);
    let body = json!({ "name": "Sale", "sessionId": "old" });
    let campaign = daemon.post("/api/campaigns", body).await.1["data"]["id"].clone();
    daemon.terminate().await;

    let at = format!("{moment}:1");
    let dying = installation.try_start(&[(KILL_AT, &at)]).unwrap();
    let code = dying.code("new").await.unwrap();
    phone.scan(&code).await.ok();
    assert!(aborted(dying.end_within(DEADLINE).await), "{moment} was not come to");

    let daemon = installation.start();
    daemon.connected("new").await.unwrap();
    let campaign = format!("/api/campaigns/{}", campaign.as_str().unwrap());
    let daemon = handed_over(daemon, &campaign).await;
    let is_it = |text: &Option<String>| text.as_deref() == Some("waits");
    let first = bob.wait_for_received(|it| is_it(&it.text)).await.unwrap();
    let received = bob.received();
    let ids = received.iter().filter(|it| is_it(&it.text)).map(|it| &it.id);
    assert!(ids.into_iter().all(|id| *id == first.id), "one message, however often it came");
    daemon.terminate().await;
    let violations = whatsapp.violations();
    assert!(violations.is_empty(), "protocol errors: {violations:#?}");
    whatsapp.stop().await;
    database.drop().await;
}

async fn handed_over(daemon: Process, campaign: &str) -> Process {
    let old = daemon.get(&format!("{SESSION}/status/old")).await["data"].clone();
    assert_eq!(old["migratedTo"], "new", "{old:#}");
    assert_eq!(daemon.get(campaign).await["data"]["sessionId"], "new");
    let audit = daemon.get("/api/audit?action=session_migrated").await;
    assert_eq!(audit["data"].as_array().unwrap().len(), 1);
    let page = daemon.get("/api/whatsapp/events/page?after=0&limit=1000").await;
    let told = page["data"].as_array().unwrap().iter();
    assert_eq!(told.filter(|it| it["event"] == "session.migrated").count(), 1);
    let history = daemon.messages("new").await;
    assert!(history.iter().any(|it| it["body"] == "to the old one"), "{history:#?}");
    let start = daemon.ask(Method::POST, &format!("{SESSION}/old/start"), Some(json!({}))).await;
    assert_eq!(start.unwrap().0, 409);
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_handover_all_of_it_is_done_by_the_next_daemon_and_once() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        for moment in ["handover.written", "outbound.adopted"] {
            Box::pin(killed_at(kind, moment)).await;
        }
    }
}
