//! Handovers at one moment: of two sessions, of two daemons, and a start that comes in between.

use std::collections::BTreeSet;

use entity::state::{DesiredState, SessionStatus};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use wagate::{
    event::Event,
    store::{Patience, Store, events::NewEvent},
};

use crate::{
    database::{Kind, on, on_each},
    handover::{NUMBER, SESSION, account, audited, logged_out, migrate, old, ready, told},
    http_app::App,
};

#[tokio::test]
async fn two_sessions_that_become_ready_at_once_do_not_take_each_other_for_idle() {
    on_each(async |database| {
        let app = App::start(database).await;
        old(&app, "old").await;
        let names: Vec<_> = (0..6).map(|n| format!("new{n}")).collect();
        for name in &names {
            app.session(name).await;
        }
        join_all(names.iter().map(|name| ready(&app, name))).await;
        for name in &names {
            let row = app.row(name).await;
            assert_eq!((row.status, row.migrated_to), (SessionStatus::SessionConnected, None));
        }
        // One of them has what the old one had.
        assert_eq!(audited(&app).await.len(), 1);
        assert_eq!(told(&app).await.len(), 1);
        app.close().await;
    })
    .await;
}

/// Their numbers are known before, so that each could be handed over to each other.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_elsewhere_of_one_number_that_become_ready_at_once_are_all_connected() {
    on_each(async |database| {
        let app = App::start(database).await;
        for round in 0..10 {
            let number = format!("1555003{round:04}");
            let names: Vec<_> = (0..6).map(|n| format!("at{round}-{n}")).collect();
            for name in &names {
                app.external(name, json!({ "phoneNumber": number })).await;
            }
            let told = json!({ "phoneNumber": number });
            join_all(names.iter().map(|name| app.tell(name, "ready", told.clone()))).await;
            for name in &names {
                let row = app.row(name).await;
                assert_eq!((row.status, row.migrated_to), (SessionStatus::SessionConnected, None));
            }
        }
        app.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_elsewhere_is_handed_over_by_hand_or_becomes_ready_and_not_both() {
    on_each(async |database| {
        let app = App::start(database).await;
        for round in 0..16 {
            let number = format!("1555004{round:04}");
            let (old, heir) = (format!("old{round}"), format!("heir{round}"));
            app.external(&old, json!({ "phoneNumber": number })).await;
            app.external(&heir, json!({})).await;
            let typed = json!({ "phoneNumber": number });
            assert_eq!(app.patch(&format!("{SESSION}/{heir}"), typed).await.status, StatusCode::OK);
            // What was never connected takes over from nobody. With a number that was typed in it does so by hand alone.
            let connected = app.tell(&heir, "ready", json!({})).await;
            assert_eq!(connected.status, StatusCode::OK, "{}", connected.text());
            assert_eq!(app.row(&old).await.migrated_to, None);
            let (handed, ready) = tokio::join!(
                migrate(&app, &heir, json!({ "from": [old] })),
                app.tell(&old, "ready", json!({ "phoneNumber": number })),
            );
            assert!(handed.status.as_u16() < 500, "{}", handed.text());
            assert!(!handed.text().contains("SESSION_NEVER_CONNECTED"), "{}", handed.text());
            assert_eq!(ready.status, StatusCode::OK, "{}", ready.text());
            let row = app.row(&old).await;
            let is_connected = row.status == SessionStatus::SessionConnected;
            assert!(row.migrated_to.is_none() || !is_connected, "{}", handed.text());
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn of_two_daemons_whose_sessions_become_ready_at_once_neither_waits_for_the_other_for_ever() {
    on(Kind::Postgres, async |database| {
        let app = App::start(database).await;
        let other = database.open().await;
        for round in 0..8 {
            let [old_id, one, two] = ["old", "one", "two"].map(|name| format!("{name}{round}"));
            old(&app, &old_id).await;
            app.session(&one).await;
            app.session(&two).await;
            let event = async |store: &Store, id: &str| {
                let new = NewEvent {
                    organization_id: app.organization.clone(),
                    session_key: app.row(id).await.id,
                    generation: None,
                    event: Event::Ready(account(NUMBER, None)),
                    at: app.clock.now(),
                    care: None,
                    posted: None,
                };
                store.writer().record(new, Patience::Fail).await.unwrap();
            };
            tokio::join!(event(&app.store, &one), event(&other.store, &two));
            for id in [&one, &two] {
                let row = app.row(id).await;
                assert_eq!(
                    (row.status, &row.migrated_to),
                    (SessionStatus::SessionConnected, &None)
                );
            }
            // What is connected hands over to nobody, so that each round begins anew.
            logged_out(&app, &one).await;
            logged_out(&app, &two).await;
        }
        // Each round's old one and the two of each round before, one by one.
        let audited = audited(&app).await;
        let distinct: BTreeSet<_> = audited.iter().map(|(old, _)| old).collect();
        assert_eq!(distinct.len(), audited.len(), "{audited:?}");
        other.close().await;
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_start_and_a_handover_at_the_same_moment_have_one_winner() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (mut started, mut handed_over) = (0, 0);
        for round in 0..12 {
            let (old_id, new) = (format!("old{round}"), format!("new{round}"));
            // A number of its own, so that rounds have nothing to do with each other.
            let number = format!("1555001{round:04}");
            app.session(&old_id).await;
            app.happen(&old_id, Event::Ready(account(&number, None))).await;
            logged_out(&app, &old_id).await;
            app.session(&new).await;
            let path = format!("{SESSION}/{old_id}/start");
            let (answer, _) = tokio::join!(app.post(&path, json!({})), async {
                // Neither always comes first.
                for _ in 0..(round * 3) {
                    tokio::task::yield_now().await;
                }
                app.happen(&new, Event::Ready(account(&number, None))).await
            });
            let row = app.row(&old_id).await;
            if row.migrated_to.is_some() {
                let problem = answer.json();
                assert!(problem["code"] == "SESSION_MIGRATED" || answer.status == 503, "{problem}");
                assert_eq!(row.desired_state, DesiredState::Stopped);
                assert_eq!(row.status, SessionStatus::SessionNotConnected, "it does not run");
                handed_over += 1;
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                assert_eq!(row.desired_state, DesiredState::Running);
                started += 1;
                app.post(&format!("{SESSION}/{old_id}/stop"), json!({})).await;
            }
        }
        assert_eq!(started + handed_over, 12);
        app.close().await;
    })
    .await;
}
