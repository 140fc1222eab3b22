//! The token in `operator.token`: who becomes an operator by a file that a start reads, and who does not.

use std::{fs, path::Path};

use entity::UnixMillis;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::{
    clock::Clock,
    config::{Config, DatabaseUrl, Limits},
    daemon::Daemon,
    service::Tokens,
    state_dir::{self, StateDir},
};

use crate::{
    database::{Database, on_each},
    http_app::json as with_json,
    world::http_client,
};

/// A daemon with this state directory, and its file's token.
struct Running {
    daemon: Daemon,
    token: String,
}

impl Running {
    async fn start(database: &Database, state: &Path) -> Self {
        let mut config = Config { state_dir: state.to_owned(), ..Config::default() };
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        config.database.url = Some(database.url.parse::<DatabaseUrl>().unwrap());
        // One key for all directories.
        config.encryption.master_key =
            Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned().into());
        config.limits = Limits::off();
        let clock = Clock::manual(UnixMillis(1_800_000_000_000));
        let daemon = Box::pin(Daemon::start(config, clock)).await.unwrap();
        let token = fs::read_to_string(daemon.operator_token_path()).unwrap().trim().to_owned();
        Self { daemon, token }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("http://{}{path}", self.daemon.address());
        let mut request = http_client().request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = with_json(request, &body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str, token: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, path, token, None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn opens(&self, token: &str) -> bool {
        let (status, _) = self.ask(Method::GET, "/", token, None).await;
        assert!(status == StatusCode::OK || status == StatusCode::UNAUTHORIZED, "{status}");
        status == StatusCode::OK
    }

    /// Another operator's token.
    async fn another(&self) -> String {
        let body = Some(json!({ "role": "operator" }));
        let (status, made) = self.ask(Method::POST, "/api/tokens", &self.token, body).await;
        assert_eq!(status, 201, "{made}");
        made["data"]["secret"].as_str().unwrap().to_owned()
    }

    /// Revokes the file's token.
    async fn revoke(&self) {
        let tokens = Tokens::new(self.daemon.store().clone());
        let own = tokens.authenticate(&self.token).await.unwrap().token_id.unwrap();
        let path = format!("/api/tokens/{own}");
        assert_eq!(self.ask(Method::DELETE, &path, &self.token, None).await.0, 200);
        assert!(!self.opens(&self.token).await);
    }

    async fn end(self) {
        assert!(self.daemon.shutdown().await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_stays_so_whatever_is_left_of_it_in_the_database() {
    on_each(async |database: &Database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = Running::start(database, &state).await;
        let other = first.another().await;
        first.revoke().await;
        first.end().await;

        let again = Running::start(database, &state).await;
        assert!(!again.opens(&again.token).await && again.opens(&other).await);
        let revoked = again.token.clone();
        again.end().await;

        // As retention did before it knew better, and as a copy is from before the token was.
        database.execute("DELETE FROM token WHERE revoked_at IS NOT NULL").await;
        let again = Running::start(database, &state).await;
        assert_eq!(again.token, revoked);
        assert!(!again.opens(&revoked).await && again.opens(&other).await);
        let made = again.get("/api/audit?action=token_created", &other).await;
        let of_file = made["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["detail"]["label"] == "operator.token");
        let of_file: Vec<_> = of_file.collect();
        assert_eq!(of_file.len(), 1, "the first start: {made}");
        assert_eq!(of_file[0]["detail"]["role"], "operator");
        assert_eq!((&of_file[0]["tokenId"], &of_file[0]["address"]), (&Value::Null, &Value::Null));
        again.end().await;

        // Whoever wants another one deletes the file, and that is written down.
        fs::remove_file(state_dir::token_path(&state)).unwrap();
        let again = Running::start(database, &state).await;
        assert_ne!(again.token, revoked);
        assert!(again.opens(&again.token).await && !again.opens(&revoked).await);
        let made = again.get("/api/audit?action=token_created", &other).await;
        assert_eq!(made["data"][0]["detail"]["label"], "operator.token");
        assert!(!made.to_string().contains("wag_"));
        again.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_daemon_of_a_database_has_the_token_that_it_made_and_none_that_it_was_given() {
    on_each(async |database: &Database| {
        let dir = tempfile::tempdir().unwrap();
        let state = |name: &str| dir.path().join(name);
        // Before the first start the database has none, so the operator's own is taken.
        let own = Tokens::new_secret();
        fs::create_dir(state("one")).unwrap();
        fs::write(state_dir::token_path(&state("one")), format!("{own}\n")).unwrap();
        let one = Running::start(database, &state("one")).await;
        assert!(one.opens(&own).await);
        one.end().await;
        let two = Running::start(database, &state("two")).await;
        assert_ne!(two.token, own);
        assert!(two.opens(&two.token).await && two.opens(&own).await);
        two.end().await;

        // Killed between the file and the database.
        let dying = StateDir::open(&state("three")).unwrap();
        let made = dying.operator_token(Tokens::new_secret).unwrap();
        drop(dying);
        let three = Running::start(database, &state("three")).await;
        assert_eq!(three.token, made.secret);
        assert!(three.opens(&made.secret).await);
        three.revoke().await;
        three.end().await;
        assert!(!state_dir::is_untold(&state("three")));
        let three = Running::start(database, &state("three")).await;
        assert!(!three.opens(&made.secret).await);
        three.end().await;

        let unknown = Tokens::new_secret();
        fs::create_dir(state("four")).unwrap();
        fs::write(state_dir::token_path(&state("four")), &unknown).unwrap();
        let four = Running::start(database, &state("four")).await;
        assert!(!four.opens(&unknown).await && four.opens(&own).await);
        four.end().await;
    })
    .await;
}
