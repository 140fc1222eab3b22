//! Who hands nothing over: what runs, another account, another organization.

use std::collections::BTreeSet;

use entity::{id::OrganizationId, session};
use reqwest::Method;
use serde_json::json;
use wagate::{
    event::{Change, Event},
    store::{Store, nodes::NewNode},
};

use crate::{
    database::{on_each, second_organization},
    handover::{NUMBER, SESSION, account, audited, logged_out, migrate, old, ready, status},
    http_app::{Answer, App},
};

#[tokio::test]
async fn another_organization_with_the_same_number_is_not_touched() {
    on_each(async |database| {
        let app = App::start(database).await;
        let other = second_organization(database).await;
        let theirs = app.token_of(&other, entity::state::Role::Admin).await;
        let make = json!({ "sessionId": "theirs", "phoneNumber": NUMBER, "start": false });
        let request = app.anonymous(Method::POST, SESSION).bearer_auth(&theirs);
        Answer::to(crate::http_app::json(request, &make)).await;
        let key = find(&app.store, &other, "theirs").await;
        old(&app, "ours").await;
        app.session("new").await;
        ready(&app, "new").await;
        assert_eq!(status(&app, "ours").await["migratedTo"], "new");
        assert_eq!(find(&app.store, &other, "theirs").await, key);

        // Nor can it be named.
        let refused = migrate(&app, "new", json!({ "from": ["ours", "theirs"] })).await;
        refused.invalid(&["/from/1"]);
        let path = format!("{SESSION}/new/migrate");
        let request = app.anonymous(Method::POST, &path).bearer_auth(&theirs);
        Answer::to(crate::http_app::json(request, &json!({})))
            .await
            .problem(404, "SESSION_NOT_FOUND");
        assert_eq!(find(&app.store, &other, "theirs").await, key);
        app.close().await;
    })
    .await;
}

/// All of them run elsewhere, and were connected.
#[tokio::test]
async fn an_external_session_of_another_organization_with_the_same_number_is_not_touched() {
    on_each(async |database| {
        let app = App::start(database).await;
        let other = second_organization(database).await;
        let theirs = app.token_of(&other, entity::state::Role::Admin).await;
        let by = async |token: &str, path: &str, body: serde_json::Value| {
            let request = app.anonymous(Method::POST, path).bearer_auth(token);
            let answer = Answer::to(crate::http_app::json(request, &body)).await;
            assert!(answer.status.is_success(), "{}", answer.text());
        };
        let ready = json!({ "event": "ready", "data": { "phoneNumber": NUMBER } });
        for token in [&app.token, &theirs] {
            by(token, SESSION, json!({ "sessionId": "old", "origin": "external" })).await;
            let webhook = "/api/whatsapp/webhook/old";
            by(token, webhook, ready.clone()).await;
            by(token, webhook, json!({ "event": "disconnected", "data": {} })).await;
        }
        let before = find(&app.store, &other, "old").await;
        assert!(before.connected_at.is_some() && before.account_jid.is_some());
        app.external("new", json!({})).await;
        by(&app.token, "/api/whatsapp/webhook/new", ready).await;
        assert_eq!(status(&app, "old").await["migratedTo"], "new");
        assert_eq!(find(&app.store, &other, "old").await, before);
        app.close().await;
    })
    .await;
}

async fn find(store: &Store, organization: &OrganizationId, id: &str) -> session::Model {
    store.sessions().find(organization, &id.parse().unwrap()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_runs_or_is_another_account_s_is_left_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let reconnecting = Event::ChangeState(Change::Connecting);
        for id in ["connecting", "scanned", "connected", "owned", "recycled"] {
            app.session(id).await;
        }
        // So that none takes over from the others.
        app.happen("recycled", Event::Ready(account(NUMBER, Some("1@lid")))).await;
        for id in ["connecting", "scanned", "owned"] {
            app.happen(id, Event::Ready(account(NUMBER, Some("2@lid")))).await;
        }
        app.happen("connected", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        app.happen("connecting", reconnecting).await;
        app.show_qr("scanned", "2@code").await;
        logged_out(&app, "recycled").await;
        logged_out(&app, "owned").await;
        let node = NewNode { home: "there".to_owned(), name: "there".to_owned(), lease: None };
        let node = app.store.nodes().join(node).await.unwrap();
        let key = app.row("owned").await.id;
        let lease = app.store.leases().claim(&node, vec![key]).await.unwrap().remove(0);

        app.session("new").await;
        app.happen("new", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        for id in ["connecting", "scanned", "connected", "owned", "recycled"] {
            assert_eq!(app.row(id).await.migrated_to, None, "{id}");
        }
        assert!(audited(&app).await.is_empty());

        let skipped = migrate(&app, "new", json!({})).await.json()["data"]["skipped"].clone();
        let skipped: BTreeSet<_> = skipped
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["sessionId"].as_str().unwrap(), it["reason"].as_str().unwrap()))
            .collect();
        let running = ["connecting", "scanned", "connected", "owned"].map(|id| (id, "running"));
        let mut expected = BTreeSet::from(running);
        expected.insert(("recycled", "other_account"));
        assert_eq!(skipped, expected);

        // Nobody runs it any more.
        app.store.leases().release(&lease).await.unwrap();
        app.happen("new", Event::Ready(account(NUMBER, Some("2@lid")))).await;
        assert_eq!(audited(&app).await, [("owned".to_owned(), "new".to_owned())]);
        app.close().await;
    })
    .await;
}
