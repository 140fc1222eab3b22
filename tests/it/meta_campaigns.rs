//! Campaigns whose messages are sent here: attached by our id of a message, and counted whatever becomes of it.

use serde_json::{Value, json};

use crate::{
    database::on_each,
    graph::{hello as text_to, refuses, shop, take, takes},
    http_app::App,
    meta_processing::tell,
    meta_statuses::{add, campaign, status, sums},
    receiver::Receiver,
};

async fn member(app: &App, campaign: &str, number: &str) -> Value {
    let page = app.get(&format!("{campaign}/audience?limit=500")).await.json()["data"].clone();
    let all = page.as_array().unwrap();
    all.iter().find(|it| it["phoneNumber"] == number).unwrap_or_else(|| panic!("{all:#?}")).clone()
}

/// Sends to somebody, and answers our id of the message.
async fn send(app: &App, path: &str, to: &str) -> String {
    let location = take(app, path, text_to(to, "Sale!")).await;
    location.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_that_is_sent_here_counts_for_whom_it_is_attached_to_by_our_id_of_it() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, path) = shop(database, &graph).await;
        let campaign = campaign(&app).await;
        let numbers = ["16505550001", "16505550002", "16505550003", "16505550004"];
        // Attached before Meta has it, and after; taken by Meta, and refused.
        let cases = [
            (true, takes("wamid.early")),
            (true, refuses(400, 131_026)),
            (false, takes("wamid.late")),
            (false, refuses(400, 131_026)),
        ];
        let mut ids = Vec::new();
        for (number, (is_early, answer)) in numbers.into_iter().zip(cases) {
            let id = send(&app, &path, number).await;
            let members = json!([{ "phoneNumber": number, "messageId": id }]);
            let attached = json!({ "added": 1, "attached": 1, "unchanged": 0 });
            if is_early {
                assert_eq!(add(&app, &campaign, members.clone()).await, attached);
                assert_eq!(member(&app, &campaign, number).await["state"], "attached");
            }
            graph.next([answer]);
            app.sender.drive().await.unwrap();
            if !is_early {
                assert_eq!(add(&app, &campaign, members).await, attached);
            }
            ids.push(id);
        }
        let early = &ids[0];
        let mut states = Vec::new();
        for number in numbers {
            let it = member(&app, &campaign, number).await;
            states.push((it["state"].clone(), it["error"].clone()));
        }
        let failed = (json!("failed"), json!("131026"));
        let sent = (json!("sent"), Value::Null);
        assert_eq!(states, [sent.clone(), failed.clone(), sent, failed]);
        tell(&app, &[status("wamid.early", "read", 1_799_999_003)]).await;
        let all = json!({ "audience": 4, "attached": 4, "sent": 2, "delivered": 1, "read": 1, "played": 0, "failed": 2 });
        assert_eq!(sums(&app, &campaign).await, all);
        assert_eq!(member(&app, &campaign, numbers[0]).await["messageId"], "wamid.early");
        let counted = app.post(&format!("{campaign}/recount"), json!({})).await.json()["data"].clone();
        assert_eq!(counted["drift"], false, "{counted:#}");
        // The same id again is the same message; one that is none of the session's is refused.
        let again = add(&app, &campaign, json!([{ "phoneNumber": numbers[0], "messageId": early }])).await;
        assert_eq!(again, json!({ "added": 0, "attached": 0, "unchanged": 1 }));
        let strange = json!({ "members": [{ "phoneNumber": numbers[0], "messageId": "msg_01JJ2Q8ZK4XG0V3M5N7P9R1T3V" }] });
        app.post(&format!("{campaign}/audience"), strange).await.invalid(&["/members/0/messageId"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_member_had_come_to_stays_when_what_was_told_of_it_is_gone() {
    on_each(async |database| {
        let graph = Receiver::start().await;
        let (app, _) = shop(database, &graph).await;
        let campaign = campaign(&app).await;
        add(&app, &campaign, json!([
            { "phoneNumber": "16505550001", "messageId": "wamid.1" }, { "phoneNumber": "16505550002", "messageId": "wamid.2" },
        ])).await;
        tell(&app, &[status("wamid.1", "sent", 1_799_999_000), status("wamid.1", "read", 1_799_999_003)]).await;
        tell(&app, &[status("wamid.2", "failed", 1_799_999_000)]).await;
        let before = (sums(&app, &campaign).await, member(&app, &campaign, "16505550001").await["readAt"].clone());
        database.execute("DELETE FROM message_status").await;
        database.execute("DELETE FROM meta_event WHERE subtype IN ('read', 'failed')").await;
        tell(&app, &[status("wamid.2", "sent", 1_799_999_001)]).await;
        app.post("/api/meta/events/reprocess", json!({})).await;
        app.meta.drive().await.unwrap();
        let mut expected = before.0.clone();
        expected["sent"] = json!(2);
        let after = (sums(&app, &campaign).await, member(&app, &campaign, "16505550001").await["readAt"].clone());
        assert_eq!(after, (expected, before.1));
        assert_eq!(member(&app, &campaign, "16505550002").await["state"], "failed");
        app.close().await;
    })
    .await;
}
