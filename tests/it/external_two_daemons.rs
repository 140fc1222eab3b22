//! What clients elsewhere post to two daemons of one database at the same moment.

use std::{pin::pin, time::Instant};

use entity::{
    kind::AuditAction,
    state::{Role, SessionStatus},
};
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use wagate::store::{
    audit::By,
    sessions::{Change, Changed, Settings},
};

use crate::{
    database::{Database, Kind, on, on_each},
    http_app::{Answer, App, json as with_json},
    world::DEADLINE,
};

/// Two daemons, and a token that both know.
struct Pair {
    one: App,
    other: App,
    token: String,
}

impl Pair {
    async fn start(database: &Database) -> Self {
        let (one, other) = (App::start(database).await, App::start(database).await);
        let token = one.token_of(&one.organization, Role::Manager).await;
        Self { one, other, token }
    }

    /// Posts one body to each at once, under a key if there is one.
    async fn tell(&self, id: &str, key: Option<&str>, bodies: [&Value; 2]) -> [Answer; 2] {
        let post = async |app: &App, body: &Value| {
            let path = format!("/api/whatsapp/webhook/{id}");
            let mut request = app.anonymous(Method::POST, &path).bearer_auth(&self.token);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            Answer::to(with_json(request, body)).await
        };
        let [one, other] = bodies;
        tokio::join!(post(&self.one, one), post(&self.other, other)).into()
    }

    /// Posts a body to one of them.
    async fn post(&self, app: &App, path: &str, body: &Value) -> Answer {
        let request = app.anonymous(Method::POST, path).bearer_auth(&self.token);
        Answer::to(with_json(request, body)).await
    }

    async fn close(self) {
        self.other.close().await;
        self.one.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_daemons_are_told_at_once_is_recorded_by_one() {
    on(Kind::Postgres, async |database| {
        let pair = Pair::start(database).await;
        for round in 0..12 {
            let id = format!("shop{round}");
            pair.one.external(&id, json!({})).await;
            let message = json!({ "event": "message", "data": { "message": {
                "id": "3EB0", "from": "6281234567890@c.us", "body": "x",
            } } });
            let ready = json!({ "event": "ready" });
            let state = json!({ "event": "change_state", "data": { "state": "TIMEOUT" } });
            for (key, body) in [(None, &message), (None, &ready), (Some("k1"), &state)] {
                let answers = pair.tell(&id, key, [body, body]).await;
                let mut told: Vec<_> = answers
                    .iter()
                    .map(|answer| {
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        let data = &answer.json()["data"];
                        (data["recorded"] == true, data["duplicate"] == true)
                    })
                    .collect();
                told.sort_unstable();
                assert_eq!(told, [(false, true), (true, false)], "{body}");
            }
            // One key is for one request.
            let qr = json!({ "event": "qr", "data": { "qr": "2@x" } });
            let gone = json!({ "event": "disconnected" });
            let answers = pair.tell(&id, Some("k2"), [&qr, &gone]).await;
            let mut statuses = answers.map(|answer| answer.status.as_u16());
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 422]);
        }
        Box::pin(pair.close()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_later_counts_whichever_daemon_is_told_of_it_first() {
    on(Kind::Postgres, async |database| {
        let pair = Pair::start(database).await;
        let now = pair.one.clock.now().0;
        for round in 0..16 {
            let id = format!("shop{round}");
            pair.one.external(&id, json!({})).await;
            let gone = json!({ "event": "disconnected", "timestamp": now - 60_000 });
            let ready = json!({ "event": "ready", "timestamp": now - 30_000 });
            let answers = pair.tell(&id, None, [&ready, &gone]).await;
            for answer in &answers {
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            assert_eq!(pair.one.row(&id).await.status, SessionStatus::SessionConnected);
        }
        Box::pin(pair.close()).await;
    })
    .await;
}

/// Drives a future until at least so many of the database's connections wait for a lock.
async fn kept_waiting(
    database: &Database,
    asked: &mut (impl Future<Output = Answer> + Unpin),
    least: i64,
) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + DEADLINE;
    while database.count(waiting).await < least {
        assert!(Instant::now() < deadline, "nobody is kept waiting");
        let answered =
            tokio::time::timeout(std::time::Duration::from_millis(20), &mut *asked).await;
        assert!(answered.is_err(), "it is not kept waiting: {}", answered.unwrap().text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_changed_while_a_status_is_recorded_elsewhere_stays_changed_unless_that_says_one()
 {
    on(Kind::Postgres, async |database| {
        let pair = Pair::start(database).await;
        let (said, meant) = ("15550001111", "15550002222");
        for (round, (body, stays)) in [
            (json!({ "event": "change_state", "data": { "state": "TIMEOUT" } }), meant),
            (json!({ "event": "ready", "data": { "pushName": "Shop" } }), meant),
            (json!({ "event": "qr", "data": { "qr": "2@x" } }), meant),
            // It says whose it is, be that what was typed in.
            (json!({ "event": "ready", "data": { "phoneNumber": said } }), said),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("shop{round}");
            pair.one.external(&id, json!({ "phoneNumber": said })).await;
            let before = pair.one.row(&id).await.status;
            // What is told has been decided, and cannot be written yet.
            let holder = database.connect().await;
            let held = holder.begin().await.unwrap();
            held.execute_unprepared("LOCK TABLE event IN SHARE MODE").await.unwrap();
            let path = format!("/api/whatsapp/webhook/{id}");
            let mut told = pin!(pair.post(&pair.other, &path, &body));
            kept_waiting(database, &mut told, 1).await;
            let path = format!("/api/whatsapp/session/{id}");
            let changed = pair.one.patch(&path, json!({ "phoneNumber": meant })).await;
            assert_eq!(changed.status, 200, "{}", changed.text());
            held.rollback().await.unwrap();
            let told = told.await;
            assert_eq!(
                (told.status.as_u16(), &told.json()["data"]["recorded"]),
                (200, &json!(true))
            );
            let row = pair.one.row(&id).await;
            assert_eq!(row.phone_number.as_deref(), Some(stays), "{body}");
            let jid = (stays == said).then(|| format!("{said}@s.whatsapp.net"));
            assert_eq!(row.account_jid, jid, "one row has one number: {body}");
            assert_ne!(row.status, before);
        }
        Box::pin(pair.close()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_an_account_that_is_told_elsewhere_meanwhile_is_not_replaced_by_a_said_one() {
    on(Kind::Postgres, async |database| {
        let pair = Pair::start(database).await;
        let (own, meant) = ("15550001111", "15550002222");
        pair.one.external("shop", json!({})).await;
        let holder = database.connect().await;
        let held = holder.begin().await.unwrap();
        held.execute_unprepared("SELECT id FROM session FOR NO KEY UPDATE").await.unwrap();
        let ready = json!({ "event": "ready", "data": { "phoneNumber": own } });
        let path = "/api/whatsapp/webhook/shop";
        let change = json!({ "phoneNumber": meant });
        let (told, changed) = {
            let mut told = pin!(pair.post(&pair.other, path, &ready));
            kept_waiting(database, &mut told, 1).await;
            let mut changed = pin!(pair.one.patch("/api/whatsapp/session/shop", change));
            kept_waiting(database, &mut changed, 2).await;
            held.rollback().await.unwrap();
            tokio::join!(told, changed)
        };
        assert_eq!(told.status, 200, "{}", told.text());
        // On a machine that is slow, the other one may have begun anew, and come after it.
        if changed.status != 200 {
            changed.problem(409, "PHONE_NUMBER_KNOWN");
        }
        assert_eq!(pair.one.row("shop").await.phone_number.as_deref(), Some(own));
        Box::pin(pair.close()).await;
    })
    .await;
}

/// Whoever asks has looked before, and it may have become known since.
#[tokio::test]
async fn the_store_changes_no_number_of_a_known_account_whatever_else_is_to_be_changed() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.external("shop", json!({ "phoneNumber": "15550002222" })).await;
        let change = async |number: &str| {
            let settings = Settings {
                phone_number: Change::To(number.to_owned()),
                user_id: Change::To(format!("of {number}")),
                ..Settings::default()
            };
            let key = app.row("shop").await.id;
            let by = (AuditAction::SessionChanged, By::default());
            app.store.sessions().change(&app.organization, &key, settings, by).await.unwrap()
        };
        assert!(matches!(change("15550003333").await, Changed::Done(_)));
        app.tell("shop", "ready", json!({ "phoneNumber": "15550001111" })).await;
        assert_eq!(change("15550004444").await, Changed::NumberKnown);
        let row = app.row("shop").await;
        assert_eq!(row.phone_number.as_deref(), Some("15550001111"));
        assert_eq!(row.user_id.as_deref(), Some("of 15550003333"), "nothing else is changed");
        assert!(matches!(change("15550001111").await, Changed::Done(_)), "it is that number");
        app.close().await;
    })
    .await;
}
