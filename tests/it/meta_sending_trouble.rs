//! Sending through Meta when something goes wrong: what passes is tried again, what is not known is never sent twice.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::{
    database::{Kind, on_each},
    graph::{answers, app as app_with, hello, refuses, said, shop, show, take, takes, told},
    http_app::App,
    meta_processing::tell,
    meta_sending::status,
    receiver::{Behaviour, Receiver},
};

/// `status` and `error` of a message.
async fn state(app: &App, location: &str) -> (Value, Value) {
    let shown = show(app, location).await;
    (shown["status"].clone(), shown["error"].clone())
}

fn is(status: &str, error: impl Into<Value>) -> (Value, Value) {
    (json!(status), error.into())
}

#[tokio::test]
async fn what_meta_refuses_for_good_has_failed_with_meta_s_code_and_is_not_tried_again() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        graph.next([refuses(400, 131_047)]);
        app.sender.drive().await.unwrap();
        assert_eq!(state(&app, &location).await, is("failed", "131047"));
        let id = show(&app, &location).await["id"].as_str().unwrap().to_owned();
        let expected =
            [("message_create".to_owned(), id.clone(), 0), ("message_ack".to_owned(), id, -1)];
        assert_eq!(told(&app).await, expected);
        // What stands behind it in its conversation is sent.
        let next = take(&app, &path, hello("16505551234", "y")).await;
        graph.next([takes("wamid.y")]);
        app.clock.advance(Duration::from_hours(5));
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 2);
        assert_eq!(state(&app, &next).await, is("sent", Value::Null));
        assert_eq!(database.count("SELECT count(*) FROM message").await, 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_passes_is_tried_again_by_a_schedule_and_given_up_in_the_end() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        graph.next([refuses(500, 131_000), Behaviour::status(503)]);
        app.sender.drive().await.unwrap();
        assert_eq!(state(&app, &location).await, is("queued", "131000"));
        let shown = show(&app, &location).await;
        assert_eq!(shown["failedAttempts"], 1);
        assert!(!shown["nextAttemptAt"].is_null());
        // Not before its time.
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 1);
        app.clock.advance(Duration::from_secs(3));
        app.sender.drive().await.unwrap();
        assert_eq!((graph.count(), state(&app, &location).await), (2, is("queued", "503")));
        graph.next([takes("wamid.x")]);
        app.clock.advance(Duration::from_secs(11));
        app.sender.drive().await.unwrap();
        assert_eq!(state(&app, &location).await, is("sent", Value::Null));
        assert_eq!(told(&app).await.len(), 2, "told once, when Meta has it");

        let hopeless = take(&app, &path, hello("16505551234", "y")).await;
        graph.usually(refuses(500, 2));
        for _ in 0..9 {
            app.sender.drive().await.unwrap();
            app.clock.advance(Duration::from_hours(2));
        }
        assert_eq!((graph.count(), state(&app, &hopeless).await), (3 + 8, is("failed", "2")));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_limit_of_the_number_holds_up_all_its_messages_and_no_other_number_s() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let mut other =
            crate::meta::complete("206540352242922", crate::meta::WABA, "another_secret");
        other["label"] = json!("other");
        let other = crate::meta::set_up(&app, &app.token, other).await;
        let other = format!("/api/meta/accounts/{}/messages", other["id"].as_str().unwrap());
        take(&app, &path, hello("16505551234", "first")).await;
        graph.next([refuses(400, 130_429)]);
        app.sender.drive().await.unwrap();
        take(&app, &path, hello("16505559999", "second")).await;
        take(&app, &other, hello("16505559999", "of the other")).await;
        graph.usually(takes("wamid.o"));
        app.sender.drive().await.unwrap();
        let all: Vec<_> = graph.requests().iter().map(said).collect();
        assert_eq!(all, [json!("first"), json!("of the other")]);
        graph.next([takes("wamid.1"), takes("wamid.2")]);
        app.clock.advance(Duration::from_secs(3));
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 4);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_meta_may_have_sent_is_never_sent_again_and_found_when_meta_tells_of_it() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let unknown = [
            Behaviour::Reset,
            Behaviour::Close,
            Behaviour::Nonsense,
            Behaviour::status(502),
            answers(200, &json!({ "messages": [] })),
        ];
        let mut all = Vec::new();
        for (n, behaviour) in unknown.into_iter().enumerate() {
            let location = take(&app, &path, hello("16505551234", &n.to_string())).await;
            graph.next([behaviour]);
            app.sender.drive().await.unwrap();
            assert_eq!(state(&app, &location).await, is("failed", "outcome_unknown"), "{n}");
            app.clock.advance(Duration::from_hours(3));
            app.sender.drive().await.unwrap();
            assert_eq!(graph.count(), n + 1);
            all.push(location);
        }
        let metrics = app.get("/metrics").await;
        assert!(
            metrics.text().contains("wagate_meta_outcome_unknown_total 5"),
            "{}",
            metrics.text()
        );
        // It was sent after all.
        let id = show(&app, &all[0]).await["id"].as_str().unwrap().to_owned();
        tell(&app, &[status("wamid.after.all", "delivered", Some(&id))]).await;
        let shown = show(&app, &all[0]).await;
        assert_eq!(
            (&shown["status"], &shown["waId"], &shown["error"]),
            (&json!("delivered"), &json!("wamid.after.all"), &Value::Null)
        );
        let last: Vec<_> = told(&app).await.split_off(10);
        let name = "wamid.after.all".to_owned();
        let expected =
            [("message_create".to_owned(), name.clone(), 0), ("message_ack".to_owned(), name, 2)];
        assert_eq!(last, expected);
        assert_eq!(database.count("SELECT count(*) FROM message").await, 5);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn statuses_that_are_faster_than_meta_s_answer_lose_nothing() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        let id = show(&app, &location).await["id"].as_str().unwrap().to_owned();
        graph.next([takes("wamid.x")]);
        let gate = graph.hold();
        let sending = TaskTracker::new().spawn({
            let sender = app.sender.clone();
            async move { sender.drive().await }
        });
        graph.arrived(1).await;
        assert_eq!(state(&app, &location).await, is("sending", Value::Null));
        tell(
            &app,
            &[status("wamid.x", "delivered", Some(&id)), status("wamid.x", "sent", Some(&id))],
        )
        .await;
        assert_eq!(state(&app, &location).await, is("delivered", Value::Null));
        gate.notify_one();
        sending.await.unwrap().unwrap();
        let shown = show(&app, &location).await;
        assert_eq!((&shown["status"], &shown["waId"]), (&json!("delivered"), &json!("wamid.x")));
        let name = "wamid.x".to_owned();
        let expected =
            [("message_create".to_owned(), name.clone(), 0), ("message_ack".to_owned(), name, 2)];
        assert_eq!(told(&app).await, expected);
        assert_eq!(database.count("SELECT count(*) FROM meta_outbox").await, 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_status_without_our_id_is_found_by_meta_s_id_when_that_is_known() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        // Before Meta's answer is written down, and without what would say whose it is.
        tell(&app, &[status("wamid.x", "read", None)]).await;
        graph.next([takes("wamid.x")]);
        app.sender.drive().await.unwrap();
        let shown = show(&app, &location).await;
        assert_eq!((&shown["status"], &shown["ack"]), (&json!("read"), &json!(3)));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn after_a_crash_what_was_queued_is_sent_and_what_was_under_way_is_not() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let under_way = take(&app, &path, hello("16505551234", "under way")).await;
        let behind = take(&app, &path, hello("16505551234", "behind")).await;
        graph.hold();
        let sending = TaskTracker::new().spawn({
            let sender = app.sender.clone();
            async move { sender.drive().await }
        });
        graph.arrived(1).await;
        // As if the process had been killed.
        sending.abort();
        sending.await.unwrap_err();
        app.close().await;
        graph.release();

        let app = app_with(database, &graph).await;
        graph.usually(takes("wamid.behind"));
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 1, "somebody may still have it");
        app.sender.recover().await.unwrap();
        app.sender.drive().await.unwrap();
        let all: Vec<_> = graph.requests().iter().map(said).collect();
        assert_eq!(all, [json!("under way"), json!("behind")]);
        assert_eq!(state(&app, &under_way).await, is("failed", "outcome_unknown"));
        assert_eq!(state(&app, &behind).await, is("sent", Value::Null));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_from_another_number_than_it_was_meant_for() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        let body = json!({ "phoneNumberId": "306540352242922", "appSecret": "another_secret" });
        let changed = app.patch(path.trim_end_matches("/messages"), body).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 0);
        assert_eq!(state(&app, &location).await, is("failed", "account_changed"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_when_its_account_is_disabled_or_loses_its_token_has_failed_and_says_so() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let account = path.trim_end_matches("/messages").to_owned();
        let status = format!("{account}/status");
        let mut failed = Vec::new();
        for (change, mend, reason) in [
            (
                json!({ "status": "disabled" }),
                json!({ "status": "unverified" }),
                "account_disabled",
            ),
            (
                json!({ "accessToken": null }),
                json!({ "accessToken": "another" }),
                "no_access_token",
            ),
        ] {
            let location = take(&app, &path, hello("16505551234", reason)).await;
            let (to, is_status) = (&account, change.get("status").is_some());
            let turn = async |body: Value| {
                let answer = if is_status {
                    app.post(&status, body).await
                } else {
                    app.patch(to, body).await
                };
                assert_eq!(answer.status, 200, "{}", answer.text());
            };
            turn(change).await;
            app.sender.drive().await.unwrap();
            assert_eq!(state(&app, &location).await, is("failed", reason));
            // Nor is it sent when that is mended.
            turn(mend).await;
            app.sender.drive().await.unwrap();
            assert_eq!((graph.count(), state(&app, &location).await), (0, is("failed", reason)));
            let id = show(&app, &location).await["id"].as_str().unwrap().to_owned();
            failed.push(("message_create".to_owned(), id.clone(), 0));
            failed.push(("message_ack".to_owned(), id, -1));
            assert_eq!(told(&app).await, failed);
            let page = app.get("/api/whatsapp/events/page?limit=500").await.json();
            let last = page["data"].as_array().unwrap().last().unwrap().clone();
            assert_eq!(last["data"]["error"], reason, "{last:#}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_that_is_deleted_sends_nothing_and_its_number_goes_on_when_it_is_made_again() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let account = path.trim_end_matches("/messages").to_owned();
        let location = take(&app, &path, hello("16505551234", "x")).await;
        let stranger = app.stranger(database).await;
        let body = Value::Null;
        let asked = crate::meta::ask(&app, &stranger, Method::DELETE, &account, &body).await;
        asked.problem(404, "META_ACCOUNT_NOT_FOUND");
        assert_eq!(app.delete(&account).await.status, 204);
        app.delete(&account).await.problem(404, "META_ACCOUNT_NOT_FOUND");
        app.get(&account).await.problem(404, "META_ACCOUNT_NOT_FOUND");
        app.sender.drive().await.unwrap();
        assert_eq!(
            (graph.count(), state(&app, &location).await),
            (0, is("failed", "account_changed"))
        );
        let post = crate::meta::text(crate::meta::WABA, crate::meta::NUMBER, "a", "x").to_string();
        let secret = crate::meta::SECRET;
        let posted = crate::meta::deliver(&app, crate::meta::SHARED, secret, post.as_bytes()).await;
        posted.problem(403, "META_SIGNATURE_INVALID");
        let audit = app.get("/api/audit?limit=1").await.json();
        assert_eq!(audit["data"][0]["action"], "meta_account_deleted", "{audit:#}");
        // The same number again: what was kept of it is its own.
        let again = crate::meta::complete(crate::meta::NUMBER, crate::meta::WABA, secret);
        let again = crate::meta::set_up(&app, &app.token, again).await;
        let path = format!("/api/meta/accounts/{}/messages", again["id"].as_str().unwrap());
        let next = take(&app, &path, hello("16505551234", "y")).await;
        assert_eq!(show(&app, &next).await["sessionId"], crate::meta_processing::SESSION);
        let conversations = app.get("/api/conversations").await.json();
        assert_eq!(conversations["data"].as_array().unwrap().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_graph_api_that_is_not_there_is_waited_for() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let location = take(&app, &path, hello("16505551234", "x")).await;
        // Nobody listens any more.
        let address = graph.address;
        drop(graph);
        app.sender.drive().await.unwrap();
        assert_eq!(state(&app, &location).await, is("queued", "meta_unreachable"), "{address}");
        app.close().await;
    })
    .await;
}

/// What does not open may be of use to whoever has its key one day, or knows what has happened to it.
#[tokio::test]
async fn what_does_not_open_of_a_message_is_kept_whatever_becomes_of_it() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let named = take(&app, &path, hello("16505551234", "named")).await;
        let failed = take(&app, &path, hello("16505551235", "failed")).await;
        let damaged = match database.kind {
            Kind::Sqlite => "x'53454101'",
            Kind::Postgres => "'\\x53454101'::bytea",
        };
        database.execute(&format!("UPDATE message SET raw = {damaged}")).await;
        let ours = named.rsplit('/').next().unwrap();
        tell(&app, &[status("wamid.named", "sent", Some(ours))]).await;
        app.sender.drive().await.unwrap();
        assert_eq!(graph.count(), 0, "nobody knows what to send");
        assert_eq!(state(&app, &failed).await.0, "failed");
        assert_eq!(show(&app, &named).await["waId"], "wamid.named");
        let kept = format!("SELECT count(*) FROM message WHERE raw = {damaged}");
        assert_eq!(database.count(&kept).await, 2);
        app.close().await;
    })
    .await;
}
