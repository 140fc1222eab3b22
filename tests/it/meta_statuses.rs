//! How far messages have come that went out: in whatever order it is told, and however often.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_app::{Answer, App},
    meta::{NUMBER, SECRET, SHARED, WABA, complete, deliver, get, set_up, tenant},
    meta_processing::{SESSION, hello, messages, tell},
};

pub(crate) fn status(id: &str, word: &str, at: i64) -> Value {
    let mut status = json!({ "id": id, "status": word, "timestamp": at.to_string(), "recipient_id": "16505551234" });
    if word == "failed" {
        status["errors"] = json!([{ "code": 131_026, "title": "Message undeliverable" }]);
    }
    status["pricing"] = json!({ "billable": true, "category": "marketing" });
    json!({ "statuses": [status] })
}

/// Tells of a message that was written on the phone.
async fn echo(app: &App, id: &str) {
    let echo = json!({ "metadata": { "phone_number_id": NUMBER, "display_phone_number": "15550783881" }, "message_echoes": [
        { "from": "15550783881", "to": "16505551234", "id": id, "timestamp": "1799999000", "type": "text", "text": { "body": "mine" } },
    ] });
    let body =
        crate::meta::changes(WABA, &[json!({ "field": "smb_message_echoes", "value": echo })]);
    assert_eq!(deliver(app, SHARED, SECRET, body.to_string().as_bytes()).await.status, 200);
    app.meta.drive().await.unwrap();
}

/// A campaign that is sent from the number, which has had a message before.
pub(crate) async fn campaign(app: &App) -> String {
    tell(app, &[hello("16505550000", "first", "hi")]).await;
    let body = json!({ "name": "Sale", "sessionId": SESSION });
    let made = app.post("/api/campaigns", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    format!("/api/campaigns/{}", made.json()["data"]["id"].as_str().unwrap())
}

pub(crate) async fn add(app: &App, campaign: &str, members: Value) -> Value {
    let added = app.post(&format!("{campaign}/audience"), json!({ "members": members })).await;
    assert_eq!(added.status, 200, "{}", added.text());
    added.json()["data"].clone()
}

pub(crate) async fn sums(app: &App, campaign: &str) -> Value {
    app.get(&format!("{campaign}/statistics")).await.json()["data"].clone()
}

/// What a set of words comes to: state, and the highest level.
fn outcome(words: &BTreeSet<&str>) -> (&'static str, usize) {
    let order = ["sent", "delivered", "read", "played"];
    let reached = order.iter().rposition(|it| words.contains(it)).map_or(0, |it| it + 1);
    let state = match reached {
        0 | 1 if words.contains("failed") => "failed",
        0 => "attached",
        n => order[n - 1],
    };
    (state, reached)
}

/// The sums over what each message was told.
pub(crate) fn expected(told: &BTreeMap<String, BTreeSet<&str>>) -> Value {
    let outcomes: Vec<_> = told.values().map(outcome).collect();
    let reached = |level| outcomes.iter().filter(|(_, it)| *it >= level).count();
    json!({
        "audience": told.len(), "attached": told.len(), "sent": reached(1), "delivered": reached(2),
        "read": reached(3), "played": reached(4),
        "failed": outcomes.iter().filter(|(it, _)| *it == "failed").count(),
    })
}

#[tokio::test]
async fn statuses_in_any_order_and_any_number_come_to_the_same() {
    on_each(async |database| {
        for seed in 0..4 {
            Box::pin(any_order(database, seed)).await;
            database.execute("DELETE FROM meta_account").await;
            database.execute("DELETE FROM meta_event").await;
            database.execute("DELETE FROM meta_body").await;
            database.execute("DELETE FROM campaign").await;
            database.execute("DELETE FROM session").await;
        }
    })
    .await;
}

async fn any_order(database: &Database, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let app = App::start(database).await;
    set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
    let campaign = campaign(&app).await;
    let words = ["sent", "delivered", "read", "played", "failed"];
    let mut told = BTreeMap::<String, BTreeSet<&str>>::new();
    let mut posts = Vec::new();
    for n in 0..25 {
        let id = format!("wamid.{seed}.{n}");
        let mut of: BTreeSet<&str> = BTreeSet::new();
        for word in words {
            if rng.random_bool(0.4) {
                of.insert(word);
                for _ in 0..rng.random_range(1..3) {
                    // The same again with another time is the same.
                    posts.push(status(&id, word, 1_799_999_000 + rng.random_range(0..9)));
                }
            }
        }
        told.insert(id, of);
    }
    posts.shuffle(&mut rng);
    let members: Vec<Value> = told
        .keys()
        .enumerate()
        .map(|(n, id)| json!({ "phoneNumber": format!("1650555{n:04}"), "messageId": id }))
        .collect();
    // Some are known before anything is told of them, some after, some in between.
    let (early, late) = members.split_at(rng.random_range(0..members.len()));
    if !early.is_empty() {
        add(&app, &campaign, json!(early)).await;
    }
    // Half of them are written on the phone, and come before what is told of them, after, or in between.
    let batches: Vec<_> = posts.chunks(7).collect();
    let mut echoes = Vec::new();
    for id in told.keys() {
        if rng.random_bool(0.5) {
            echoes.push((id.clone(), rng.random_range(0..=batches.len())));
        }
    }
    for (n, batch) in batches.iter().enumerate() {
        for (id, _) in echoes.iter().filter(|(_, moment)| *moment == n) {
            echo(&app, id).await;
        }
        tell(&app, batch).await;
    }
    for (id, _) in echoes.iter().filter(|(_, moment)| *moment == batches.len()) {
        echo(&app, id).await;
    }
    add(&app, &campaign, json!(late)).await;
    posts.shuffle(&mut rng);
    tell(&app, &posts).await;
    assert_eq!(sums(&app, &campaign).await, expected(&told), "seed {seed}");
    let page = app.get(&format!("{campaign}/audience?limit=500")).await.json();
    for member in page["data"].as_array().unwrap() {
        let of = &told[member["messageId"].as_str().unwrap()];
        assert_eq!(member["state"], outcome(of).0, "{of:?}");
        assert_eq!(member["error"].is_null(), !of.contains("failed"), "{member:#}");
        assert_eq!(member["readAt"].is_null(), !of.contains("read"));
    }
    // Each row says what its message has come to, and why if it has failed.
    let rows = messages(&app).await;
    let rows: Vec<_> = rows.iter().filter(|row| row["fromMe"] == true).collect();
    assert_eq!(rows.len(), echoes.len());
    for row in rows {
        let of = &told[row["waId"].as_str().unwrap()];
        let word = outcome(of).0;
        assert_eq!(
            row["status"],
            if word == "attached" { "sent" } else { word },
            "{of:?}: {row:#}"
        );
        let error = (word == "failed").then_some("131026");
        assert_eq!(row["error"], json!(error), "{of:?}: {row:#}");
    }
    let count = app.post(&format!("{campaign}/recount"), json!({})).await.json()["data"].clone();
    assert_eq!((&count["drift"], &count["statistics"]), (&json!(false), &expected(&told)));
    let kept = database.count("SELECT count(*) FROM message_status").await;
    assert_eq!(kept, i64::try_from(told.values().map(BTreeSet::len).sum::<usize>()).unwrap());
    // Everything carried out again changes nothing.
    app.post("/api/meta/events/reprocess", json!({})).await;
    let events = database.count("SELECT count(*) FROM event").await;
    app.meta.drive().await.unwrap();
    assert_eq!(sums(&app, &campaign).await, expected(&told), "seed {seed}");
    assert_eq!(database.count("SELECT count(*) FROM event").await, events);
    app.close().await;
}

#[tokio::test]
async fn a_status_that_comes_before_its_message_is_the_message_s_when_it_comes() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        tell(
            &app,
            &[status("wamid.1", "read", 1_799_999_002), status("wamid.1", "sent", 1_799_999_000)],
        )
        .await;
        echo(&app, "wamid.1").await;
        let shown = async || {
            let page = app.get(&format!("/api/whatsapp/session/{SESSION}/messages")).await.json();
            let row = &page["data"][0];
            (row["status"].clone(), row["ack"].clone(), row["error"].clone())
        };
        assert_eq!(shown().await, (json!("read"), json!(3), Value::Null));
        // Below what is known, it is nothing; above, it is told of.
        tell(&app, &[status("wamid.1", "delivered", 1_799_999_001)]).await;
        assert_eq!(shown().await.1, 3);
        tell(&app, &[status("wamid.1", "played", 1_799_999_009)]).await;
        assert_eq!(shown().await, (json!("played"), json!(4), Value::Null));
        let told = database
            .query("SELECT payload FROM event WHERE kind = 'message_ack' ORDER BY seq")
            .await;
        let told: Vec<i64> = told
            .iter()
            .map(|row| {
                let payload: String = row.try_get_by_index(0).unwrap();
                let data: Value = serde_json::from_str(&payload).unwrap();
                assert_eq!(data["channel"], "cloud", "{data:#}");
                data["ack"].as_i64().unwrap()
            })
            .collect();
        assert_eq!(told, [3, 4]);
        app.close().await;
    })
    .await;
}

/// Meta took it and could not deliver it: its row says so, whichever Meta says first.
#[tokio::test]
async fn a_message_that_was_sent_and_failed_has_failed_in_either_order() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        for (id, order) in [("wamid.1", ["sent", "failed"]), ("wamid.2", ["failed", "sent"])] {
            echo(&app, id).await;
            for word in order {
                tell(&app, &[status(id, word, 1_799_999_001)]).await;
            }
            let page = app.get(&format!("/api/whatsapp/session/{SESSION}/messages")).await.json();
            let rows = page["data"].as_array().unwrap();
            let row = rows.iter().find(|row| row["waId"] == id).unwrap();
            assert_eq!(
                (&row["status"], &row["ack"]),
                (&json!("failed"), &json!(-1)),
                "{id}: {row}"
            );
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_audience_is_added_in_bulk_from_either_form_and_found_page_by_page() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let campaign = campaign(&app).await;
        let zero = json!({ "audience": 0, "attached": 0, "sent": 0, "delivered": 0, "read": 0, "played": 0, "failed": 0 });
        assert_eq!(sums(&app, &campaign).await, zero);
        let added = add(&app, &campaign, json!([
            { "phoneNumber": "+1 650-555-0001", "name": "One" }, { "phoneNumber": "16505550002", "messageId": "wamid.2" },
        ])).await;
        assert_eq!(added, json!({ "added": 2, "attached": 1, "unchanged": 0 }));
        let path = format!("{campaign}/audience");
        let csv = "phone_number,name,message_id\r\n16505550001,,wamid.1\n\"16505550003\",\"Three, 3\",\n16505550002,,\n";
        let added = app.post(&path, json!({ "csv": csv })).await.json()["data"].clone();
        assert_eq!(added, json!({ "added": 1, "attached": 1, "unchanged": 1 }));
        // The same table as the body itself, with one more.
        let table = async |kind: &str, body: Vec<u8>| {
            Answer::to(app.request(Method::POST, &path).header("content-type", kind).body(body)).await
        };
        let longer = format!("{csv}16505550004,Vier,\n");
        let added = table("text/csv; charset=utf-8", longer.into_bytes()).await;
        assert_eq!(added.status, 200, "{}", added.text());
        assert_eq!(added.json()["data"], json!({ "added": 1, "attached": 0, "unchanged": 3 }));
        for wrong in [&b"name\nx"[..], b"", b"phone_number\n\xff"] {
            table("text/csv", wrong.to_vec()).await.invalid(&["/csv"]);
        }
        table("text/plain", csv.into()).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("{path}?limit=2{cursor}")).await.json();
            seen.extend(page["data"].as_array().unwrap().clone());
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let seen: Vec<_> = seen.iter().map(|it| (it["phoneNumber"].as_str().unwrap(), &it["name"], &it["state"])).collect();
        let (one, three) = (json!("One"), json!("Three, 3"));
        let (attached, pending) = (json!("attached"), json!("pending"));
        assert_eq!(seen, [("16505550001", &one, &attached), ("16505550002", &Value::Null, &attached), ("16505550003", &three, &pending), ("16505550004", &json!("Vier"), &pending)]);
        let pending = app.get(&format!("{path}?state=pending")).await.json();
        assert_eq!(pending["data"].as_array().unwrap().len(), 2);
        // All or none.
        let taken = json!({ "members": [{ "phoneNumber": "16505550009" }, { "phoneNumber": "16505550008", "messageId": "wamid.1" }] });
        app.post(&path, taken).await.invalid(&["/members/1/messageId"]);
        let wrong = json!({ "members": [{ "phoneNumber": "12" }, { "name": 7 }] });
        app.post(&path, wrong).await.invalid(&["/members/1/phoneNumber", "/members/1/name"]);
        app.post(&path, json!({ "members": [{ "phoneNumber": "12" }] })).await.invalid(&["/members/0/phoneNumber"]);
        app.post(&path, json!({})).await.invalid(&["/members"]);
        // However much is wrong, what is said of it has a bound.
        app.post(&path, json!({ "members": vec![json!({}); 5001] })).await.invalid(&["/members"]);
        let wrong = app.post(&path, json!({ "members": vec![json!({}); 5000] })).await;
        let errors = wrong.problem(400, "VALIDATION_FAILED")["errors"].clone();
        assert_eq!(errors.as_array().unwrap().len(), 100);
        app.post(&path, json!({ "csv": "name\nx" })).await.invalid(&["/csv"]);
        for twice in ["phone_number,name,name\n16505550005,a,b", "phone_number,Phone_Number\n16505550005,16505550006"] {
            let refused = app.post(&path, json!({ "csv": twice })).await;
            refused.invalid(&["/csv"]);
            assert!(refused.text().contains("twice"), "{}", refused.text());
        }
        assert_eq!(sums(&app, &campaign).await["audience"], 4);
        // Drift is seen, and mended.
        database.execute("UPDATE campaign_statistics SET sent = 7").await;
        let count = app.post(&format!("{campaign}/recount"), json!({})).await.json()["data"].clone();
        assert_eq!((&count["drift"], &count["before"]["sent"], &count["statistics"]["sent"]), (&json!(true), &json!(7), &json!(0)));
        assert_eq!(sums(&app, &campaign).await["sent"], 0);
        // One without a session has no messages; and nobody sees another's.
        let bare = app.post("/api/campaigns", json!({ "name": "Bare" })).await.json()["data"]["id"].clone();
        let bare = format!("/api/campaigns/{}/audience", bare.as_str().unwrap());
        let body = json!({ "members": [{ "phoneNumber": "16505550001", "messageId": "x" }] });
        app.post(&bare, body).await.problem(409, "CAMPAIGN_WITHOUT_SESSION");
        let (_, other) = tenant(&app, "other").await;
        for path in [path.clone(), format!("{campaign}/statistics")] {
            get(&app, &other, &path).await.problem(404, "CAMPAIGN_NOT_FOUND");
        }
        app.close().await;
    })
    .await;
}
