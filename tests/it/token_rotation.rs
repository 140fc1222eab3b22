//! One token in the place of another, and what ends a token.

use std::time::Duration;

use entity::state::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
};

async fn make(app: &App, body: Value) -> Value {
    let made = app.post("/api/tokens", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    made.json()["data"].clone()
}

fn path(token: &Value) -> String {
    format!("/api/tokens/{}", token["id"].as_str().unwrap())
}

async fn rotate(app: &App, token: &Value, body: Value) -> Value {
    let rotated = app.post(&format!("{}/rotate", path(token)), body).await;
    assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.text());
    assert_eq!(rotated.header("cache-control"), "no-store");
    let new = rotated.json()["data"].clone();
    assert_eq!(rotated.header("location"), path(&new));
    new
}

async fn opens(app: &App, token: &Value) -> bool {
    let secret = token["secret"].as_str().unwrap();
    let status = Answer::to(app.anonymous(Method::GET, "/").bearer_auth(secret)).await.status;
    assert!(matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED), "{status}");
    status == StatusCode::OK
}

async fn audited(app: &App, action: &str) -> Vec<Value> {
    let log = app.get(&format!("/api/audit?action={action}")).await.json();
    log["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_old_one_is_good_for_the_overlap_and_the_new_one_is_like_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body =
            json!({ "role": "manager", "label": "crm", "expiresAt": "2027-02-15T08:00:00.000Z" });
        let old = make(&app, body).await;
        let new = rotate(&app, &old, json!({ "overlapSeconds": 60 })).await;
        for member in ["role", "label", "expiresAt"] {
            assert_eq!(new[member], old[member], "{member}");
        }
        assert_ne!(new["id"], old["id"]);
        assert!(opens(&app, &old).await && opens(&app, &new).await);
        let seen = app.get(&path(&old)).await.json();
        assert_eq!(seen["data"]["expiresAt"], "2027-01-15T08:01:00.000Z");

        // Whoever has lost the answer asks again, and gets one that is as good.
        app.clock.advance(Duration::from_secs(30));
        let another = rotate(&app, &old, json!({ "overlapSeconds": 3600 })).await;
        assert_eq!(another["expiresAt"], old["expiresAt"]);
        let seen = app.get(&path(&old)).await.json();
        assert_eq!(seen["data"]["expiresAt"], "2027-01-15T08:01:00.000Z", "no later than before");
        app.clock.advance(Duration::from_secs(30));
        assert!(!opens(&app, &old).await && opens(&app, &new).await && opens(&app, &another).await);
        let ended = app.post(&format!("{}/rotate", path(&old)), json!({})).await;
        ended.problem(409, "TOKEN_ENDED");

        // Of what never ends the next one never does, and the overlap is a day unless it is said.
        let endless = make(&app, json!({ "role": "viewer" })).await;
        let next = rotate(&app, &endless, json!({})).await;
        assert_eq!(next["expiresAt"], Value::Null);
        let again = rotate(&app, &endless, json!({ "overlapSeconds": 0 })).await;
        assert_eq!(again["expiresAt"], Value::Null);
        assert!(!opens(&app, &endless).await && opens(&app, &next).await);
        let rotated = audited(&app, "token_rotated").await;
        assert_eq!(rotated.len(), 3);
        assert_eq!(rotated[0]["target"], endless["id"]);
        assert_eq!(rotated[0]["detail"]["replacedBy"], next["id"]);
        assert_eq!(rotated[0]["detail"]["expiresAt"], "2027-01-16T08:01:00.000Z");
        let revoked = audited(&app, "token_revoked").await;
        assert_eq!(revoked[0]["detail"]["replacedBy"], again["id"]);
        assert_eq!(audited(&app, "token_created").await[0]["detail"]["replaces"], endless["id"]);
        app.close().await;
    })
    .await;
}

/// The log may be kept for an hour, and an overlap may be a week.
#[tokio::test]
async fn the_next_one_ends_when_the_first_did_whatever_the_audit_log_still_says() {
    on_each(async |database| {
        let app = App::start(database).await;
        let end = json!("2027-02-15T08:00:00.000Z");
        for end in [end, Value::Null] {
            let old = make(&app, json!({ "role": "viewer", "expiresAt": end })).await;
            for _ in 0..3 {
                let next = rotate(&app, &old, json!({ "overlapSeconds": 3600 })).await;
                assert_eq!(next["expiresAt"], end);
                database.execute("DELETE FROM audit").await;
                app.clock.advance(Duration::from_mins(10));
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_is_rotated_once_for_a_key_and_by_nobody_who_may_not() {
    on_each(async |database| {
        let app = App::start(database).await;
        let old = make(&app, json!({ "role": "admin" })).await;
        let ask = |key: &str, body: Value| {
            let request = app.request(Method::POST, &format!("{}/rotate", path(&old)));
            Answer::to(with_json(request, &body).header("idempotency-key", key))
        };
        let first = ask("key", json!({ "overlapSeconds": 0 })).await;
        assert_eq!(first.status, StatusCode::CREATED);
        let again = ask("key", json!({ "overlapSeconds": 0 })).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (StatusCode::OK, "true"));
        let (first, again) = (first.json()["data"].clone(), again.json()["data"].clone());
        assert_eq!((&first["id"], &again["secret"]), (&again["id"], &Value::Null));
        ask("key", json!({})).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        // What came to nothing uses no key up.
        for _ in 0..2 {
            ask("other", json!({})).await.problem(409, "TOKEN_ENDED");
        }
        assert_eq!(audited(&app, "token_revoked").await.len(), 1);

        // Two at once: one of them finds it ended.
        let url = format!("{}/rotate", path(&first));
        let at_once = || app.post(&url, json!({ "overlapSeconds": 0 }));
        let (one, two) = tokio::join!(at_once(), at_once());
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);

        let admin = app.token_of(&app.organization, Role::Admin).await;
        let operator = make(&app, json!({ "role": "operator" })).await;
        let above = app.anonymous(Method::POST, &format!("{}/rotate", path(&operator)));
        let above = with_json(above.bearer_auth(admin), &json!({}));
        Answer::to(above).await.problem(404, "TOKEN_NOT_FOUND");
        assert!(opens(&app, &operator).await);
        app.close().await;
    })
    .await;
}

/// The clock of whoever looks may be behind that of whoever has revoked: revoked is revoked.
#[tokio::test]
async fn a_token_is_revoked_at_once_whatever_time_it_is() {
    on_each(async |database| {
        let app = App::start(database).await;
        let token = make(&app, json!({ "role": "viewer" })).await;
        assert!(opens(&app, &token).await);
        let id = token["id"].as_str().unwrap();
        let mint = with_json(
            app.anonymous(Method::POST, "/api/whatsapp/session/shop/qr/url")
                .bearer_auth(token["secret"].as_str().unwrap()),
            &json!({}),
        );
        app.session("shop").await;
        app.show_qr("shop", "2@code").await;
        let signed = Answer::to(mint).await.json()["data"]["url"].as_str().unwrap().to_owned();
        // A stream that is open is looked at again every few seconds.
        let caller = wagate::service::Tokens::new(app.store.clone());
        let holder = caller.authenticate(token["secret"].as_str().unwrap()).await.unwrap();

        assert_eq!(app.delete(&path(&token)).await.status, StatusCode::OK);
        let later = app.clock.now().0 + 3_600_000;
        database.execute(&format!("UPDATE token SET revoked_at = {later} WHERE id = '{id}'")).await;
        assert!(!opens(&app, &token).await);
        let refused = caller.recheck(&holder).await.unwrap_err();
        assert!(matches!(refused, wagate::service::Error::Unauthenticated), "{refused:?}");
        let looked = Answer::to(app.anonymous(Method::GET, &signed)).await;
        looked.problem(403, "SIGNED_URL_INVALID");
        for (state, is_there) in [("revoked", true), ("active", false), ("expired", false)] {
            let list = app.get(&format!("/api/tokens?state={state}")).await;
            assert_eq!(list.text().contains(id), is_there, "{state}");
        }
        app.post(&format!("{}/rotate", path(&token)), json!({})).await.problem(409, "TOKEN_ENDED");
        app.close().await;
    })
    .await;
}
