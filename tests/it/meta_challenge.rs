//! Meta's challenge, on each of the addresses that it may come to.

use reqwest::Method;
use serde_json::{Value, json};
use wagate::{
    http::{Limits, Quota},
    service::meta::{Open, Options},
};

use crate::{
    database::on_each,
    http_app::{Answer, App},
    meta::{NUMBER, SECRET, SHARED, SHORT, WABA, complete, set_up, tenant},
};

async fn challenge(app: &App, path: &str, query: &str) -> Answer {
    Answer::to(app.anonymous(Method::GET, &format!("{path}?{query}"))).await
}

fn query(token: &str) -> String {
    format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge=test123")
}

/// Refused, and nothing of what was sent is in the answer.
#[track_caller]
fn refused(answer: &Answer) {
    answer.problem(403, "META_CHALLENGE_REFUSED");
    assert!(!answer.text().contains("test123"), "{}", answer.text());
}

async fn state(app: &App, account: &Value) -> (Value, bool) {
    let path = format!("/api/meta/accounts/{}", account["id"].as_str().unwrap());
    let now = app.get(&path).await.json()["data"].clone();
    (now["status"].clone(), now["lastVerifiedAt"].is_string())
}

#[tokio::test]
async fn the_right_token_is_answered_with_the_challenge_on_all_three_addresses_and_verifies_the_account()
 {
    on_each(async |database| {
        let app = App::start(database).await;
        for (n, number) in ["1", "2", "3"].into_iter().enumerate() {
            let account = set_up(&app, &app.token, complete(number, WABA, SECRET)).await;
            let own = account["ownPath"].as_str().unwrap();
            let path = [SHARED, SHORT, own][n];
            assert_eq!(state(&app, &account).await, (json!("unverified"), false));
            let answer =
                challenge(&app, path, &query("verify-").replace("verify-", "verify-x")).await;
            refused(&answer);
            assert_eq!(state(&app, &account).await, (json!("unverified"), false));
            let answer = challenge(&app, path, &query(&format!("verify-{number}"))).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "test123"), "{path}");
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(state(&app, &account).await, (json!("verified"), true));
            let target = account["id"].as_str().unwrap();
            let log =
                app.get(&format!("/api/audit?action=meta_account_verified&target={target}")).await;
            assert_eq!(log.json()["data"].as_array().unwrap().len(), 1);
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whatever_is_wrong_is_403_and_nothing_is_echoed() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let good = format!("verify-{NUMBER}");
        let own = account["ownPath"].as_str().unwrap();
        let long = "1".repeat(300);
        for wrong in [
            String::new(),
            query(""),
            query("verify-another"),
            query(&good.to_uppercase()),
            query(&format!("{good}%00")),
            query(&"x".repeat(300)),
            query(&good).replace("subscribe", "unsubscribe"),
            query(&good).replace("hub.mode=subscribe&", ""),
            query(&good).replace("&hub.challenge=test123", ""),
            query(&good).replace("test123", ""),
            query(&good).replace("test123", "%3Cscript%3E%20test123"),
            query(&good).replace("test123", &long),
            format!("{}&hub.verify_token={good}", query(&good)),
            format!("hub.verify_token={good}&%ff=%ff&hub.challenge=test123"),
        ] {
            for path in [SHARED, SHORT, own] {
                let answer = challenge(&app, path, &wrong).await;
                refused(&answer);
            }
        }
        // An address that is nobody's is refused alike, whatever it is called.
        for path in [format!("{own}x"), format!("{SHARED}/x"), format!("{SHARED}/%F0%9F%98%80")] {
            refused(&challenge(&app, &path, &query(&good)).await);
        }
        assert_eq!(state(&app, &account).await, (json!("unverified"), false));
        assert_eq!(challenge(&app, SHARED, &query(&good)).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_that_is_disabled_or_incomplete_is_not_verified() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let path = format!("/api/meta/accounts/{}", account["id"].as_str().unwrap());
        let own = account["ownPath"].as_str().unwrap();
        let good = query(&format!("verify-{NUMBER}"));
        app.post(&format!("{path}/status"), json!({ "status": "disabled" })).await;
        for at in [SHARED, SHORT, own] {
            refused(&challenge(&app, at, &good).await);
        }
        app.post(&format!("{path}/status"), json!({ "status": "unverified" })).await;
        for member in ["wabaId", "appId", "appSecret", "accessToken"] {
            let before = app.patch(&path, json!({ member: null })).await.json()["data"].clone();
            assert_eq!(before["missing"], json!([member]));
            for at in [SHARED, SHORT, own] {
                refused(&challenge(&app, at, &good).await);
            }
            let again = complete(NUMBER, WABA, SECRET)[member].clone();
            app.patch(&path, json!({ member: again })).await;
        }
        assert_eq!(challenge(&app, own, &good).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_token_verifies_every_account_that_has_it_and_no_other() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, other) = tenant(&app, "other").await;
        let mut accounts = Vec::new();
        for (number, token) in [("1", &app.token), ("2", &app.token), ("3", &other)] {
            let mut body = complete(number, WABA, SECRET);
            body["verifyToken"] = json!(if number == "3" { "of-the-other" } else { "of-the-app" });
            accounts.push(set_up(&app, token, body).await);
        }
        assert_eq!(challenge(&app, SHARED, &query("of-the-app")).await.status, 200);
        assert_eq!(state(&app, &accounts[0]).await.0, "verified");
        assert_eq!(state(&app, &accounts[1]).await.0, "verified");
        let theirs = "SELECT count(*) FROM meta_account WHERE status = 'unverified'";
        assert_eq!(database.count(theirs).await, 1);
        // On its own address, an account's own token counts alone.
        let own = accounts[0]["ownPath"].as_str().unwrap();
        refused(&challenge(&app, own, &query("of-the-other")).await);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_installation_s_default_token_is_answered_on_the_shared_addresses_and_verifies_nobody()
{
    on_each(async |database| {
        let options = Options {
            default_verify_token: Some(Open::from("fallback_token".to_owned())),
            ..Options::default()
        };
        let app = App::with_meta(database, Limits::default(), options).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        for path in [SHARED, SHORT] {
            let answer = challenge(&app, path, &query("fallback_token")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "test123"));
            refused(&challenge(&app, path, &query("fallback_toke")).await);
        }
        refused(
            &challenge(&app, account["ownPath"].as_str().unwrap(), &query("fallback_token")).await,
        );
        assert_eq!(state(&app, &account).await, (json!("unverified"), false));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn tokens_cannot_be_guessed_at_leisure() {
    on_each(async |database| {
        let limits = Limits {
            failed_authentications: Some(Quota::new(60, std::time::Duration::from_mins(1), 5)),
            ..Limits::default()
        };
        let app = App::with_meta(database, limits, Options::default()).await;
        for n in 0..5 {
            refused(&challenge(&app, SHARED, &query(&format!("guess-number-{n}"))).await);
        }
        let answer = challenge(&app, SHARED, &query("guess-number-5")).await;
        answer.problem(429, "RATE_LIMITED");
        app.close().await;
    })
    .await;
}
