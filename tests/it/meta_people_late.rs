//! Who is who where Meta's messages and notices come in another order than they were written in, or name more or less.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    graph::{hello as text_to, shop, take, takes},
    meta_people::{NEW, OLD, by, from, people, talks},
    meta_processing::tell,
    receiver::Receiver,
};

/// When the first of it was written, in seconds.
const T: i64 = 1_799_999_000;

fn by_at(number: &str, user: &str, id: &str, at: i64) -> Value {
    let mut value = by(number, user, id);
    value["messages"][0]["timestamp"] = json!(at.to_string());
    value
}

/// A notice of a second after T.
fn notice(id: &str, from_whom: &Value, system: &Value) -> Value {
    let mut message = json!({ "id": id, "timestamp": (T + 1).to_string(), "type": "system" });
    for (name, value) in from_whom.as_object().unwrap() {
        message[name] = value.clone();
    }
    message["system"] = system.clone();
    message["system"]["type"] = json!("user_changed_number");
    json!({ "messages": [message] })
}

#[tokio::test]
async fn a_message_that_is_told_late_takes_nobody_s_number() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        tell(&app, &[by_at(OLD, "US.2", "new", T + 10)]).await;
        tell(&app, &[by_at(OLD, "US.1", "late", T)]).await;
        assert_eq!(people(&app).await.len(), 2);
        assert_eq!(from(&app, "new").await, format!("{OLD}@c.us"));
        assert_eq!(from(&app, "late").await, "US.1@bsuid");
        take(&app, &path, text_to(&from(&app, "new").await, "an answer")).await;
        graph.next([takes("wamid.a")]);
        app.sender.drive().await.unwrap();
        let said = talks(&app).await;
        assert_eq!(said[0].0, format!("{OLD}@c.us"));
        assert_eq!(said[0].1[0], "new");
        assert_eq!(said[0].1.len(), 2);
        assert_eq!(said[1], ("US.1@bsuid".to_owned(), vec!["late".to_owned()]));
        // What is written later takes it.
        tell(&app, &[by_at(OLD, "US.1", "again", T + 20)]).await;
        assert_eq!(from(&app, "again").await, format!("{OLD}@c.us"));
        assert_eq!(people(&app).await.len(), 2);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_tells_of_a_new_number_stays_one_and_nobody_else_is_taken_for_him() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        // Whether the notice names the new id, and the old one.
        let shapes = [(false, true), (true, true), (true, false)];
        for (n, (names_new, names_old)) in shapes.into_iter().enumerate() {
            let (old, new) = (format!("1650555123{n}"), format!("1219555535{n}"));
            let id = |what: &str| format!("US.{n}{what}");
            let (mut from_whom, mut system) = (json!({ "from": old }), json!({ "wa_id": new }));
            if names_old {
                from_whom["from_user_id"] = json!(id("old"));
            }
            if names_new {
                system["user_id"] = json!(id("new"));
            }
            tell(&app, &[by(&old, &id("old"), &id("1"))]).await;
            tell(&app, &[notice(&id("2"), &from_whom, &system)]).await;
            let count = async || people(&app).await.len() - 2 * n;
            assert_eq!(count().await, 1, "{n}");
            if !names_new {
                tell(&app, &[by_at(&new, &id("new"), &id("3"), T + 3)]).await;
                assert_eq!(count().await, 1, "{n}");
                assert_eq!(talks(&app).await.len(), 1, "{n}");
            }
            // Whoever has the number next is told apart, whether he has written or not.
            tell(&app, &[by_at(&new, &id("other"), &id("4"), T + 4)]).await;
            assert_eq!(count().await, 2, "{n}");
            tell(&app, &[by_at(&format!("1219555000{n}"), &id("new"), &id("5"), T + 5)]).await;
            assert_eq!(count().await, 2, "{n}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_moves_to_a_number_that_somebody_had_is_not_taken_for_him() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        tell(&app, &[by(NEW, "US.z", "1"), by(OLD, "US.x", "2")]).await;
        let system = json!({ "wa_id": NEW, "user_id": "US.xn" });
        tell(&app, &[notice("3", &json!({ "from": OLD, "from_user_id": "US.x" }), &system)]).await;
        assert_eq!(people(&app).await.len(), 2);
        tell(&app, &[by_at(NEW, "US.xn", "4", T + 2)]).await;
        assert_eq!(people(&app).await.len(), 2);
        assert_eq!(from(&app, "4").await, format!("{NEW}@c.us"));
        let said = talks(&app).await;
        assert_eq!(said[1], ("US.z@bsuid".to_owned(), vec!["1".to_owned()]));
        // A notice that is told late takes the number from nobody who has written since.
        let third = "12195550000";
        tell(&app, &[by(third, "US.y", "5")]).await;
        let system = json!({ "wa_id": NEW, "user_id": "US.yn" });
        tell(&app, &[notice("6", &json!({ "from": third, "from_user_id": "US.y" }), &system)])
            .await;
        let all = people(&app).await;
        assert_eq!(all.len(), 3, "{all:#?}");
        let yn = json!([{ "kind": "user_id", "value": "US.yn" }]);
        assert!(all.iter().any(|it| it["identities"] == yn), "{all:#?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_notice_that_says_nothing_of_the_present_leaves_somebody_what_they_are_called_by() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let mut wrote = by("", "US.1", "1");
        wrote["contacts"] = json!([]);
        tell(&app, &[wrote]).await;
        let mut told = notice(
            "2",
            &json!({ "from": "", "from_user_id": "US.1" }),
            &json!({ "previous_user_id": "US.1" }),
        );
        told["messages"][0]["system"]["type"] = json!("user_changed_user_id");
        tell(&app, &[told]).await;
        let all = people(&app).await;
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["identities"], json!([{ "kind": "user_id", "value": "US.1" }]));
        app.close().await;
    })
    .await;
}
