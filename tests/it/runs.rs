//! A session's runs follow one another: what an earlier one says late changes nothing.

use entity::{
    UnixMillis,
    id::{MessageId, in_order},
    kind::MessageKind,
    state::{Direction, MessageStatus},
};
use serde_json::json;
use wagate::{
    event::{Account, AuthFailure, Care, Change, Disconnect, Event, Loss, NewMessage},
    store::{
        Patience,
        events::{NewEvent, Recorded},
    },
};

use crate::{database::on_each, http_app::App};

async fn say(app: &App, generation: i64, event: Event) -> Recorded {
    say_with(app, generation, event, None).await
}

async fn say_with(app: &App, generation: i64, event: Event, care: Option<Care>) -> Recorded {
    let new = NewEvent {
        organization_id: app.organization.clone(),
        session_key: app.row("sales").await.id,
        generation: Some(generation),
        event,
        at: app.clock.now(),
        care,
        posted: None,
    };
    app.store.writer().record(new, Patience::Fail).await.unwrap()
}

fn message() -> Event {
    Event::Message(Box::new(NewMessage {
        id: MessageId::new(UnixMillis(1), in_order(1)),
        wa_id: "3EB0".to_owned(),
        chat: "15550002222@s.whatsapp.net".to_owned(),
        sender: "15550002222@s.whatsapp.net".to_owned(),
        direction: Direction::Inbound,
        kind: MessageKind::Text,
        body: Some("hello".to_owned()),
        target_wa_id: None,
        interaction: None,
        raw: None,
        push_name: None,
        sent_at: UnixMillis(1),
        is_group: false,
        offline: false,
        status: MessageStatus::Received,
    }))
}

#[tokio::test]
async fn a_run_that_another_has_followed_changes_no_status_and_loses_no_message() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("sales").await;
        let key = app.row("sales").await.id;
        let first = app.store.sessions().next_generation(&key).await.unwrap().unwrap();
        let second = app.store.sessions().next_generation(&key).await.unwrap().unwrap();
        assert!(matches!(
            say(&app, second, Event::Ready(Account::default())).await,
            Recorded::New { .. }
        ));
        let before = app.row("sales").await;

        let lost = Change::Reconnecting { reason: Loss::Silent, next_attempt_at: None };
        for late in [
            Event::ChangeState(lost),
            Event::Disconnected(Disconnect::LoggedOut { code: Some(401) }),
            Event::Qr { qr: "2@late".to_owned(), expires_at: app.clock.now() },
            Event::Ready(Account {
                phone_number: Some("15550009999".to_owned()),
                ..Account::default()
            }),
        ] {
            assert_eq!(say(&app, first, late).await, Recorded::Stale);
        }
        assert_eq!(app.row("sales").await, before);
        // What was received was received, whoever says so.
        assert!(matches!(say(&app, first, message()).await, Recorded::New { .. }));
        assert_eq!(say(&app, second, message()).await, Recorded::Duplicate);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_dial_ends_the_wait_before_it_unless_nothing_else_says_that_the_session_is_dialled() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("sales").await;
        let key = app.row("sales").await.id;
        let run = app.store.sessions().begin_run(&key).await.unwrap().unwrap();
        let at = Some(app.clock.now());
        let lost = Change::Reconnecting { reason: Loss::Silent, next_attempt_at: at };
        for (event, left) in [
            (Event::ChangeState(lost), None),
            // It is not said to be connecting: the database did not take that.
            (Event::AuthFailure(AuthFailure::AccountLocked), at),
        ] {
            let care = Care { next_attempt_at: at, ..Care::default() };
            say_with(&app, run, event, Some(care)).await;
            assert_eq!(app.row("sales").await.next_attempt_at, at);
            app.store.sessions().note_dial(&key, 2).await.unwrap();
            let row = app.row("sales").await;
            assert_eq!((row.next_attempt_at, row.dial_failures), (left, 2));
            assert_eq!(row.last_dial_at, at);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_remembered_of_a_session_goes_with_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        for id in ["a", "b", "c"] {
            app.session(id).await;
            // It dials in vain.
            app.post(&format!("/api/whatsapp/session/{id}/start"), json!({})).await;
        }
        assert_eq!(app.known_sessions(), 3);
        for (id, left) in [("a", 2), ("c", 1), ("b", 0)] {
            let deleted = app.delete(&format!("/api/whatsapp/session/{id}")).await;
            assert_eq!(deleted.status, 200, "{}", deleted.text());
            assert_eq!(app.known_sessions(), left, "{id} is gone");
            // Who asks for it now finds nothing, and leaves nothing.
            let gone = app.post(&format!("/api/whatsapp/session/{id}/restart"), json!({})).await;
            assert_eq!(gone.status, 404);
            assert_eq!(app.known_sessions(), left);
        }
        app.close().await;
    })
    .await;
}
