//! What Meta posts: verified over its bytes, taken apart by organization, on disk before 200, and kept once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use wagate::{
    http::Limits,
    meta::Signature,
    service::meta::{Open, Options},
};

use crate::{
    database::{Database, on_each},
    http_app::{Answer, App},
    meta::{
        NUMBER, SECRET, SHARED, SHORT, WABA, changes, complete, deliver, each, get, log, message,
        samples, set_up, tenant, text,
    },
};

pub(crate) async fn rows(database: &Database, table: &str) -> i64 {
    database.count(&format!("SELECT count(*) FROM {table}")).await
}

#[tokio::test]
async fn every_documented_payload_is_kept_once_on_whatever_address_it_comes() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let documented = samples();
        assert_eq!(documented.len(), 62);
        // Several of the examples are of one message, as far as its id goes: here each is of another.
        let mut samples = Vec::new();
        for (n, (name, body)) in documented.iter().enumerate() {
            let text = String::from_utf8(body.clone()).unwrap();
            samples.push((name, text.replace("wamid.", &format!("wamid.{n}."))));
        }
        let mut known = BTreeSet::new();
        for (name, body) in &samples {
            let bytes = body.as_bytes();
            assert_eq!(deliver(&app, own, SECRET, bytes).await.status, 200, "{name}");
            let log = log(&app, &app.token).await;
            let new: Vec<_> = log.iter().filter(|it| known.insert(it["id"].to_string())).collect();
            assert_eq!(new.len(), 1, "{name}");
            assert_ne!(new[0]["eventType"], "malformed", "{name}");
            let path = format!("/api/meta/events/{}", new[0]["id"].as_str().unwrap());
            let detail = app.get(&path).await.json()["data"].clone();
            assert_eq!(detail["payload"], serde_json::from_str::<Value>(body).unwrap());
            assert!(!detail["item"].is_null(), "{name}");
            assert_eq!(detail["isPart"], false);
        }
        // Sent again, they add nothing, on any address that knows whose they are.
        for (name, body) in &samples {
            assert_eq!(deliver(&app, own, SECRET, body.as_bytes()).await.status, 200, "{name}");
            if body.contains(NUMBER) || body.contains(WABA) {
                for path in [SHARED, SHORT] {
                    let answer = deliver(&app, path, SECRET, body.as_bytes()).await;
                    assert_eq!(answer.status, 200, "{name}");
                }
            }
        }
        assert_eq!(rows(database, "meta_body").await, 62);
        assert_eq!(rows(database, "meta_event").await, 62);
        // To the letter they are taken, too.
        for (name, body) in &documented {
            assert_eq!(deliver(&app, own, SECRET, body).await.status, 200, "{name}");
        }
        // What names the number is the account's; what names another is nobody's.
        let unrouted = app.get("/api/meta/events?unrouted=true&limit=500").await.json();
        let unrouted = unrouted["data"].as_array().unwrap().clone();
        assert_eq!(unrouted.len(), 2, "{unrouted:#?}");
        assert!(unrouted.iter().all(|it| it["accountId"].is_null()));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_signature_that_is_wrong_in_any_way_is_refused_and_nothing_is_kept() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let body = text(WABA, NUMBER, "1", "hello").to_string();
        let good = Signature::of(SECRET.as_bytes(), body.as_bytes()).to_string();
        let other = Signature::of(b"another_secret", body.as_bytes()).to_string();
        let altered = Signature::of(SECRET.as_bytes(), format!("{body} ").as_bytes()).to_string();
        for (path, status, code) in [
            (SHARED, 403, "META_SIGNATURE_INVALID"),
            (SHORT, 403, "META_SIGNATURE_INVALID"),
            (own, 401, "META_SIGNATURE_REQUIRED"),
        ] {
            let post = || app.anonymous(Method::POST, path).body(body.clone());
            let name = "x-hub-signature-256";
            for request in [
                post(),
                post().header(name, ""),
                post().header(name, &good[7..]),
                post().header(name, &good[..good.len() - 1]),
                post().header(name, format!("{good}0")),
                post().header(name, good.replace("sha256", "SHA256")),
                post().header(name, good.replace("sha256", "sha1")),
                post().header(name, other.as_str()),
                post().header(name, altered.as_str()),
                post().header(name, good.as_str()).header(name, good.as_str()),
                post().header("x-hub-signature", "sha1=25a5be8d5b5e1b1ed1c3bd3ff1e5e10af1ab6e04"),
            ] {
                Answer::to(request).await.problem(status, code);
            }
        }
        assert_eq!(rows(database, "meta_body").await, 0);
        // Digits of either case, and any type of content, as it is the bytes that count.
        let upper = format!("sha256={}", good[7..].to_uppercase());
        let request = app.anonymous(Method::POST, SHARED).header("x-hub-signature-256", upper);
        assert_eq!(Answer::to(request.body(body.clone())).await.status, 200);
        assert_eq!(rows(database, "meta_body").await, 1);
        // What is compressed is not what was signed.
        let request = app.anonymous(Method::POST, SHARED).header("x-hub-signature-256", &good);
        let request = request.header("content-encoding", "gzip").body(body.clone());
        Answer::to(request).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
        // An address that is nobody's.
        let nobody = deliver(&app, &format!("{own}x"), SECRET, body.as_bytes()).await;
        nobody.problem(404, "META_ACCOUNT_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn bytes_are_verified_and_kept_as_they_are_whatever_is_in_them() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let around = |id: &str, text: &str| {
            format!(
                r#"{{"object":"whatsapp_business_account","entry":[{{"id":"{WABA}","changes":[{{"field":"messages","value":{{"metadata":{{"phone_number_id":"{NUMBER}"}},"messages":[{{"id":"{id}","type":"text","text":{{"body":"{text}"}}}}]}}}}]}}]}}"#
            )
            .into_bytes()
        };
        let escaped = around("escaped", r"\u00e4\u00f6\u00e5 \/ \u003c");
        let raw = around("raw", "äöå / < 😀 مرحبا");
        let nul = around("nul", r"a\u0000b");
        let surrogate = around("surrogate", r"half \ud800 a pair");
        let odd_id = around(r"a\u0000b", "odd");
        let mut bom = "\u{feff}".as_bytes().to_vec();
        bom.extend(around("bom", "marked"));
        for body in [&escaped, &raw, &nul, &surrogate, &odd_id, &bom] {
            for path in [SHARED, own] {
                let answer = deliver(&app, path, SECRET, body).await;
                assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(body));
            }
        }
        let log = log(&app, &app.token).await;
        let ids: BTreeSet<_> = each(&log, "objectId").into_iter().collect();
        let expected = ["a\u{fffd}b", "bom", "escaped", "nul", "raw", "surrogate"];
        assert_eq!(ids, expected.map(str::to_owned).into());
        // To the byte, but for half a pair, which many a parser takes for no JSON.
        for event in &log {
            let path = format!("/api/meta/events/{}", event["id"].as_str().unwrap());
            let shown = app.get(&path).await;
            let wanted = match event["objectId"].as_str().unwrap() {
                "surrogate" => r"half \ufffd a pair",
                "escaped" => r"\u00e4\u00f6\u00e5 \/ \u003c",
                "raw" => "äöå / < 😀 مرحبا",
                _ => continue,
            };
            assert!(String::from_utf8_lossy(&shown.body).contains(wanted), "{wanted}");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_signed_and_cannot_be_read_is_kept_and_answered_200() {
    on_each(async |database| {
        let app = App::start(database).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let own = account["ownPath"].as_str().unwrap();
        let whole = text(WABA, NUMBER, "1", "hello").to_string();
        let cut = &whole.as_bytes()[..whole.len() - 4];
        // The ids in it lead to the secret, though it is no JSON.
        assert_eq!(deliver(&app, SHARED, SECRET, cut).await.status, 200);
        for body in [
            &b""[..],
            b"{",
            b"\xff\xfe\x00",
            b"[]",
            b"{}",
            b"null",
            b"{\"entry\":7}",
            b"{\"entry\":[{\"id\":1}]}",
        ] {
            assert_eq!(deliver(&app, own, SECRET, body).await.status, 200, "{body:?}");
            assert_eq!(deliver(&app, own, SECRET, body).await.status, 200, "{body:?}");
        }
        let log = log(&app, &app.token).await;
        let kinds = each(&log, "eventType");
        assert_eq!(kinds.iter().filter(|it| *it == "malformed").count(), 4, "{kinds:?}");
        assert_eq!(kinds.iter().filter(|it| *it == "unknown").count(), 5, "{kinds:?}");
        let path = format!("/api/meta/events/{}", log.last().unwrap()["id"].as_str().unwrap());
        let detail = app.get(&path).await.json()["data"].clone();
        assert_eq!(detail["payload"], Value::Null);
        assert!(detail["payloadBase64"].is_string());
        assert_eq!(rows(database, "meta_body").await, 9);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_body_of_several_organizations_is_verified_for_each_and_each_is_told_its_own() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, first) = tenant(&app, "first").await;
        let (_, second) = tenant(&app, "second").await;
        let (_, third) = tenant(&app, "third").await;
        set_up(&app, &first, complete("1", "11", SECRET)).await;
        set_up(&app, &second, complete("2", "22", SECRET)).await;
        // Another app: this body is not signed by it, whatever it names.
        set_up(&app, &third, complete("3", "33", "another_app_secret")).await;
        let body = json!({ "object": "whatsapp_business_account", "entry": [
            { "id": "11", "time": 1, "changes": [message("1", "wamid.a", "for one"), message("3", "wamid.c", "for three")] },
            { "id": "33", "changes": [message("3", "wamid.d", "for three, too")] },
            { "id": "22", "changes": [message("2", "wamid.b", "for two"), { "field": "account_update", "value": { "event": "X" } }] },
        ] });
        let answer = deliver(&app, SHARED, SECRET, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let ours = log(&app, &first).await;
        // What was said of a number of another app's is its signer's business where the business account is his, and nobody's
        // number there. Else it is the operator's: the app is two organizations', and either may be meant.
        assert_eq!(each(&ours, "objectId"), ["wamid.a", "wamid.c"]);
        let foreign = ours.iter().find(|it| it["objectId"] == "wamid.c").unwrap();
        assert_eq!((&foreign["unrouted"], &foreign["accountId"]), (&json!(true), &Value::Null));
        let home = log(&app, &app.token).await;
        assert_eq!(each(&home, "objectId"), ["wamid.d"]);
        assert_eq!((&home[0]["unrouted"], &home[0]["accountId"]), (&json!(true), &Value::Null));
        let theirs = log(&app, &second).await;
        assert_eq!(each(&theirs, "objectId"), ["22", "wamid.b"]);
        assert_eq!(log(&app, &third).await.len(), 0);
        for (token, log, foreign) in [(&first, &ours, "for two"), (&second, &theirs, "for one"), (&first, &ours, "for three, too"), (&second, &theirs, "for three")] {
            for event in log {
                let path = format!("/api/meta/events/{}", event["id"].as_str().unwrap());
                let detail = get(&app, token, &path).await;
                assert!(!detail.text().contains(foreign), "{}", detail.text());
                let detail = detail.json()["data"].clone();
                assert_eq!(detail["isPart"], true);
                assert!(!detail["item"].is_null(), "{detail:#}");
            }
        }
        // Again, and nothing is new.
        let before = rows(database, "meta_event").await;
        deliver(&app, SHARED, SECRET, body.to_string().as_bytes()).await;
        assert_eq!(rows(database, "meta_event").await, before);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_is_told_of_another_s_number_by_claiming_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, thief) = tenant(&app, "thief").await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        set_up(&app, &thief, complete(NUMBER, WABA, "the_thief_s_app")).await;
        let body = text(WABA, NUMBER, "1", "a secret").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        assert_eq!(log(&app, &thief).await.len(), 0);
        assert_eq!(log(&app, &app.token).await.len(), 1);
        // Nor can a thief tell the owner anything.
        let forged = text(WABA, NUMBER, "2", "forged").to_string();
        assert_eq!(deliver(&app, SHARED, "the_thief_s_app", forged.as_bytes()).await.status, 200);
        assert_eq!(log(&app, &app.token).await.len(), 1);
        assert_eq!(log(&app, &thief).await.len(), 1);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_about_a_business_account_is_told_to_every_organization_that_has_it() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, second) = tenant(&app, "second").await;
        set_up(&app, &app.token, complete("1", WABA, SECRET)).await;
        set_up(&app, &app.token, complete("2", WABA, SECRET)).await;
        let theirs = set_up(&app, &second, complete("3", WABA, SECRET)).await;
        let update = json!({ "field": "account_update", "value": { "event": "DISABLED_UPDATE" } });
        let body = changes(WABA, &[update]).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        let (ours, told) = (log(&app, &app.token).await, log(&app, &second).await);
        // Of two accounts it is about none in particular.
        assert_eq!((ours.len(), &ours[0]["accountId"]), (1, &Value::Null));
        assert_eq!((told.len(), &told[0]["accountId"]), (1, &theirs["id"]));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_disabled_account_is_told_nothing_and_spoils_nothing_for_others() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, second) = tenant(&app, "second").await;
        let account = set_up(&app, &app.token, complete("1", "11", SECRET)).await;
        set_up(&app, &second, complete("2", "22", SECRET)).await;
        let path = format!("/api/meta/accounts/{}/status", account["id"].as_str().unwrap());
        app.post(&path, json!({ "status": "disabled" })).await;
        let own = account["ownPath"].as_str().unwrap();
        let body = text("11", "1", "a", "x").to_string();
        for at in [SHARED, SHORT, own] {
            deliver(&app, at, SECRET, body.as_bytes()).await.problem(403, "META_ACCOUNT_DISABLED");
            // Who cannot sign is not told that it is disabled.
            let answer = deliver(&app, at, "another_secret", body.as_bytes()).await;
            assert_ne!(answer.json()["code"], "META_ACCOUNT_DISABLED");
        }
        let mixed = json!({ "entry": [
            { "id": "11", "changes": [message("1", "a", "x")] },
            { "id": "22", "changes": [message("2", "b", "y")] },
        ] });
        let answer = deliver(&app, SHARED, SECRET, mixed.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200);
        // It is kept as refused, as Meta will not tell it again; nothing follows from it.
        app.meta.drive().await.unwrap();
        let refused = log(&app, &app.token).await;
        assert_eq!((refused.len(), &refused[0]["state"]), (1, &json!("failed")));
        assert_eq!(refused[0]["error"], "account_disabled");
        assert_eq!(rows(database, "message").await, 1);
        assert_eq!(each(&log(&app, &second).await, "objectId"), ["b"]);
        app.post(&path, json!({ "status": "unverified" })).await;
        assert_eq!(deliver(&app, own, SECRET, body.as_bytes()).await.status, 200);
        let taken = log(&app, &app.token).await;
        assert_eq!(each(&taken, "objectId"), ["a"]);
        assert_eq!((&taken[0]["state"], &taken[0]["error"]), (&json!("waiting"), &Value::Null));
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn only_verified_accounts_are_told_where_the_operator_wants_that() {
    on_each(async |database| {
        let options = Options { require_verified: true, ..Options::default() };
        let app = App::with_meta(database, Limits::default(), options).await;
        let account = set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let body = text(WABA, NUMBER, "a", "x").to_string();
        let refused = deliver(&app, SHARED, SECRET, body.as_bytes()).await;
        refused.problem(403, "META_ACCOUNT_DISABLED");
        let path = format!("/api/meta/accounts/{}/status", account["id"].as_str().unwrap());
        app.post(&path, json!({ "status": "verified" })).await;
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_installation_s_secret_stands_in_for_accounts_without_one_and_for_unknown_numbers() {
    on_each(async |database| {
        let options = Options {
            default_secret: Some(Open::from("fallback_secret".to_owned())),
            ..Options::default()
        };
        let app = App::with_meta(database, Limits::default(), options).await;
        let (organization, second) = tenant(&app, "second").await;
        // Only an operator can point an account at a number without showing the app's secret.
        let mut body = complete("2", "22", SECRET);
        body.as_object_mut().unwrap().remove("appSecret");
        let request = app.request(Method::POST, "/api/meta/accounts");
        let request = request.header("x-organization", &organization);
        let made = Answer::to(crate::http_app::json(request, &body)).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(made.json()["data"]["missing"], json!([]));
        let known = text("22", "2", "known", "x").to_string();
        let unknown = text("99", "9", "unknown", "x").to_string();
        for (body, secret, status) in [
            (&known, "fallback_secret", 200),
            (&known, SECRET, 403),
            (&unknown, "fallback_secret", 200),
            (&unknown, SECRET, 403),
        ] {
            assert_eq!(deliver(&app, SHARED, secret, body.as_bytes()).await.status, status);
        }
        assert_eq!(each(&log(&app, &second).await, "objectId"), ["known"]);
        // What is nobody's is the installation's first organization's, and said to be unrouted.
        let ours = log(&app, &app.token).await;
        assert_eq!(each(&ours, "objectId"), ["unknown"]);
        assert_eq!(ours[0]["unrouted"], true);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_thing_told_in_two_bodies_is_there_once_and_a_thousand_are_all_there() {
    on_each(async |database| {
        let app = App::start(database).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let batch = |from: usize, to: usize| {
            let all: Vec<_> =
                (from..to).map(|n| message(NUMBER, &format!("wamid.{n}"), "hi")).collect();
            changes(WABA, &all).to_string()
        };
        for body in [batch(0, 10), batch(5, 15), batch(0, 1000)] {
            assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        }
        assert_eq!(rows(database, "meta_body").await, 3);
        assert_eq!(rows(database, "meta_event").await, 1000);
        // A status is told once, however often; another one of the same message is another thing.
        let status = |status: &str, at: &str| {
            json!({ "field": "messages", "value": { "metadata": { "phone_number_id": NUMBER },
                "statuses": [{ "id": "wamid.1", "status": status, "timestamp": at }] } })
        };
        let told = [
            status("sent", "1799999000"),
            status("sent", "1799999001"),
            status("read", "1799999002"),
        ];
        let body = changes(WABA, &told).to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        assert_eq!(rows(database, "meta_event").await, 1002);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn many_bodies_at_once_are_all_there_when_they_are_answered() {
    on_each(async |database| {
        let limits = Limits { meta_posts: 4, ..Limits::default() };
        let app = App::with_meta(database, limits, Options::default()).await;
        set_up(&app, &app.token, complete(NUMBER, WABA, SECRET)).await;
        let bodies: Vec<_> = (0..60)
            .map(|n| text(WABA, NUMBER, &format!("wamid.{}", n % 40), "hi").to_string())
            .collect();
        let posts = bodies.iter().map(|body| deliver(&app, SHARED, SECRET, body.as_bytes()));
        for answer in futures_util::future::join_all(posts).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert_eq!(rows(database, "meta_event").await, 40);
        app.close().await;
    })
    .await;
}
