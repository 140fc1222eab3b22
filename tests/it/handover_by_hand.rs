//! A session takes over from others because somebody asks for it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    database::on_each,
    handover::{SESSION, logged_out, migrate, ready, status, told},
    http_app::App,
    webhooks_api::endpoint,
};

#[tokio::test]
async fn by_hand_a_dry_run_says_what_comes_of_it_and_changes_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "url": "https://receiver.test/", "session_ids": ["old"] });
        let (chooses, _) = endpoint(&app, body).await;
        app.session("new").await;
        ready(&app, "new").await;
        // It is no longer connected when `new` is not told of it any more.
        app.session("old").await;
        ready(&app, "old").await;
        app.hear("old", "15550002222", "one").await;
        app.hear("old", "15550002222", "two").await;
        app.patch(&format!("{SESSION}/old"), json!({ "isNotification": false })).await;
        app.post("/api/campaigns", json!({ "name": "Sale", "sessionId": "old" })).await;
        logged_out(&app, "old").await;

        let look = async || {
            let tables =
                ["session", "webhook_endpoint", "campaign", "audit", "webhook_event", "event"];
            let mut counts = Vec::new();
            for table in tables {
                counts.push(database.count(&format!("SELECT count(*) FROM {table}")).await);
            }
            let webhook = app.get(&format!("/api/webhooks/{chooses}")).await.json();
            (counts, app.row("old").await, app.row("new").await, webhook)
        };
        let before = look().await;
        let would = migrate(&app, "new", json!({ "dryRun": true })).await.json()["data"].clone();
        assert_eq!(
            would,
            json!({
                "sessionId": "new", "dryRun": true, "skipped": [],
                "migrated": [{
                    "sessionId": "old", "messages": 2, "settings": ["isNotification"],
                    "webhooks": [chooses], "campaigns": 1,
                }],
            })
        );
        assert_eq!(look().await, before);

        let did = migrate(&app, "new", json!({ "from": ["old"] })).await.json()["data"].clone();
        assert_eq!(did["migrated"], would["migrated"]);
        assert_eq!(status(&app, "old").await["migratedTo"], "new");
        assert_eq!(status(&app, "new").await["isNotification"], false);
        assert_eq!(app.row("new").await.is_notification, Some(false));
        assert_eq!(told(&app).await.len(), 1);
        let entry = app.get("/api/audit?action=session_migrated").await.json()["data"][0].clone();
        assert!(entry["tokenId"].is_string(), "somebody did it: {entry}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn by_hand_what_cannot_be_is_refused_as_a_whole() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("new").await;
        migrate(&app, "new", json!({})).await.problem(409, "SESSION_NEVER_CONNECTED");
        ready(&app, "new").await;
        app.session("runs").await;
        ready(&app, "runs").await;
        app.session("idle").await;
        ready(&app, "idle").await;
        logged_out(&app, "idle").await;
        let other = json!({ "sessionId": "other", "phoneNumber": "15550009999", "start": false });
        app.post(SESSION, other).await;
        app.session("none").await;

        let from = json!({ "from": ["idle", "runs", "other", "none", "new"] });
        for dry_run in [true, false] {
            let mut body = from.clone();
            body["dryRun"] = dry_run.into();
            let problem = migrate(&app, "new", body).await.problem(409, "MIGRATION_REFUSED");
            let why: BTreeSet<_> = problem["sessions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| (it["sessionId"].as_str().unwrap(), it["reason"].as_str().unwrap()))
                .collect();
            let expected = BTreeSet::from([
                ("runs", "running"),
                ("other", "other_number"),
                ("none", "other_number"),
                ("new", "itself"),
            ]);
            assert_eq!(why, expected);
            assert_eq!(app.row("idle").await.migrated_to, None);
        }
        migrate(&app, "new", json!({ "from": [] })).await.invalid(&["/from"]);
        migrate(&app, "new", json!({ "from": ["idle", "no-such"] })).await.invalid(&["/from/1"]);
        migrate(&app, "new", json!({ "from": ["a b"] })).await.invalid(&["/from/0"]);
        migrate(&app, "new", json!({ "from": "idle" })).await.invalid(&["/from"]);
        migrate(&app, "new", json!({ "dryRun": "yes" })).await.invalid(&["/dryRun"]);
        migrate(&app, "nobody", json!({})).await.problem(404, "SESSION_NOT_FOUND");

        // To another one than where it has gone.
        migrate(&app, "new", json!({ "from": ["idle"] })).await;
        let elsewhere = migrate(&app, "runs", json!({ "from": ["idle"] })).await;
        let problem = elsewhere.problem(409, "MIGRATION_REFUSED");
        assert_eq!(problem["sessions"][0]["reason"], "migrated_elsewhere");
        app.close().await;
    })
    .await;
}
