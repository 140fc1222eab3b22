//! What clients elsewhere post to two daemons of one database at the same moment.

use entity::state::{Role, SessionStatus};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::{Database, Kind, on},
    http_app::{Answer, App, json as with_json},
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
