//! An account that was told of something every day, and then of nothing, is told of to its owner: once, and once when it is over.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    database::on_each,
    graph::{TOKEN, answers, app as app_with, refuses},
    http_app::App,
    meta::{NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, set_up},
    receiver::{Behaviour, Receiver},
};

const DAY: Duration = Duration::from_hours(24);

/// Somebody writes to a number, now.
pub(crate) async fn write(app: &App, number: &str, secret: &str) {
    let now = app.clock.now().as_secs();
    let value = json!({
        "metadata": { "phone_number_id": number },
        "messages": [{ "from": "16505551234", "id": format!("wamid.{number}.{now}"), "timestamp": now.to_string(),
                       "type": "text", "text": { "body": "hi" } }],
    });
    let body = changes(WABA, &[json!({ "field": "messages", "value": value })]).to_string();
    assert_eq!(deliver(app, SHARED, secret, body.as_bytes()).await.status, 200);
    app.meta.drive().await.unwrap();
}

async fn alarms(app: &App) -> Vec<Value> {
    let page = app.get("/api/whatsapp/events/page?limit=500").await.json();
    let is_alarm = |it: &&Value| it["event"].as_str().unwrap().starts_with("meta.account.");
    page["data"].as_array().unwrap().iter().filter(is_alarm).cloned().collect()
}

#[tokio::test]
async fn an_account_that_was_busy_every_day_and_falls_silent_is_told_of_once_and_when_it_is_over() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = app_with(database, &graph).await;
        let busy = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        // One with a day off, and one of which nothing was ever told.
        let idle = "206540352242922";
        set_up(&app, &app.token, complete(idle, WABA, "another_secret")).await;
        set_up(&app, &app.token, complete("306540352242922", WABA, "third_secret")).await;
        for day in 0..8 {
            write(&app, NUMBER, SECRET).await;
            if day != 4 {
                write(&app, idle, "another_secret").await;
            }
            assert_eq!(app.watch.look().await.unwrap(), 0, "{day}");
            app.clock.advance(Duration::from_hours(23));
        }
        assert_eq!(app.watch.look().await.unwrap(), 0, "not yet");
        let last = app.clock.now();
        app.clock.advance(Duration::from_hours(1));
        assert_eq!(app.watch.look().await.unwrap(), 1);
        assert_eq!(app.watch.look().await.unwrap(), 0, "told once");
        let told = alarms(&app).await;
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(told[0]["event"], "meta.account.silent");
        assert_eq!(
            (&told[0]["data"]["accountId"], &told[0]["data"]["phoneNumberId"]),
            (&busy["id"], &json!(NUMBER))
        );
        assert!(!told[0]["data"]["silentSince"].is_null());
        app.clock.advance(DAY);
        assert_eq!(app.watch.look().await.unwrap(), 0);

        // Changing the account forgets nothing of it.
        let path = format!("/api/meta/accounts/{}", busy["id"].as_str().unwrap());
        assert_eq!(app.patch(&path, json!({ "label": "Shop" })).await.status, 200);
        write(&app, NUMBER, SECRET).await;
        assert_eq!(app.watch.look().await.unwrap(), 1);
        assert_eq!(app.watch.look().await.unwrap(), 0);
        let told = alarms(&app).await;
        assert_eq!(told.last().unwrap()["event"], "meta.account.recovered");
        assert_eq!(told.last().unwrap()["data"]["label"], "Shop");
        assert_eq!(told.len(), 2, "{last:?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_disabled_account_is_silent_by_its_owner_s_will() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = app_with(database, &graph).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        for _ in 0..8 {
            write(&app, NUMBER, SECRET).await;
            app.clock.advance(Duration::from_hours(23));
        }
        let path = format!("/api/meta/accounts/{}/status", account["id"].as_str().unwrap());
        app.post(&path, json!({ "status": "disabled" })).await;
        app.clock.advance(2 * DAY);
        assert_eq!(app.watch.look().await.unwrap(), 0);
        assert_eq!(alarms(&app).await, Vec::<Value>::new());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_that_falls_silent_says_whether_meta_still_has_its_app_subscribed() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = app_with(database, &graph).await;
        let numbers = ["106540352242922", "206540352242922", "306540352242922", "406540352242922"];
        let mut owners = Vec::new();
        for number in numbers {
            let mut account = complete(number, WABA, &format!("secret-{number}"));
            if number == numbers[3] {
                account["appId"] = Value::Null;
            }
            owners.push(set_up(&app, &app.token, account).await["id"].clone());
        }
        for _ in 0..8 {
            for number in numbers {
                write(&app, number, &format!("secret-{number}")).await;
            }
            app.clock.advance(Duration::from_hours(23));
        }
        app.clock.advance(DAY);
        let subscribed = |id: &str| {
            let of = json!({ "id": id, "link": "https://www.facebook.com/games/?app_id=1", "name": "Shop" });
            answers(200, &json!({ "data": [{ "whatsapp_business_api_data": of }] }))
        };
        let ours = "670843887433847";
        graph.next([
            subscribed(ours),
            answers(200, &json!({ "data": [] })),
            refuses(401, 190),
            subscribed("1"),
        ]);
        assert_eq!(app.watch.look().await.unwrap(), 4);
        let told = alarms(&app).await;
        let told: Vec<_> = told
            .iter()
            .map(|it| (it["data"]["accountId"].clone(), it["data"]["appSubscribed"].clone()))
            .collect();
        // Nobody knows of the last one which app it should be.
        let says = [json!(true), json!(false), Value::Null, Value::Null];
        assert_eq!(told, owners.into_iter().zip(says).collect::<Vec<_>>());
        let asked = graph.requests();
        assert_eq!(asked.len(), 4);
        assert_eq!(asked[0].line, format!("GET /v24.0/{WABA}/subscribed_apps HTTP/1.1"));
        assert_eq!(asked[0].headers["authorization"], TOKEN);
        // Whom it is over for, nobody asks Meta about.
        write(&app, numbers[0], &format!("secret-{}", numbers[0])).await;
        assert_eq!((app.watch.look().await.unwrap(), graph.count()), (1, 4));
        assert_eq!(alarms(&app).await.last().unwrap()["data"]["appSubscribed"], Value::Null);
        app.close().await;
    })
    .await;
}

/// Accounts of these numbers that were busy every day, and of which nothing was told for two.
async fn fallen_silent(app: &App, numbers: &[&str]) -> Vec<Value> {
    let mut accounts = Vec::new();
    for number in numbers {
        let account = complete(number, WABA, &format!("secret-{number}"));
        accounts.push(set_up(app, &app.token, account).await);
    }
    for _ in 0..8 {
        for number in numbers {
            write(app, number, &format!("secret-{number}")).await;
        }
        app.clock.advance(Duration::from_hours(23));
    }
    app.clock.advance(DAY);
    accounts
}

#[tokio::test]
async fn where_meta_does_not_answer_it_is_asked_once_in_a_look_and_all_owners_are_told() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = app_with(database, &graph).await;
        let numbers = ["106540352242922", "206540352242922", "306540352242922"];
        fallen_silent(&app, &numbers).await;
        graph.next([Behaviour::Close]);
        graph.usually(answers(200, &json!({ "data": [] })));
        assert_eq!(app.watch.look().await.unwrap(), 3);
        assert_eq!(graph.count(), 1);
        let told = alarms(&app).await;
        assert_eq!(told.len(), 3, "{told:#?}");
        assert!(told.iter().all(|it| it["data"]["appSubscribed"].is_null()), "{told:#?}");
        // The next look asks again.
        fallen_silent(&app, &["406540352242922"]).await;
        assert_eq!((app.watch.look().await.unwrap(), graph.count()), (1, 2));
        assert_eq!(alarms(&app).await.last().unwrap()["data"]["appSubscribed"], false);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_that_is_disabled_is_none_of_the_silent_ones() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let app = app_with(database, &graph).await;
        let accounts = fallen_silent(&app, &["106540352242922", "206540352242922"]).await;
        assert_eq!(app.watch.look().await.unwrap(), 2);
        assert_eq!(app.store.meta().silent_accounts().await.unwrap(), 2);
        let path = format!("/api/meta/accounts/{}/status", accounts[0]["id"].as_str().unwrap());
        assert_eq!(app.post(&path, json!({ "status": "disabled" })).await.status, 200);
        assert_eq!(app.store.meta().silent_accounts().await.unwrap(), 1);
        app.close().await;
    })
    .await;
}
