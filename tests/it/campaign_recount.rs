//! A campaign's sums are counted anew while they change, and set right once, by whoever is first.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    meta::{NUMBER, SECRET, WABA, complete, set_up},
    meta_processing::tell,
    meta_statuses::{add, campaign, status, sums},
};

/// So many members, each with a message.
fn members(range: std::ops::Range<usize>) -> Value {
    let one =
        |n| json!({ "phoneNumber": format!("1650555{n:04}"), "messageId": format!("wamid.{n}") });
    range.map(one).collect()
}

fn counts(audience: i64, sent: i64, read: i64) -> Value {
    json!({
        "audience": audience, "attached": audience, "sent": sent, "delivered": read, "read": read,
        "played": 0, "failed": 0,
    })
}

/// More than are looked up at a time.
#[tokio::test]
async fn what_was_told_before_they_were_added_counts_for_all_of_very_many() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let campaign = campaign(&app).await;
        for from in (0..1200).step_by(200) {
            let told: Vec<_> = (from..from + 200)
                .map(|n| status(&format!("wamid.{n}"), if n % 3 == 0 { "read" } else { "sent" }, 1))
                .collect();
            tell(&app, &told).await;
        }
        let added = add(&app, &campaign, members(0..1200)).await;
        assert_eq!(added, json!({ "added": 1200, "attached": 1200, "unchanged": 0 }));
        assert_eq!(sums(&app, &campaign).await, counts(1200, 1200, 400));
        let recount = app.post(&format!("{campaign}/recount"), json!({})).await.json();
        assert_eq!(recount["data"]["drift"], false, "{recount:#}");
        app.close().await;
    })
    .await;
}

/// Those who are there already are written in chunks too, each as it is said last.
#[tokio::test]
async fn very_many_who_are_there_are_given_names_and_messages_at_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let campaign = campaign(&app).await;
        let of = |n: usize| format!("1650555{n:04}");
        let bare: Value = (0..1200).map(|n| json!({ "phoneNumber": of(n) })).collect();
        add(&app, &campaign, bare).await;
        tell(&app, &[status("wamid.7", "read", 1)]).await;
        let mut named: Vec<_> = (0..1200)
            .map(|n| json!({ "phoneNumber": of(n), "name": format!("N{n}"), "messageId": format!("wamid.{n}") }))
            .collect();
        named.push(json!({ "phoneNumber": of(3), "name": "Last" }));
        // And one who is new, twice.
        named.extend([1, 2].map(|n| json!({ "phoneNumber": of(5000), "name": format!("New{n}") })));
        let added = add(&app, &campaign, Value::Array(named.clone())).await;
        assert_eq!(added, json!({ "added": 1, "attached": 1200, "unchanged": 0 }));
        let mut right = counts(1201, 0, 0);
        right["attached"] = json!(1200);
        for level in ["sent", "delivered", "read"] {
            right[level] = json!(1);
        }
        assert_eq!(sums(&app, &campaign).await, right);
        let recount = app.post(&format!("{campaign}/recount"), json!({})).await.json();
        assert_eq!(recount["data"]["drift"], false, "{recount:#}");
        let rows = database
            .query("SELECT phone_number, name, wa_id FROM campaign_audience ORDER BY phone_number")
            .await;
        assert_eq!(rows.len(), 1201);
        for (n, row) in rows.iter().enumerate() {
            let text = |name: &str| row.try_get::<Option<String>>("", name).unwrap();
            let (number, name, wa_id) = match n {
                3 => (of(3), "Last".to_owned(), Some("wamid.3".to_owned())),
                1200 => (of(5000), "New2".to_owned(), None),
                n => (of(n), format!("N{n}"), Some(format!("wamid.{n}"))),
            };
            assert_eq!(
                (text("phone_number"), text("name"), text("wa_id")),
                (Some(number), Some(name), wa_id)
            );
        }
        named.truncate(1000);
        let again = add(&app, &campaign, Value::Array(named)).await;
        assert_eq!(again, json!({ "added": 0, "attached": 0, "unchanged": 999 }));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn sums_are_exact_whatever_is_told_between_the_counting_and_its_correction() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let path = campaign(&app).await;
        add(&app, &path, members(0..30)).await;
        let told: Vec<_> = (0..10).map(|n| status(&format!("wamid.{n}"), "sent", 1)).collect();
        tell(&app, &told).await;
        database.execute("UPDATE campaign_statistics SET sent = 7, audience = 99").await;

        let audience = app.store.audience();
        let id = path.rsplit('/').next().unwrap().parse().unwrap();
        let organization = &app.organization;
        let first = audience.measure(&id).await.unwrap();
        let second = audience.measure(&id).await.unwrap();
        assert_eq!((first.drift.before.sent, first.drift.counted.sent), (7, 10));
        // Those that were counted, and those that were not: told of, added, attached.
        let told: Vec<_> = (5..20).map(|n| status(&format!("wamid.{n}"), "read", 2)).collect();
        tell(&app, &told).await;
        add(&app, &path, members(30..40)).await;
        assert!(audience.correct(organization, &id, first).await.unwrap());
        let right = counts(40, 20, 15);
        assert_eq!(sums(&app, &path).await, right);
        // Who has counted at the same time finds that it is done.
        assert!(!audience.correct(organization, &id, second).await.unwrap());
        assert_eq!(sums(&app, &path).await, right);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn sums_are_counted_while_they_change_and_are_right_in_the_end() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let path = campaign(&app).await;
        add(&app, &path, members(0..40)).await;
        database.execute("UPDATE campaign_statistics SET read = 1000").await;
        let telling = async {
            for n in 0..40 {
                tell(&app, &[status(&format!("wamid.{n}"), "read", 1)]).await;
            }
        };
        let counting = async {
            for _ in 0..20 {
                // One at a time; another is told to come again.
                let recount = format!("{path}/recount");
                let (one, two) =
                    tokio::join!(app.post(&recount, json!({})), app.post(&recount, json!({})));
                for answer in [one, two] {
                    assert!(matches!(answer.status.as_u16(), 200 | 503), "{}", answer.text());
                }
            }
        };
        tokio::join!(telling, counting);
        assert_eq!(sums(&app, &path).await, counts(40, 40, 40));
        app.close().await;
    })
    .await;
}
