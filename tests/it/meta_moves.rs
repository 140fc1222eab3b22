//! Accounts come, go and are pointed at other numbers while what was told of them waits: it is where its number's is.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_app::{Answer, App},
    meta::{
        NUMBER, SECRET, SHARED, WABA, ask, changes, complete, deliver, each, log, message, set_up,
        tenant, text,
    },
};

fn path(account: &Value) -> String {
    format!("/api/meta/accounts/{}", account["id"].as_str().unwrap())
}

/// Texts to a number, taken and not carried out.
async fn told(app: &App, number: &str, ids: &[&str]) {
    let all: Vec<_> = ids.iter().map(|id| message(number, id, id)).collect();
    let body = changes(WABA, &all).to_string();
    assert_eq!(deliver(app, SHARED, SECRET, body.as_bytes()).await.status, 200);
}

async fn of(app: &App, number: &str) -> Vec<String> {
    let page = app.get(&format!("/api/whatsapp/session/meta_{number}/messages?limit=500")).await;
    if page.status == 404 {
        return Vec::new();
    }
    each(page.json()["data"].as_array().unwrap(), "waId")
}

/// What everybody was told, as event and session.
async fn feed(app: &App) -> Vec<(String, String)> {
    let page = app.get("/api/whatsapp/events/page?limit=500").await.json();
    let word = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let all = page["data"].as_array().unwrap().iter();
    all.map(|it| (word(it, "event"), word(it, "sessionId"))).collect()
}

async fn again(app: &App) {
    let asked = app.post("/api/meta/events/reprocess", json!({})).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    app.meta.drive().await.unwrap();
}

async fn delete(app: &App, account: &Value) {
    let gone = Answer::to(app.request(Method::DELETE, &path(account))).await;
    assert_eq!(gone.status, 204);
}

#[tokio::test]
async fn what_waits_when_its_account_is_deleted_is_not_lost() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        told(&app, NUMBER, &["a", "b", "c"]).await;
        // Made again at once.
        delete(&app, &account).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        app.meta.drive().await.unwrap();
        assert_eq!(of(&app, NUMBER).await, ["a", "b", "c"]);
        let all = log(&app, &app.token).await;
        assert!(all.iter().all(|it| it["accountId"] == account["id"] && it["unrouted"] == false));
        // Not made again: it is with what was told before.
        told(&app, NUMBER, &["d"]).await;
        delete(&app, &account).await;
        app.meta.drive().await.unwrap();
        assert_eq!(of(&app, NUMBER).await, ["a", "b", "c", "d"]);
        // Nothing was told before: it says that it is nobody's, until somebody has the number.
        let mut bare = complete("7", WABA, SECRET);
        bare.as_object_mut().unwrap().remove("accessToken");
        let account = set_up(&app, &app.token, bare.clone()).await;
        assert_eq!(account["sessionId"], Value::Null);
        told(&app, "7", &["e"]).await;
        delete(&app, &account).await;
        app.meta.drive().await.unwrap();
        assert_eq!(of(&app, "7").await, [""; 0]);
        let unrouted = app.get("/api/meta/events?unrouted=true").await.json()["data"].clone();
        assert_eq!(
            (&unrouted[0]["objectId"], &unrouted[0]["accountId"]),
            (&json!("e"), &Value::Null)
        );
        set_up(&app, &app.token, bare).await;
        let asked = app.post("/api/meta/events/reprocess", json!({ "unrouted": true })).await;
        assert_eq!(asked.json()["data"]["events"], 1);
        app.meta.drive().await.unwrap();
        assert_eq!(of(&app, "7").await, ["e"]);
        again(&app).await;
        assert_eq!(database.count("SELECT count(*) FROM message").await, 5);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_told_of_a_number_is_that_number_s_when_its_account_has_another() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        told(&app, "1", &["a", "b"]).await;
        let note = json!({ "field": "account_update", "value": { "event": "X" } });
        let status = json!({ "field": "messages", "value": { "metadata": { "phone_number_id": "1" }, "statuses": [
            { "id": "out", "status": "read", "timestamp": "1799999000", "recipient_id": "16505551234" },
        ] } });
        let body = changes(WABA, &[note, status]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        // Told, and not carried out when it changes.
        told(&app, "1", &["c"]).await;
        let other = json!({ "phoneNumberId": "2", "appSecret": SECRET });
        let changed = app.patch(&path(&account), other).await;
        assert_eq!(changed.json()["data"]["sessionId"], "meta_2", "{}", changed.text());
        told(&app, "2", &["x"]).await;
        app.meta.drive().await.unwrap();
        assert_eq!((of(&app, "1").await, of(&app, "2").await), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], vec!["x".to_owned()]));
        let before = feed(&app).await;
        again(&app).await;
        assert_eq!(feed(&app).await, before);
        assert_eq!(database.count("SELECT count(*) FROM message").await, 4);
        // Another account has the number: what was told of it is there, once.
        let second = set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        assert_eq!(second["sessionId"], "meta_1");
        again(&app).await;
        assert_eq!((feed(&app).await, of(&app, "1").await.len()), (before, 3));
        let all = log(&app, &app.token).await;
        let a = all.iter().find(|it| it["objectId"] == "a").unwrap();
        assert_eq!(a["accountId"], second["id"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_about_a_business_account_of_several_numbers_is_told_once() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let mut accounts = Vec::new();
        for number in ["1", "2", "3"] {
            accounts.push(set_up(&app, &app.token, complete(number, WABA, SECRET)).await);
        }
        let disable = json!({ "status": "disabled" });
        app.post(&format!("{}/status", path(&accounts[0])), disable.clone()).await;
        // The sessions themselves were told of.
        let before = feed(&app).await.len();
        let notes = async || {
            let all = feed(&app).await.into_iter().skip(before);
            all.map(|(_, session)| session).collect::<Vec<_>>()
        };
        let note = json!({ "field": "account_update", "value": { "event": "X" } });
        let body = changes(WABA, &[note]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        assert_eq!(notes().await, ["meta_2"]);
        assert_eq!(log(&app, &app.token).await[0]["accountId"], Value::Null);
        app.post(&format!("{}/status", path(&accounts[1])), disable).await;
        again(&app).await;
        assert_eq!(notes().await, ["meta_2"]);
        for account in &accounts {
            delete(&app, account).await;
        }
        again(&app).await;
        let all = log(&app, &app.token).await;
        assert_eq!((&all[0]["unrouted"], notes().await.len()), (&json!(true), 1));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_told_of_a_disabled_account_with_another_s_is_refused_and_can_be_had_later() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        let second = set_up(&app, &app.token, complete("2", WABA, SECRET)).await;
        let switch = async |word: &str| {
            app.post(&format!("{}/status", path(&second)), json!({ "status": word })).await
        };
        switch("disabled").await;
        let body = changes(
            WABA,
            &[message("1", "a", "x"), message("2", "b", "y"), message("2", "c", "z")],
        );
        let body = body.to_string();
        for _ in 0..2 {
            assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        }
        app.meta.drive().await.unwrap();
        assert_eq!((of(&app, "1").await.len(), of(&app, "2").await.len()), (1, 0));
        let refused = async || {
            let page = app.get("/api/meta/events?state=failed").await.json();
            let page = page["data"].as_array().unwrap().clone();
            assert!(
                page.iter()
                    .all(|it| it["error"] == "account_disabled" && it["accountId"] == second["id"])
            );
            each(&page, "objectId")
        };
        assert_eq!(refused().await, ["b", "c"]);
        // As long as it takes nothing, it is refused again.
        app.post("/api/meta/events/reprocess", json!({ "state": "failed" })).await;
        app.meta.drive().await.unwrap();
        assert_eq!((refused().await.len(), of(&app, "2").await.len()), (2, 0));
        switch("unverified").await;
        // Told again, it is taken; and else it is there to be asked for.
        let told_again = text(WABA, "2", "b", "y").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, told_again.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        assert_eq!(
            (refused().await, of(&app, "2").await),
            (vec!["c".to_owned()], vec!["b".to_owned()])
        );
        app.post("/api/meta/events/reprocess", json!({ "state": "failed" })).await;
        app.meta.drive().await.unwrap();
        assert_eq!(of(&app, "2").await, ["b", "c"]);
        // The same body again is taken, too.
        switch("disabled").await;
        let more = changes(WABA, &[message("1", "d", "x"), message("2", "e", "y")]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, more.as_bytes()).await.status, 200);
        switch("unverified").await;
        assert_eq!(deliver(&app, SHARED, SECRET, more.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        assert_eq!(
            (of(&app, "1").await.len(), of(&app, "2").await),
            (2, vec!["b".to_owned(), "c".to_owned(), "e".to_owned()])
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_about_several_that_take_nothing_is_of_none_in_particular_and_whichever_takes_events_has_it()
 {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let mut closed = Vec::new();
        for number in ["1", "2"] {
            let account = set_up(&app, &app.token, complete(number, WABA, SECRET)).await;
            app.post(&format!("{}/status", path(&account)), json!({ "status": "disabled" })).await;
            closed.push(account);
        }
        set_up(&app, &app.token, complete("3", "another", SECRET)).await;
        let before = feed(&app).await.len();
        // With something that is taken, so that all of it is kept.
        let note = json!({ "field": "account_update", "value": { "event": "X" } });
        let body = json!({ "entry": [
            { "id": WABA, "time": 1_799_999_000, "changes": [note] },
            { "id": "another", "changes": [message("3", "a", "x")] },
        ] });
        assert_eq!(deliver(&app, SHARED, SECRET, body.to_string().as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let refused = app.get("/api/meta/events?state=failed").await.json()["data"].clone();
        assert_eq!(each(refused.as_array().unwrap(), "error"), ["account_disabled"]);
        assert_eq!(refused[0]["accountId"], Value::Null, "{refused}");
        // The second takes events now.
        let enable = json!({ "status": "unverified" });
        app.post(&format!("{}/status", path(&closed[1])), enable).await;
        again(&app).await;
        let told = feed(&app).await.split_off(before);
        assert!(told.iter().any(|(_, session)| session == "meta_2"), "{told:?}");
        let failed = app.get("/api/meta/events?state=failed").await.json()["data"].clone();
        assert_eq!(failed, json!([]));
        app.close().await;
    })
    .await;
}

/// Meta tries for a week to tell what it was not answered for.
#[tokio::test]
async fn what_was_told_of_a_number_before_it_was_another_organization_s_is_not_the_other_s() {
    on_each(async |database: &Database| {
        let app = App::start(database).await;
        let (_, one) = tenant(&app, "one").await;
        let (_, two) = tenant(&app, "two").await;
        let account = set_up(&app, &one, complete("1", WABA, SECRET)).await;
        let says = async |id: &str, at: i64| {
            let mut change = message("1", id, id);
            change["value"]["messages"][0]["timestamp"] = json!(at.to_string());
            let body = changes(WABA, &[change]).to_string();
            assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
            app.meta.drive().await.unwrap();
        };
        let has = async |token: &str| each(&log(&app, token).await, "objectId");
        let before = app.clock.now().as_secs();
        says("a", before).await;
        assert_eq!(
            ask(&app, &one, Method::DELETE, &path(&account), &Value::Null).await.status,
            204
        );
        app.clock.advance(Duration::from_hours(1));
        set_up(&app, &two, complete("1", WABA, SECRET)).await;
        // The retry of something that was the other's, and something of its own.
        says("late", before + 1).await;
        says("own", app.clock.now().as_secs()).await;
        assert_eq!(
            (has(&one).await, has(&two).await),
            (vec!["a".to_owned()], vec!["own".to_owned()])
        );
        let home = log(&app, &app.token).await;
        assert_eq!(each(&home, "objectId"), ["late"]);
        assert_eq!((&home[0]["unrouted"], &home[0]["accountId"]), (&json!(true), &Value::Null));
        // Nor does it get it by asking for what was told before.
        let again = "/api/meta/events/reprocess";
        assert_eq!(ask(&app, &two, Method::POST, again, &json!({})).await.status, 202);
        app.meta.drive().await.unwrap();
        assert_eq!(has(&two).await, ["own"]);
        let kept = "SELECT count(*) FROM message WHERE wa_id = 'late'";
        assert_eq!(database.count(kept).await, 0);
        // Its own number of long ago, which nobody else had, is all its own.
        set_up(&app, &two, complete("2", WABA, SECRET)).await;
        told(&app, "2", &["old"]).await;
        assert_eq!(has(&two).await, ["old", "own"]);
        app.close().await;
    })
    .await;
}
