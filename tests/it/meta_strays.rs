//! What Meta tells of numbers that nobody has set up: it is an organization's only where nobody else's it can be.

use reqwest::Method;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, QueryTrait as _, Statement};
use serde_json::{Value, json};
use wagate::{
    http::Limits,
    service::meta::{Open, Options},
    store::meta::{LET_GO_STRAY, of_verify_token},
};

use crate::{
    database::{Database, Kind, on_each},
    http_app::{Answer, App, json as with_json},
    meta::{
        SECRET, SHARED, SHORT, ask, changes, complete, deliver, each, log, message, set_up, tenant,
        text,
    },
    meta_ingest::rows,
};

const FALLBACK: &str = "fallback_secret";

fn with_fallback() -> Options {
    Options { default_secret: Some(Open::from(FALLBACK.to_owned())), ..Options::default() }
}

/// Sets a number of the installation's own app up for an organization, as an operator does.
async fn vouched(app: &App, organization: &str, number: &str, waba: &str) -> Value {
    let mut body = complete(number, waba, SECRET);
    body.as_object_mut().unwrap().remove("appSecret");
    let request = app.request(Method::POST, "/api/meta/accounts");
    let made = Answer::to(with_json(request.header("x-organization", organization), &body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["data"].clone()
}

fn update(waba: &str, what: &str) -> Value {
    json!({ "id": waba, "time": 1_799_999_000, "changes": [
        { "field": "message_template_status_update", "value": { "event": "REJECTED", "message_template_name": what } },
    ] })
}

#[tokio::test]
async fn of_an_app_that_organizations_share_nobody_is_told_of_another_s_number_that_is_not_set_up()
{
    on_each(async |database| {
        let app = App::with_meta(database, Limits::default(), with_fallback()).await;
        let (one_id, one) = tenant(&app, "one").await;
        let (two_id, two) = tenant(&app, "two").await;
        let account = vouched(&app, &one_id, "1001", "W1").await;
        // Its owner has mistyped it.
        let mistyped = vouched(&app, &two_id, "2002", "W2x").await;
        let body = |n: usize| {
            json!({ "entry": [
                { "id": "W1", "changes": [message("1001", &format!("a{n}"), "for one"), message("1009", &format!("new{n}"), "one's other number")] },
                { "id": "W2", "changes": [message("2001", &format!("b{n}"), "for two")] },
                update("W2", &format!("for two, too {n}")),
            ] })
            .to_string()
        };
        let own = account["ownPath"].as_str().unwrap();
        for (n, path) in [SHARED, SHORT, own].into_iter().enumerate() {
            assert_eq!(deliver(&app, path, FALLBACK, body(n).as_bytes()).await.status, 200);
        }
        let mine = log(&app, &one).await;
        assert_eq!(each(&mine, "objectId"), ["a0", "a1", "a2", "new0", "new1", "new2"]);
        assert_eq!(log(&app, &two).await.len(), 0);
        let home = log(&app, &app.token).await;
        assert_eq!(each(&home, "objectId"), ["W2", "W2", "W2", "b0", "b1", "b2"]);
        assert!(home.iter().all(|it| it["unrouted"] == true && it["accountId"].is_null()));
        // Nor is it so when its owner has given it up.
        let path = format!("/api/meta/accounts/{}", mistyped["id"].as_str().unwrap());
        assert_eq!(ask(&app, &two, Method::DELETE, &path, &Value::Null).await.status, 204);
        let gone = json!({ "entry": [
            { "id": "W1", "changes": [message("1001", "c", "for one")] },
            { "id": "W2x", "changes": [message("2002", "d", "for two")] },
        ] });
        assert_eq!(deliver(&app, SHARED, FALLBACK, gone.to_string().as_bytes()).await.status, 200);
        assert!(!each(&log(&app, &one).await, "objectId").contains(&"d".to_owned()));
        // What cannot be read may be anybody's.
        let whole = text("W1", "1001", "e", "for whom?").to_string();
        let broken = &whole.as_bytes()[..whole.len() - 3];
        for path in [SHARED, own] {
            assert_eq!(deliver(&app, path, FALLBACK, broken).await.status, 200);
        }
        assert_eq!(log(&app, &one).await.len(), 7);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_app_whose_secret_two_organizations_have_tells_neither_of_what_may_be_the_other_s() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, one) = tenant(&app, "one").await;
        let (_, two) = tenant(&app, "two").await;
        let account = set_up(&app, &one, complete("1", "11", SECRET)).await;
        set_up(&app, &two, complete("2", "22", SECRET)).await;
        let body = json!({ "entry": [
            { "id": "11", "changes": [message("1", "a", "for one")] },
            { "id": "33", "changes": [message("3", "b", "for whom?")] },
            update("33", "for whom?"),
        ] })
        .to_string();
        for path in [SHARED, account["ownPath"].as_str().unwrap()] {
            assert_eq!(deliver(&app, path, SECRET, body.as_bytes()).await.status, 200);
        }
        let alone = text("33", "3", "c", "for whom?").to_string();
        assert_eq!(deliver(&app, SHARED, SECRET, alone.as_bytes()).await.status, 200);
        assert_eq!(each(&log(&app, &one).await, "objectId"), ["a"]);
        assert_eq!(log(&app, &two).await.len(), 0);
        assert_eq!(each(&log(&app, &app.token).await, "objectId"), ["33", "b", "c"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_one_organization_s_app_signs_is_kept_though_it_names_nobody() {
    on_each(async |database| {
        let app = App::start(database).await;
        let (_, one) = tenant(&app, "one").await;
        let (_, two) = tenant(&app, "two").await;
        let account = set_up(&app, &one, complete("1", "11", SECRET)).await;
        set_up(&app, &two, complete("2", "22", "another_app_secret")).await;
        let bodies = [
            text("12", "3", "a", "another business account").to_string(),
            text("11", "4", "b", "another number").to_string(),
            changes("13", &[json!({ "field": "account_update", "value": { "event": "X" } })])
                .to_string(),
            json!({ "object": "whatsapp_business_account", "entry": [] }).to_string(),
            "{\"object\":".to_owned(),
            String::new(),
        ];
        for body in &bodies {
            for path in [SHARED, SHORT] {
                let answer = deliver(&app, path, SECRET, body.as_bytes()).await;
                assert_eq!(answer.status, 200, "{body}");
                let refused = deliver(&app, path, "nobody_s_secret", body.as_bytes()).await;
                refused.problem(403, "META_SIGNATURE_INVALID");
            }
        }
        let kept = log(&app, &one).await;
        assert_eq!(kept.len(), bodies.len(), "{kept:#?}");
        assert!(kept.iter().all(|it| it["unrouted"] == true
            || it["eventType"] == "unknown"
            || it["eventType"] == "malformed"));
        assert_eq!(rows(database, "meta_body").await, 6);
        assert_eq!(log(&app, &two).await.len(), 0);
        // The secret before is good as long as it is anywhere.
        let path = format!("/api/meta/accounts/{}", account["id"].as_str().unwrap());
        let change = json!({ "appSecret": "the_next_secret" });
        assert_eq!(ask(&app, &one, Method::PATCH, &path, &change).await.status, 200);
        for (n, secret) in [SECRET, "the_next_secret"].into_iter().enumerate() {
            let body = text("12", "3", &format!("later{n}"), "x").to_string();
            assert_eq!(
                deliver(&app, SHARED, secret, body.as_bytes()).await.status,
                200,
                "{secret}"
            );
        }
        assert_eq!(log(&app, &one).await.len(), 8);
        // Nothing is taken for an organization that has switched all of it off.
        let off = json!({ "status": "disabled" });
        ask(&app, &one, Method::POST, &format!("{path}/status"), &off).await;
        let body = text("12", "3", "off", "x").to_string();
        let refused = deliver(&app, SHARED, "the_next_secret", body.as_bytes()).await;
        refused.problem(403, "META_ACCOUNT_DISABLED");
        let refused = deliver(&app, SHARED, "nobody_s_secret", body.as_bytes()).await;
        refused.problem(403, "META_SIGNATURE_INVALID");
        // And nothing by a secret that nobody has any more.
        assert_eq!(ask(&app, &one, Method::DELETE, &path, &Value::Null).await.status, 204);
        let refused = deliver(&app, SHARED, "the_next_secret", body.as_bytes()).await;
        refused.problem(403, "META_SIGNATURE_INVALID");
        assert_eq!(rows(database, "meta_body").await, 8);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_told_before_a_number_was_set_up_is_whose_the_number_is_when_he_asks() {
    on_each(async |database| {
        let app = App::with_meta(database, Limits::default(), with_fallback()).await;
        let (one_id, one) = tenant(&app, "one").await;
        let (_, two) = tenant(&app, "two").await;
        set_up(&app, &two, complete("9", "W9", SECRET)).await;
        for n in 0..3 {
            let body = text("W1", "1001", &format!("early{n}"), "is anybody there?").to_string();
            assert_eq!(deliver(&app, SHARED, FALLBACK, body.as_bytes()).await.status, 200);
        }
        // With somebody else's in the same body, who is nobody yet.
        let both = json!({ "entry": [
            { "id": "W1", "changes": [message("1001", "mixed", "for one")] },
            { "id": "W3", "changes": [message("3003", "stray", "for whom?")] },
        ] });
        assert_eq!(deliver(&app, SHARED, FALLBACK, both.to_string().as_bytes()).await.status, 200);
        app.meta.drive().await.unwrap();
        let again = async |token: &str| {
            let asked =
                ask(&app, token, Method::POST, "/api/meta/events/reprocess", &json!({})).await;
            assert_eq!(asked.status, 202, "{}", asked.text());
            app.meta.drive().await.unwrap();
        };
        vouched(&app, &one_id, "1001", "W1").await;
        again(&one).await;
        let mine = log(&app, &one).await;
        assert_eq!(each(&mine, "objectId"), ["early0", "early1", "early2", "mixed"]);
        assert!(mine.iter().all(|it| it["unrouted"] == false && it["state"] == "processed"));
        let page =
            ask(&app, &one, Method::GET, "/api/whatsapp/session/meta_1001/messages", &Value::Null)
                .await;
        assert_eq!(
            each(page.json()["data"].as_array().unwrap(), "waId"),
            ["early0", "early1", "early2", "mixed"]
        );
        // It is the installation's no more, and never anybody else's: whoever says that he has the number shows the secret of
        // its app, and this was signed with another.
        assert_eq!(each(&log(&app, &app.token).await, "objectId"), ["stray"]);
        set_up(&app, &two, complete("3003", "W3", SECRET)).await;
        again(&two).await;
        assert_eq!(log(&app, &two).await.len(), 0);
        again(&one).await;
        assert_eq!(log(&app, &one).await.len(), 4);
        assert_eq!(each(&log(&app, &app.token).await, "objectId"), ["stray"]);
        // Nobody has what is others' opened.
        for (name, bodies) in [("3003", 1), ("1001", 0), ("W1", 0), ("300", 0)] {
            let names = [name.to_owned()].into();
            let found = app.store.meta().strays(&app.organization, &names, None, 10).await.unwrap();
            assert_eq!(found.len(), bodies, "{name}");
        }
        // A request that was answered before looks for nothing; another one does.
        let with_key = async |key: &str| {
            let request = app.anonymous(Method::POST, "/api/meta/events/reprocess");
            let request = request.bearer_auth(&one).header("idempotency-key", key);
            assert_eq!(Answer::to(with_json(request, &json!({}))).await.status, 202);
        };
        with_key("first").await;
        let body = text("W5", "1005", "later", "is anybody there?").to_string();
        assert_eq!(deliver(&app, SHARED, FALLBACK, body.as_bytes()).await.status, 200);
        vouched(&app, &one_id, "1005", "W5").await;
        with_key("first").await;
        assert_eq!(log(&app, &one).await.len(), 4);
        with_key("second").await;
        assert_eq!(log(&app, &one).await.len(), 5);
        app.close().await;
    })
    .await;
}

/// How the database would do something.
async fn plan(database: &Database, what: &str) -> Vec<String> {
    let db = database.connect().await;
    let explain = match database.kind {
        Kind::Sqlite => "EXPLAIN QUERY PLAN",
        Kind::Postgres => {
            db.execute_unprepared("SET enable_seqscan = off").await.unwrap();
            "EXPLAIN"
        }
    };
    let plan = Statement::from_string(db.get_database_backend(), format!("{explain} {what}"));
    let rows = db.query_all_raw(plan).await.unwrap();
    db.close().await.unwrap();
    let column = if database.kind == Kind::Sqlite { 3 } else { 0 };
    rows.iter().map(|row| row.try_get_by_index(column).unwrap()).collect()
}

#[tokio::test]
async fn a_verify_token_is_looked_up_in_its_index() {
    on_each(async |database| {
        let app = App::start(database).await;
        let backend = match database.kind {
            Kind::Sqlite => DatabaseBackend::Sqlite,
            Kind::Postgres => DatabaseBackend::Postgres,
        };
        let ask = of_verify_token("x").build(backend).to_string();
        let plan = plan(database, &ask).await;
        assert!(plan.iter().any(|line| line.contains("idx-meta_account-verify_hash")), "{plan:#?}");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_let_go_of_is_found_without_reading_all_that_its_owner_was_told() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ask = ["$1", "$2", "$3"];
        let ask = ask.iter().fold(LET_GO_STRAY.to_owned(), |ask, it| ask.replace(it, "'x'"));
        let plan = plan(database, &ask).await;
        assert!(!plan.iter().any(|line| line.contains("LIST SUBQUERY")), "{plan:#?}");
        let looks_up = |line: &String| line.contains("organization_id=? AND dedup_key=?");
        assert!(database.kind != Kind::Sqlite || plan.iter().any(looks_up), "{plan:#?}");
        app.close().await;
    })
    .await;
}
