//! The log of what Meta told: paged, filtered, shown with its payload, and kept for its time.

use std::time::Duration;

use entity::state::Role;
use serde_json::{Value, json};
use wagate::{
    maintenance::{Maintenance, Policy},
    store::retention::Table,
};

use crate::{
    database::on_each,
    http_app::App,
    meta::{
        NUMBER, SECRET, SHARED, WABA, changes, complete, deliver, each, get, log, set_up, tenant,
        text,
    },
};

const EVENTS: &str = "/api/meta/events";

fn told(id: &str, at: i64, number: &str) -> Value {
    json!({ "field": "messages", "value": {
        "metadata": { "phone_number_id": number },
        "messages": [{ "id": id, "timestamp": at.to_string(), "type": "text", "text": { "body": "hi" } }],
    } })
}

async fn ids(app: &App, query: &str) -> Vec<String> {
    let page = app.get(&format!("{EVENTS}?{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let page = page.json();
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["objectId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest_and_miss_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        // Told in no order, and several in one second.
        let times = [5, 1, 3, 3, 3, 9, 7, 3, 2];
        let all: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(n, at)| told(&format!("wamid.{at}{n}"), 1_799_990_000 + at, NUMBER))
            .collect();
        let body = changes(WABA, &all).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("{EVENTS}?limit=2{cursor}")).await.json();
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= 2);
            seen.extend(data.iter().map(|it| it["objectId"].as_str().unwrap().to_owned()));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let expected = ["95", "76", "50", "37", "34", "33", "32", "28", "11"];
        assert_eq!(seen, expected.map(|it| format!("wamid.{it}")));
        app.get(&format!("{EVENTS}?cursor=nonsense")).await.invalid(&["/cursor"]);
        app.get(&format!("{EVENTS}?limit=0")).await.invalid(&["/limit"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_log_is_filtered_by_state_type_time_and_account() {
    on_each(async |database| {
        let app = App::start(database).await;
        let one = set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        set_up(&app, &app.token, complete("2", WABA, SECRET)).await;
        let status = json!({ "field": "messages", "value": {
            "metadata": { "phone_number_id": "2" },
            "statuses": [{ "id": "c", "status": "read", "timestamp": "1799990003" }],
        } });
        let mut all = [
            told("a", 1_799_990_001, "1"),
            told("b", 1_799_990_002, "2"),
            status,
            told("d", 1_799_990_004, "404"),
        ];
        for n in [0, 1, 3] {
            all[n]["value"]["messages"][0]["from"] = json!("16505551234");
        }
        let body = changes(WABA, &all).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let account = one["id"].as_str().unwrap();
        for (query, found) in [
            (String::new(), &["d", "c", "b", "a"][..]),
            ("type=message".to_owned(), &["d", "b", "a"]),
            ("type=status".to_owned(), &["c"]),
            ("type=account_update".to_owned(), &[]),
            (format!("account={account}"), &["a"]),
            ("unrouted=true".to_owned(), &["d"]),
            ("unrouted=false&type=message".to_owned(), &["b", "a"]),
            // Nothing is processed yet, and the log says so.
            ("processed=false".to_owned(), &["d", "c", "b", "a"]),
            ("processed=true".to_owned(), &[]),
            ("from=2027-01-15T05:13:22Z&to=2027-01-15T05:13:24Z".to_owned(), &["c", "b"]),
        ] {
            assert_eq!(ids(&app, &query).await, found, "{query}");
        }
        for (query, pointer) in [
            ("processed=maybe", "/processed"),
            ("account=1", "/account"),
            ("from=yesterday", "/from"),
            ("to=x", "/to"),
            ("colour=red", "/colour"),
        ] {
            app.get(&format!("{EVENTS}?{query}")).await.invalid(&[pointer]);
        }
        app.meta.drive().await.unwrap();
        for (query, found) in [
            ("processed=true", &["d", "c", "b", "a"][..]),
            ("processed=false", &[]),
            ("processed=true&type=message&unrouted=false", &["b", "a"]),
        ] {
            assert_eq!(ids(&app, query).await, found, "{query}");
        }
        // Carried out again is what was told within these times, or of this account.
        let within = json!({ "from": "2027-01-15T05:13:22Z", "to": "2027-01-15T05:13:24Z" });
        for (wanted, again) in [(within, &["c", "b"][..]), (json!({ "account": account }), &["a"])]
        {
            let asked = app.post(&format!("{EVENTS}/reprocess"), wanted).await;
            assert_eq!(asked.json()["data"]["events"], again.len(), "{}", asked.text());
            assert_eq!(ids(&app, "processed=false").await, again);
            app.meta.drive().await.unwrap();
            assert_eq!(ids(&app, "processed=true").await.len(), 4);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_is_shown_with_what_meta_has_posted_and_to_its_organization_alone() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = text(WABA, NUMBER, "wamid.1", "Does it come in another color?");
        assert_eq!(deliver(&app, SHARED, SECRET, body.to_string().as_bytes()).await.status, 200);
        let entry = log(&app, &app.token).await.remove(0);
        for (member, value) in [
            ("accountId", account["id"].clone()),
            ("eventType", json!("message")),
            ("subtype", json!("text")),
            ("objectId", json!("wamid.1")),
            ("dedupKey", json!(format!("m:{NUMBER}:wamid.1"))),
            ("eventTs", json!("2027-01-15T07:43:20.000Z")),
            ("processed", json!(false)),
            ("processedAt", Value::Null),
        ] {
            assert_eq!(entry[member], value, "{member}");
        }
        let path = format!("{EVENTS}/{}", entry["id"].as_str().unwrap());
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        let shown = get(&app, &viewer, &path).await.json()["data"].clone();
        assert_eq!(shown["payload"], body);
        assert_eq!(shown["item"], body["entry"][0]["changes"][0]["value"]["messages"][0]);
        assert!(shown["signature"].as_str().unwrap().starts_with("sha256="));
        let (_, other) = tenant(&app, "other").await;
        get(&app, &other, &path).await.problem(404, "META_EVENT_NOT_FOUND");
        // What is kept of it is sealed.
        let rows = database.query("SELECT body FROM meta_body").await;
        let kept: Vec<u8> = rows[0].try_get_by_index(0).unwrap();
        assert!(!String::from_utf8_lossy(&kept).contains("another color"));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_old_enough_is_deleted_and_told_again_it_is_there_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let day = Duration::from_hours(24);
        let old = text(WABA, NUMBER, "old", "hi").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, old.as_bytes()).await.status, 200);
        app.clock.advance(20 * day);
        let young = text(WABA, NUMBER, "young", "hi").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, young.as_bytes()).await.status, 200);
        app.clock.advance(11 * day);
        let policy = Policy { meta: Some(30 * day), ..Policy::default() };
        let sweep = async || {
            let worker = Maintenance::new(app.store.clone(), policy, app.stop.clone());
            worker.sweep().await.unwrap().rows
        };
        let rows = sweep().await;
        let gone = |table| rows.get(&table).copied().unwrap_or(0);
        assert_eq!(
            (gone(Table::MetaEvents), gone(Table::MetaBodies)),
            (0, 0),
            "what waits is kept"
        );
        app.meta.drive().await.unwrap();
        let rows = sweep().await;
        assert_eq!((rows[&Table::MetaEvents], rows[&Table::MetaBodies]), (1, 1));
        assert_eq!(each(&log(&app, &app.token).await, "objectId"), ["young"]);
        assert_eq!(deliver(&app, SHARED, SECRET, old.as_bytes()).await.status, 200);
        assert_eq!(log(&app, &app.token).await.len(), 2);
        app.close().await;
    })
    .await;
}

/// One request puts back so many at most; databases differ in where they sort what has no time.
#[tokio::test]
async fn what_was_never_carried_out_is_carried_out_again_before_what_was() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = changes(WABA, &[told("wamid.1", 1_799_990_000, NUMBER)]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let columns = "organization_id, account_id, body_id, place, object_id, event_type, subtype, \
                       is_unrouted, event_ts, lane, attempts, next_at, lease_until, progress, \
                       created_at";
        let copy = async |id: &str, key: &str, state: &str, from: &str| {
            let (processed, at) = if state == "failed" { ("FALSE", "NULL") } else { ("TRUE", "1") };
            let sql = format!(
                "INSERT INTO meta_event (id, dedup_key, state, processed, processed_at, {columns}) \
                 SELECT {id}, {key}, '{state}', {processed}, {at}, {columns} FROM {from}"
            );
            database.execute(&sql).await;
        };
        let numbered = "meta_event, (WITH RECURSIVE n(i) AS \
                        (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) SELECT i FROM n) n";
        let digits = "'mev_0000000000000000000000' || substr(CAST(10000 + i AS TEXT), 2)";
        copy(digits, "'copy ' || i", "processed", numbered).await;
        let last = "'mev_7ZZZZZZZZZZZZZZZZZZZZZZZZZ'";
        let one = "meta_event WHERE object_id = 'wamid.1' ORDER BY id DESC LIMIT 1";
        copy(last, "'never'", "failed", one).await;

        let again = app.post(&format!("{EVENTS}/reprocess"), json!({})).await;
        assert_eq!(again.json()["data"]["events"], 10_000, "{}", again.text());
        let waits = "SELECT count(*) FROM meta_event WHERE state = 'waiting'";
        assert_eq!(database.count(waits).await, 10_000);
        assert_eq!(database.count(&format!("{waits} AND id = {last}")).await, 1);
        app.close().await;
    })
    .await;
}
