//! The place of an organization that one has left which has handed over, and comes back at the moment that its heir does.

use std::time::Duration;

use serde_json::json;
use wagate::{
    event::Event,
    store::{
        Patience,
        events::{Mark, NewEvent, Posted, Recorded},
    },
};

use crate::{
    database::{Kind, on_each},
    handover::{NUMBER, account},
    http_app::App,
};

/// That it is connected, as its client would post it.
async fn ready(app: &App, id: &str) -> NewEvent {
    let at = app.clock.now();
    let mark = Mark::Latest("is back".to_owned());
    NewEvent {
        organization_id: app.organization.clone(),
        session_key: app.row(id).await.id,
        generation: None,
        event: Event::Ready(account(NUMBER, None)),
        at,
        care: None,
        posted: Some(Posted {
            mark,
            until: at,
            came: at,
            to: None,
            says_whose: false,
            request: None,
        }),
    }
}

#[tokio::test]
async fn an_heir_that_is_back_in_the_same_group_of_events_leaves_its_place_to_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["vps", "heir"] {
            app.clock.advance(Duration::from_secs(1));
            app.external(id, json!({})).await;
            app.tell(id, "ready", json!({ "phoneNumber": NUMBER })).await;
            app.clock.advance(Duration::from_secs(1));
            app.tell(id, "disconnected", json!({ "reason": "LOGOUT" })).await;
        }
        assert_eq!(app.row("vps").await.migrated_to, Some(app.row("heir").await.id));
        let own = format!("/api/organizations/{}", app.organization);
        assert_eq!(app.patch(&own, json!({ "maxSessions": 1 })).await.status, 200);
        app.clock.advance(Duration::from_secs(1));
        let (heir, vps) = (ready(&app, "heir").await, ready(&app, "vps").await);
        let writer = app.store.writer();
        let (heir, vps) =
            tokio::join!(writer.record(heir, Patience::Fail), writer.record(vps, Patience::Fail));
        let is_new = |it: &Recorded| matches!(it, Recorded::New { .. });
        let answers = [heir.unwrap(), vps.unwrap()];
        // With several lanes it may be the other way round.
        if database.kind == Kind::Sqlite {
            assert!(is_new(&answers[0]), "{answers:?}");
        }
        assert_eq!(answers.iter().filter(|it| is_new(it)).count(), 1, "{answers:?}");
        assert!(answers.contains(&Recorded::Full), "{answers:?}");
        let connected = "SELECT count(*) FROM session WHERE status = 'session_connected'";
        assert_eq!(database.count(connected).await, 1);
        app.close().await;
    })
    .await;
}
