//! What of Meta's cannot be carried out at once: it is tried again, failed in the end, and had done by somebody else.

use std::time::Duration;

use entity::state::Role;
use reqwest::Method;
use serde_json::json;

use crate::{
    database::{Database, Kind, on_each},
    http_app::{Answer, App, json as with_json},
    meta::{
        NUMBER, SECRET, SHARED, WABA, ask, changes, complete, deliver, each, log, set_up, tenant,
        text,
    },
    meta_processing::{hello, messages, tell},
};

/// Has the database refuse a message with this text, until it is told otherwise.
pub(crate) async fn refuse(database: &Database, body: &str) {
    let sql = match database.kind {
        Kind::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON message WHEN NEW.body = '{body}' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Kind::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN IF NEW.body = '{body}' THEN \
             RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql; \
             CREATE TRIGGER refuse BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION refuse()"
        ),
    };
    database.execute(&sql).await;
}

pub(crate) async fn allow(database: &Database) {
    let sql = match database.kind {
        Kind::Sqlite => "DROP TRIGGER refuse",
        Kind::Postgres => "DROP TRIGGER refuse ON message; DROP FUNCTION refuse()",
    };
    database.execute(sql).await;
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_again_and_holds_up_its_own_conversation_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        refuse(database, "poison").await;
        tell(&app, &[
            hello("16505551111", "a1", "before"),
            hello("16505551111", "a2", "poison"),
            hello("16505551111", "a3", "behind"),
            hello("16505552222", "b1", "beside"),
        ])
        .await;
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "b1"]);
        let waiting = app.get("/api/meta/events?state=waiting").await.json();
        let waiting = waiting["data"].as_array().unwrap().clone();
        assert_eq!(each(&waiting, "objectId"), ["a2", "a3"]);
        let tried = waiting.iter().find(|it| it["objectId"] == "a2").unwrap();
        assert_eq!((&tried["attempts"], &tried["error"]), (&json!(1), &json!("not_written")));
        assert!(!tried["nextAttemptAt"].is_null());
        // Another message behind it waits as well, however often somebody looks.
        tell(&app, &[hello("16505551111", "a4", "later"), hello("16505552222", "b2", "beside")]).await;
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "b1", "b2"]);
        // A mistake that is mended: all of it comes, in its order.
        allow(database).await;
        app.clock.advance(Duration::from_secs(2));
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "a2", "a3", "a4", "b1", "b2"]);
        let order = database.query("SELECT seq FROM event e JOIN message m ON e.dedupe_key = m.dedupe_key WHERE m.wa_id LIKE 'a%' ORDER BY m.wa_id").await;
        let order: Vec<i64> = order.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert!(order.is_sorted() && order.len() == 4, "{order:?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_never_written_is_failed_in_the_end_and_can_be_carried_out_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        refuse(database, "poison").await;
        tell(&app, &[hello("16505551111", "a", "poison"), hello("16505551111", "b", "behind")])
            .await;
        for _ in 0..7 {
            app.clock.advance(Duration::from_hours(3));
            app.meta.drive().await.unwrap();
        }
        let failed = app.get("/api/meta/events?state=failed").await.json()["data"][0].clone();
        assert_eq!((&failed["objectId"], &failed["attempts"]), (&json!("a"), &json!(8)));
        // It holds up nobody any more.
        assert_eq!(each(&messages(&app).await, "waId"), ["b"]);
        allow(database).await;
        let path = format!("/api/meta/events/{}/reprocess", failed["id"].as_str().unwrap());
        let request = || {
            with_json(app.request(Method::POST, &path).header("idempotency-key", "k"), &json!({}))
        };
        let asked = Answer::to(request()).await;
        assert_eq!(
            (asked.status.as_u16(), asked.json()["data"]["events"].clone()),
            (202, json!(1))
        );
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a", "b"]);
        // The same request again does nothing, and says what the first one did.
        let again = Answer::to(request()).await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (202, "true"));
        assert_eq!(app.get("/api/meta/events?state=waiting").await.json()["data"], json!([]));
        let other =
            app.request(Method::POST, "/api/meta/events/reprocess").header("idempotency-key", "k");
        Answer::to(with_json(other, &json!({}))).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        let audit = app.get("/api/audit").await.json();
        assert!(
            audit["data"]
                .as_array()
                .unwrap()
                .iter()
                .any(|it| it["action"] == "meta_events_reprocessed"),
            "{audit:#}"
        );
        // Nobody else's.
        let (_, other) = tenant(&app, "other").await;
        ask(&app, &other, Method::POST, &path, &json!({}))
            .await
            .problem(404, "META_EVENT_NOT_FOUND");
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        ask(&app, &viewer, Method::POST, &path, &json!({})).await.problem(403, "FORBIDDEN");
        app.post("/api/meta/events/reprocess", json!({ "state": "waiting", "from": "x" }))
            .await
            .invalid(&["/state", "/from"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_somebody_has_in_hand_is_nobody_elses_until_he_is_gone() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = text(WABA, NUMBER, "a", "x").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let store = app.store.meta();
        let lease = Duration::from_mins(1);
        let taken = store.claim(&app.organization, "gone", 10, lease).await.unwrap();
        assert_eq!(taken.len(), 1);
        app.meta.drive().await.unwrap();
        assert_eq!(log(&app, &app.token).await[0]["state"], "waiting");
        // He stays away: somebody else carries it out, and what he does after that counts for nothing.
        app.clock.advance(2 * lease);
        app.meta.drive().await.unwrap();
        assert_eq!(messages(&app).await.len(), 1);
        assert!(!store.put_off(&taken[0], "late", None).await.unwrap());
        assert_eq!(log(&app, &app.token).await[0]["state"], "processed");
        // Who comes back by the same name has what he had.
        let body = text(WABA, NUMBER, "b", "x").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        store.claim(&app.organization, "test", 10, lease).await.unwrap();
        app.meta.drive().await.unwrap();
        assert_eq!(messages(&app).await.len(), 1);
        app.meta.recover().await.unwrap();
        app.meta.drive().await.unwrap();
        assert_eq!(messages(&app).await.len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_number_that_is_set_up_later_gets_what_was_nobodys() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        tell(&app, &[hello("16505551234", "a", "early")]).await;
        let all = log(&app, &app.token).await;
        assert_eq!((&all[0]["unrouted"], &all[0]["state"]), (&json!(true), &json!("processed")));
        assert_eq!(database.count("SELECT count(*) FROM message").await, 0);
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let asked = app.post("/api/meta/events/reprocess", json!({ "unrouted": true })).await;
        assert_eq!(asked.json()["data"]["events"], 1);
        app.meta.drive().await.unwrap();
        let all = log(&app, &app.token).await;
        assert_eq!((&all[0]["unrouted"], &all[0]["accountId"]), (&json!(false), &account["id"]));
        assert_eq!(each(&messages(&app).await, "waId"), ["a"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_is_named_otherwise_each_time_is_heard_in_his_order() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let mut all = Vec::new();
        for n in 0..20 {
            let (number, user) = (format!("1650555{n:04}"), format!("US.{n}"));
            for (at, names) in [
                json!({ "from": number }),
                json!({ "from": number, "from_user_id": user }),
                // Nothing here says whose this is; what comes before it does.
                json!({ "from": "", "from_user_id": user }),
                json!({ "from": user }),
            ]
            .into_iter()
            .enumerate()
            {
                let mut value = hello("x", &format!("{n:02}.{at}"), "hi");
                for (name, said) in names.as_object().unwrap() {
                    value["messages"][0][name] = said.clone();
                }
                all.push(value);
            }
        }
        tell(&app, &all).await;
        let order = database
            .query("SELECT m.wa_id FROM event e JOIN message m ON e.dedupe_key = m.dedupe_key ORDER BY e.seq")
            .await;
        let order: Vec<String> = order.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(order.len(), 80);
        for n in 0..20 {
            let of = format!("{n:02}.");
            let his: Vec<_> = order.iter().filter(|it| it.starts_with(&of)).collect();
            assert!(his.is_sorted(), "{his:?}");
        }
        app.close().await;
    })
    .await;
}

/// Somebody's lane is by his number, or by Meta's id where that is all that is said.
#[tokio::test]
async fn whoever_is_named_by_meta_s_id_alone_does_not_overtake_what_waits_under_his_number() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let mut both = hello("16505551111", "a1", "before");
        both["messages"][0]["from_user_id"] = json!("US.1");
        let by_id = |user: &str, id: &str| {
            let mut value = hello("", id, "behind");
            value["messages"][0]["from_user_id"] = json!(user);
            value
        };
        tell(&app, &[both]).await;
        refuse(database, "poison").await;
        // In one body, and in another that comes when the first one is put off.
        tell(&app, &[hello("16505551111", "a2", "poison"), by_id("US.1", "a3")]).await;
        tell(&app, &[by_id("US.1", "a4"), by_id("US.2", "b1")]).await;
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "b1"]);
        let waiting = app.get("/api/meta/events?state=waiting").await.json();
        let waiting = waiting["data"].as_array().unwrap().clone();
        assert_eq!(each(&waiting, "objectId"), ["a2", "a3", "a4"]);
        // What stands behind was not tried.
        let tries: i64 = waiting.iter().map(|it| it["attempts"].as_i64().unwrap()).sum();
        assert_eq!(tries, 1, "{waiting:#?}");
        // Nor while another daemon has it in hand.
        app.clock.advance(Duration::from_secs(2));
        let lease = Duration::from_mins(1);
        let taken = app.store.meta().claim(&app.organization, "other", 1, lease).await.unwrap();
        assert_eq!(taken[0].object_id.as_deref(), Some("a2"));
        allow(database).await;
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "b1"]);
        app.clock.advance(2 * lease);
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a1", "a2", "a3", "a4", "b1"]);
        let order = database.query("SELECT seq FROM event e JOIN message m ON e.dedupe_key = m.dedupe_key WHERE m.wa_id LIKE 'a%' ORDER BY m.wa_id").await;
        let order: Vec<i64> = order.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert!(order.is_sorted() && order.len() == 4, "{order:?}");
        app.close().await;
    })
    .await;
}

/// Three messages of the past, and one that cannot be read.
fn past() -> serde_json::Value {
    let one = |id: &str, text: &str| json!({ "from": "16505551234", "id": id, "timestamp": "1739230955", "type": "text", "text": { "body": text } });
    let all = [
        one("a", "good"),
        one("b", "poison"),
        json!({ "from": "16505551234", "type": "text" }),
        one("c", "good"),
    ];
    json!({ "field": "history", "value": {
        "metadata": { "phone_number_id": NUMBER, "display_phone_number": "15550783881" },
        "history": [{ "threads": [{ "id": "16505551234", "messages": all }] }],
    } })
}

#[tokio::test]
async fn one_message_of_the_past_holds_up_no_other_and_what_is_missing_is_said() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        refuse(database, "poison").await;
        let body = changes(WABA, &[past()]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a", "c"]);
        let told = async || {
            let row = log(&app, &app.token).await.remove(0);
            (row["state"].clone(), row["error"].clone())
        };
        assert_eq!(told().await, (json!("waiting"), json!("partly_unwritten")));
        // It is tried as often as anything is, and then it is said that something is missing.
        for _ in 0..7 {
            app.clock.advance(Duration::from_hours(3));
            app.meta.drive().await.unwrap();
        }
        assert_eq!(told().await, (json!("failed"), json!("partly_unwritten")));
        allow(database).await;
        app.post("/api/meta/events/reprocess", json!({ "state": "failed" })).await;
        app.meta.drive().await.unwrap();
        assert_eq!(each(&messages(&app).await, "waId"), ["a", "b", "c"]);
        // What cannot be read is not there, and that is said.
        assert_eq!(told().await, (json!("processed"), json!("partly_unread")));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn where_many_organizations_wait_each_has_its_turn() {
    on_each(async |database| {
        let app = App::start(database).await;
        let mut all = Vec::new();
        for n in 1..4 {
            let (id, token) = tenant(&app, &format!("t{n}")).await;
            let (number, waba) = (n.to_string(), format!("w{n}"));
            set_up(&app, &token, complete(&number, &waba, SECRET)).await;
            let body = text(&waba, &number, "a", "x").to_string();
            assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
            all.push(id.parse().unwrap());
        }
        all.sort();
        let store = app.store.meta();
        let turn = async |last: Option<&_>| store.waiting(last).await.unwrap();
        assert_eq!(turn(None).await, all);
        assert_eq!(turn(Some(&all[0])).await, [all[1].clone(), all[2].clone(), all[0].clone()]);
        assert_eq!(turn(Some(&all[1])).await, [all[2].clone(), all[0].clone(), all[1].clone()]);
        assert_eq!(turn(Some(&all[2])).await, all);
        app.close().await;
    })
    .await;
}
