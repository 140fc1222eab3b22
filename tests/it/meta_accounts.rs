//! Numbers at Meta over HTTP: set up, shown without secrets, changed, switched off; by whom, and written down.

use std::time::Duration;

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};
use wagate::{http::Limits, service::meta::Options};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
    meta::{NUMBER, SECRET, SHARED, WABA, ask, complete, deliver, get, set_up, tenant, text},
};

const ACCOUNTS: &str = "/api/meta/accounts";

fn path(account: &Value) -> String {
    format!("{ACCOUNTS}/{}", account["id"].as_str().unwrap())
}

#[tokio::test]
async fn an_account_is_made_shown_without_its_secrets_and_made_once_for_a_number() {
    on_each(async |database| {
        let options = Options {
            public_url: Some("https://gateway.example.com".to_owned()),
            ..Options::default()
        };
        let app = App::with_meta(database, Limits::default(), options).await;
        let mut body = complete(NUMBER, WABA, SECRET);
        body.as_object_mut().unwrap().remove("verifyToken");
        body["label"] = json!("Support");
        let made = app.post(ACCOUNTS, body.clone()).await;
        assert_eq!((made.status.as_u16(), made.header("cache-control")), (201, "no-store"));
        let account = made.json()["data"].clone();
        let token = account["verifyToken"].as_str().unwrap();
        assert_eq!(token.len(), 43);
        assert_eq!(made.header("location"), path(&account));
        for (member, value) in [
            ("status", json!("unverified")),
            ("phoneNumberId", json!(NUMBER)),
            ("hasAppSecret", json!(true)),
            ("hasAccessToken", json!(true)),
            ("hasCompleteWhatsAppConfig", json!(true)),
            ("missing", json!([])),
            ("callbackPath", json!(SHARED)),
            ("callbackUrl", json!(format!("https://gateway.example.com{SHARED}"))),
            ("lastVerifiedAt", Value::Null),
        ] {
            assert_eq!(account[member], value, "{member}");
        }
        let own = account["ownPath"].as_str().unwrap();
        assert!(own.starts_with(&format!("{SHARED}/")) && own.len() > SHARED.len() + 40);

        // The same number is the same account: what is given is changed, and the rest stays.
        body["label"] = json!("Sales");
        body["verifyToken"] = json!("another-verify-token");
        let again = app.post(ACCOUNTS, body).await;
        assert_eq!(again.status, 200, "{}", again.text());
        let again = again.json()["data"].clone();
        assert_eq!((&again["id"], &again["label"]), (&account["id"], &json!("Sales")));
        assert_eq!((&again["ownPath"], &again["verifyToken"]), (&account["ownPath"], &Value::Null));

        // Nothing that is shown or kept has a secret in it.
        let shown = [
            app.get(ACCOUNTS).await,
            app.get(&path(&account)).await,
            app.get("/api/audit?limit=500").await,
            app.get(&format!("/api/organizations/{}/whatsapp", app.organization)).await,
        ];
        for answer in &shown {
            for secret in [SECRET, "EAAB-access-token", token, "another-verify-token"] {
                assert!(!answer.text().contains(secret), "{secret} in {}", answer.text());
            }
        }
        let rows = database
            .query("SELECT app_print, verify_hash, app_secret, access_token FROM meta_account")
            .await;
        assert_eq!(rows.len(), 1);
        for column in 0..2 {
            let text: String = rows[0].try_get_by_index(column).unwrap();
            assert_eq!(text.len(), 64, "a keyed hash");
        }
        for column in 2..4 {
            let bytes: Vec<u8> = rows[0].try_get_by_index(column).unwrap();
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert!(!shown.contains(SECRET) && !shown.contains("EAAB"), "sealed");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_makes_one_account_and_is_not_taken_for_another_request() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ask_for = |body: Value| {
            let request = app.request(Method::POST, ACCOUNTS).header("idempotency-key", "key-1");
            Answer::to(with_json(request, &body))
        };
        let mut body = complete(NUMBER, WABA, SECRET);
        body.as_object_mut().unwrap().remove("verifyToken");
        let first = ask_for(body.clone()).await;
        assert_eq!(first.status, 201);
        let second = ask_for(body.clone()).await;
        assert_eq!((second.status.as_u16(), second.header("idempotency-replayed")), (200, "true"));
        assert_eq!(second.json()["data"]["id"], first.json()["data"]["id"]);
        // Made once, shown once.
        assert_eq!(second.json()["data"]["verifyToken"], Value::Null);
        body["appSecret"] = json!("another_app_secret");
        ask_for(body).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
        assert_eq!(database.count("SELECT count(*) FROM meta_account").await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once_and_nothing_is_made() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.post(ACCOUNTS, json!({})).await.invalid(&["/phoneNumberId"]);
        let body = json!({
            "phoneNumberId": "1 2", "appSecret": "short", "verifyToken": "a b", "callbackPath": "ftp://x",
            "status": "maybe",
        });
        app.post(ACCOUNTS, body).await.invalid(&["/status"]);
        let body = json!({
            "phoneNumberId": "1 2", "appSecret": "short", "verifyToken": "a b", "callbackPath": "ftp://x",
        });
        let pointers = ["/phoneNumberId", "/appSecret", "/verifyToken", "/callbackPath"];
        app.post(ACCOUNTS, body).await.invalid(&pointers);
        assert_eq!(database.count("SELECT count(*) FROM meta_account").await, 0);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn managers_write_viewers_read_and_who_points_at_a_number_shows_the_app_s_secret() {
    on_each(async |database| {
        let app = App::start(database).await;
        let manager = app.token_of(&app.organization, Role::Manager).await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        let body = complete(NUMBER, WABA, SECRET);
        ask(&app, &viewer, Method::POST, ACCOUNTS, &body).await.problem(403, "FORBIDDEN");
        let bare = json!({ "phoneNumberId": NUMBER });
        ask(&app, &manager, Method::POST, ACCOUNTS, &bare).await.invalid(&["/appSecret"]);
        let account = set_up(&app, &manager, body).await;
        let path = path(&account);
        for change in [json!({ "phoneNumberId": "7" }), json!({ "wabaId": "8" })] {
            ask(&app, &manager, Method::PATCH, &path, &change).await.invalid(&["/appSecret"]);
        }
        let with = json!({ "phoneNumberId": "7", "appSecret": SECRET });
        assert_eq!(ask(&app, &manager, Method::PATCH, &path, &with).await.status, 200);
        let clear = json!({ "appSecret": null });
        let refused = ask(&app, &manager, Method::PATCH, &path, &clear).await;
        assert_eq!(refused.problem(403, "FORBIDDEN")["needs"], "operator");
        // An operator vouches for a number without the secret: it is the installation's own app then.
        let cleared = app.patch(&path, clear).await;
        assert_eq!(cleared.json()["data"]["missing"], json!(["appSecret"]));
        assert_eq!(get(&app, &viewer, &path).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_app_has_a_number_once_and_two_apps_may_each_claim_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, other) = tenant(&app, "other").await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = complete(NUMBER, WABA, SECRET);
        ask(&app, &other, Method::POST, ACCOUNTS, &body).await.problem(409, "META_NUMBER_TAKEN");
        // One app for many organizations, a number each; and another app's word is another matter.
        set_up(&app, &other, complete("2", WABA, SECRET)).await;
        set_up(&app, &other, complete(NUMBER, WABA, "another_app_secret")).await;
        let theirs = get(&app, &other, ACCOUNTS).await.json();
        assert_eq!(theirs["data"].as_array().unwrap().len(), 2);
        let mine = app.get(ACCOUNTS).await.json();
        assert_eq!(mine["data"].as_array().unwrap().len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_number_is_claimed_by_one_of_two_organizations_that_ask_at_once() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, other) = tenant(&app, "other").await;
        let body = complete(NUMBER, WABA, SECRET);
        let (one, two) = tokio::join!(
            ask(&app, &app.token, Method::POST, ACCOUNTS, &body),
            ask(&app, &other, Method::POST, ACCOUNTS, &body),
        );
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
        assert_eq!(database.count("SELECT count(*) FROM meta_account").await, 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_new_verify_token_is_shown_once_and_wants_to_be_verified() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let path = path(&account);
        let status = format!("{path}/status");
        let verified = app.post(&status, json!({ "status": "verified" })).await;
        assert_eq!(verified.json()["data"]["status"], "verified");
        let rotated = app.post(&format!("{path}/verify-token/rotate"), json!({})).await;
        assert_eq!((rotated.status.as_u16(), rotated.header("cache-control")), (200, "no-store"));
        let rotated = rotated.json()["data"].clone();
        assert_eq!(rotated["status"], "unverified");
        let token = rotated["verifyToken"].as_str().unwrap();
        let challenge = |token: &str| {
            let query = format!("hub.mode=subscribe&hub.challenge=1&hub.verify_token={token}");
            Answer::to(app.anonymous(Method::GET, &format!("{SHARED}?{query}")))
        };
        challenge(&format!("verify-{NUMBER}")).await.problem(403, "META_CHALLENGE_REFUSED");
        assert_eq!(challenge(token).await.status, 200);
        assert_eq!(app.get(&path).await.json()["data"]["status"], "verified");
        assert!(!app.get(&path).await.text().contains(token));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_is_switched_off_and_on_and_cannot_be_verified_by_hand_while_it_lacks_something()
{
    on_each(async |database| {
        let app = App::start(database).await;
        let mut body = complete(NUMBER, WABA, SECRET);
        body.as_object_mut().unwrap().remove("accessToken");
        let account = set_up(&app, &app.token, body).await;
        assert_eq!(account["missing"], json!(["accessToken"]));
        let status = format!("{}/status", path(&account));
        app.post(&status, json!({})).await.invalid(&["/status"]);
        app.post(&status, json!({ "status": "off" })).await.invalid(&["/status"]);
        let verified = json!({ "status": "verified" });
        app.post(&status, verified.clone()).await.problem(409, "META_ACCOUNT_INCOMPLETE");
        let off = app.post(&status, json!({ "status": "disabled" })).await;
        assert_eq!(off.json()["data"]["status"], "disabled");
        // Complete, and verified, in one request.
        let both = json!({ "status": "verified", "accessToken": "EAAB" });
        let on = app.patch(&path(&account), both).await;
        assert_eq!(on.json()["data"]["status"], "verified", "{}", on.text());
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_app_s_old_secret_is_good_until_its_date() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let changed = app.patch(&path(&account), json!({ "appSecret": "the_new_secret" })).await;
        assert_eq!(changed.json()["data"]["previousAppSecretUntil"], "2027-01-16T08:00:00.000Z");
        let send = async |secret: &str, id: &str| {
            let body = text(WABA, NUMBER, id, "hi").to_string();
            deliver(&app, SHARED, secret, body.as_bytes()).await
        };
        assert_eq!(send("the_new_secret", "1").await.status, 200);
        assert_eq!(send(SECRET, "2").await.status, 200);
        app.clock.advance(Duration::from_hours(24));
        send(SECRET, "3").await.problem(403, "META_SIGNATURE_INVALID");
        assert_eq!(send("the_new_secret", "4").await.status, 200);
        // To a date, and at once.
        let body = json!({ "appSecret": "the_third_secret", "previousAppSecretUntil": "2027-01-20T00:00:00Z" });
        let changed = app.patch(&path(&account), body).await;
        assert_eq!(changed.json()["data"]["previousAppSecretUntil"], "2027-01-20T00:00:00.000Z");
        assert_eq!(send("the_new_secret", "5").await.status, 200);
        let body = json!({ "previousAppSecretUntil": "2020-01-01T00:00:00Z" });
        let changed = app.patch(&path(&account), body).await;
        assert_eq!(changed.json()["data"]["previousAppSecretUntil"], Value::Null);
        send("the_new_secret", "6").await.problem(403, "META_SIGNATURE_INVALID");
        assert_eq!(send("the_third_secret", "7").await.status, 200);
        let late = json!({ "previousAppSecretUntil": "2029-01-01T00:00:00Z" });
        app.patch(&path(&account), late).await.invalid(&["/previousAppSecretUntil"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_who_did_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let path = path(&account);
        app.patch(&path, json!({ "label": "Sales", "accessToken": "EAAC" })).await;
        // Nothing changes, and nothing is written down.
        app.patch(&path, json!({ "label": "Sales" })).await;
        app.post(&format!("{path}/verify-token/rotate"), json!({})).await;
        app.post(&format!("{path}/status"), json!({ "status": "disabled" })).await;
        let target = account["id"].as_str().unwrap();
        let log = app.get(&format!("/api/audit?target={target}")).await.json();
        let log = log["data"].as_array().unwrap().clone();
        let actions: Vec<_> = log.iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(
            actions,
            [
                "meta_account_status_set",
                "meta_verify_token_rotated",
                "meta_account_changed",
                "meta_account_created"
            ]
        );
        assert_eq!(log[2]["detail"]["changed"], json!(["label", "accessToken"]));
        assert!(log.iter().all(|it| it["tokenId"].is_string()));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_organization_s_configuration_is_shown_whole_and_says_whether_it_is_complete() {
    on_each(async |database| {
        let app = App::start(database).await;
        let path = format!("/api/organizations/{}/whatsapp", app.organization);
        let empty = app.get(&path).await.json()["data"].clone();
        assert_eq!(empty["hasCompleteWhatsAppConfig"], false);
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let whole = app.get(&path).await.json()["data"].clone();
        assert_eq!(whole["hasCompleteWhatsAppConfig"], true);
        assert_eq!(whole["whatsappBusinessAccountId"], WABA);
        assert_eq!(whole["whatsappPhoneNumberId"], NUMBER);
        set_up(&app, &app.token, json!({ "phoneNumberId": "2", "appSecret": SECRET })).await;
        let part = app.get(&path).await.json()["data"].clone();
        assert_eq!(part["hasCompleteWhatsAppConfig"], false);
        assert_eq!(part["accounts"].as_array().unwrap().len(), 2);
        assert_eq!(part["whatsappPhoneNumberId"], NUMBER);
        // What is said of all does not depend on what of it is shown.
        let shown = async |query: &str| {
            let mut page = app.get(&format!("{path}?{query}")).await.json();
            let accounts = page["data"]["accounts"].as_array().unwrap();
            let numbers: Vec<_> = accounts.iter().map(|it| it["phoneNumberId"].clone()).collect();
            page["data"]["accounts"] = part["accounts"].clone();
            assert_eq!(page["data"], part, "{query}");
            (numbers, page["nextCursor"].as_str().map(ToOwned::to_owned))
        };
        let (first, next) = shown("limit=1").await;
        assert_eq!(first, [NUMBER]);
        let (second, end) = shown(&format!("limit=1&cursor={}", next.unwrap())).await;
        assert_eq!((second, end), (vec![json!("2")], None));
        for (query, numbers) in [
            ("status=unverified", vec![NUMBER, "2"]),
            ("status=disabled", vec![]),
            ("phoneNumberId=2", vec!["2"]),
            ("limit=500", vec![NUMBER, "2"]),
        ] {
            assert_eq!(shown(query).await, (numbers.into_iter().map(Into::into).collect(), None));
        }
        let (_, other) = tenant(&app, "other").await;
        get(&app, &other, &path).await.problem(404, "ORGANIZATION_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn another_secret_or_address_is_to_be_verified_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let status = async || app.get(&path(&account)).await.json()["data"]["status"].clone();
        for (change, expected) in [
            (json!({ "phoneNumberId": NUMBER, "label": "x" }), "verified"),
            (json!({ "phoneNumberId": NUMBER, "appSecret": SECRET }), "verified"),
            (json!({ "phoneNumberId": NUMBER, "appSecret": "another_app_secret" }), "unverified"),
            (json!({ "phoneNumberId": NUMBER, "verifyToken": "another-verify-token" }), "unverified"),
            (json!({ "phoneNumberId": NUMBER, "callbackPath": "/webhook" }), "unverified"),
            // Whoever knows better says so.
            (json!({ "phoneNumberId": NUMBER, "appSecret": "a_third_app_secret", "status": "verified" }), "verified"),
        ] {
            app.post(&format!("{}/status", path(&account)), json!({ "status": "verified" })).await;
            assert_eq!(status().await, "verified");
            let changed = app.post(ACCOUNTS, change.clone()).await;
            assert_eq!(changed.status, 200, "{}", changed.text());
            assert_eq!(status().await, expected, "{change}");
        }
        // What is switched off stays so.
        app.post(&format!("{}/status", path(&account)), json!({ "status": "disabled" })).await;
        app.post(ACCOUNTS, json!({ "phoneNumberId": NUMBER, "appSecret": "a_fourth_app_secret" })).await;
        assert_eq!(status().await, "disabled");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_complete_account_has_its_session_and_a_campaign_is_sent_from_it_before_anything_is_told()
{
    on_each(async |database| {
        let app = App::start(database).await;
        let mut body = complete(NUMBER, WABA, SECRET);
        let token = body.as_object_mut().unwrap().remove("accessToken").unwrap();
        let account = set_up(&app, &app.token, body).await;
        assert_eq!(account["sessionId"], Value::Null);
        let session = json!(format!("meta_{NUMBER}"));
        let whole = app.patch(&path(&account), json!({ "accessToken": token })).await.json();
        assert_eq!(whole["data"]["sessionId"], session);
        assert_eq!(app.get(ACCOUNTS).await.json()["data"][0]["sessionId"], session);
        let overview = app.get(&format!("/api/organizations/{}/whatsapp", app.organization)).await;
        assert_eq!(overview.json()["data"]["accounts"][0]["sessionId"], session);
        assert_eq!(database.count("SELECT count(*) FROM session").await, 1);

        let made =
            app.post("/api/campaigns", json!({ "name": "Sale", "sessionId": session })).await;
        assert_eq!((made.status.as_u16(), &made.json()["data"]["sessionId"]), (201, &session));
        // One that was made without it is told, once.
        let bare = app.post("/api/campaigns", json!({ "name": "Bare" })).await.json();
        let bare = format!("/api/campaigns/{}", bare["data"]["id"].as_str().unwrap());
        app.patch(&bare, json!({ "sessionId": "nobody" })).await.problem(404, "SESSION_NOT_FOUND");
        assert_eq!(app.patch(&bare, json!({})).await.json()["data"]["sessionId"], Value::Null);
        for _ in 0..2 {
            let set = app.patch(&bare, json!({ "sessionId": session })).await;
            assert_eq!((set.status.as_u16(), &set.json()["data"]["sessionId"]), (200, &session));
        }
        let member =
            json!({ "members": [{ "phoneNumber": "16505551234", "messageId": "wamid.1" }] });
        let added = app.post(&format!("{bare}/audience"), member).await;
        assert_eq!(added.json()["data"]["attached"], 1, "{}", added.text());
        set_up(&app, &app.token, complete("2", WABA, SECRET)).await;
        let other = app.patch(&bare, json!({ "sessionId": "meta_2" })).await;
        other.problem(409, "CAMPAIGN_HAS_SESSION");
        let (_, stranger) = tenant(&app, "stranger").await;
        let set =
            ask(&app, &stranger, Method::PATCH, &bare, &json!({ "sessionId": session })).await;
        set.problem(404, "CAMPAIGN_NOT_FOUND");
        app.close().await;
    })
    .await;
}
