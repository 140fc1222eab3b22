//! Errors on the routes of seed 002, as the clients that it describes read them.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::{Answer, App, json as with_json},
};

const CONNECT: &str = "/api/whatsapp/connect";
const ROUTES: [(Method, &str); 4] = [
    (Method::POST, CONNECT),
    (Method::POST, "/api/webhooks/register"),
    (Method::GET, "/api/webhooks/whk_1/events"),
    (Method::POST, "/api/webhooks/events/del_1/retry"),
];

/// What an error has for clients of the seed.
async fn elder(request: RequestBuilder) -> Value {
    let problem = Answer::to(request).await.json();
    assert_eq!(problem["success"], false, "it is a problem document as well: {problem}");
    assert_eq!(problem["status"], problem["statusCode"], "{problem}");
    json!([problem["statusCode"], problem["message"], problem["error"]])
}

#[tokio::test]
async fn the_guard_says_that_there_is_no_token_or_that_it_is_not_valid() {
    on_each(async |database| {
        let app = App::start(database).await;
        for (method, path) in ROUTES {
            let ask = || app.anonymous(method.clone(), path);
            let none = json!([401, "Token not found", "Unauthorized"]);
            assert_eq!(elder(ask()).await, none, "{path}");
            assert_eq!(elder(ask().header("authorization", "Basic eA==")).await, none, "{path}");
            let wrong = elder(ask().bearer_auth("wag_wrong")).await;
            assert_eq!(wrong, json!([401, "Invalid token", "Unauthorized"]), "{path}");
        }
        // It is theirs alone.
        let other = app.anonymous(Method::GET, "/api/webhooks");
        let other = Answer::to(other).await.problem(401, "UNAUTHENTICATED");
        assert!(other["statusCode"].is_null() && other["message"].is_null());
        app.close().await;
    })
    .await;
}

/// What is described as the answer is the answer.
#[tokio::test]
async fn a_user_who_is_connected_is_answered_as_it_is_described() {
    on_each(async |database| {
        let app = App::start(database).await;
        let body = json!({ "sessionId": "shop", "userId": "user-1", "origin": "external" });
        app.post("/api/whatsapp/session", body).await;
        app.tell("shop", "ready", json!({})).await;
        let document = app.get("/openapi.json").await.json();
        let described = &document["paths"][CONNECT]["post"]["responses"];
        let example = |status: &str, code: &str| {
            let content = &described[status]["content"]["application/problem+json"];
            content["examples"][code]["value"].clone()
        };
        let ask = |body: Value| with_json(app.request(Method::POST, CONNECT), &body);
        let user = json!({ "user_id": "user-1", "phone_number": "6281234567890" });
        let nobody = app.anonymous(Method::POST, CONNECT);
        for (request, status, code) in [
            (ask(user), 400, "SESSION_EXISTS"),
            (ask(json!({})), 400, "VALIDATION_FAILED"),
            (with_json(nobody, &json!({})), 401, "UNAUTHENTICATED"),
        ] {
            let answer = Answer::to(request).await;
            let mut told = answer.problem(status, code);
            let mut example = example(&status.to_string(), code);
            for document in [&mut told, &mut example] {
                // Of each request another.
                for member in ["requestId", "errors"] {
                    document.as_object_mut().unwrap().remove(member);
                }
            }
            assert_eq!(told, example);
        }
        let exists = example("400", "SESSION_EXISTS");
        let seed = (&exists["statusCode"], &exists["message"], &exists["error"]);
        assert_eq!(seed, (&json!(400), &json!("Sessão já existente"), &json!("Bad Request")));
        let about = described["400"]["description"].as_str().unwrap();
        assert!(about.contains("The user has a session that is connected"), "{about}");
        assert!(
            described["409"]["content"]["application/problem+json"]["examples"]["SESSION_EXISTS"]
                .is_null()
        );
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn whatever_else_is_wrong_is_told_in_those_members_too() {
    on_each(async |database| {
        let app = App::start(database).await;
        let ask = |method: Method, path: &str| app.request(method, path);
        let malformed = || {
            ask(Method::POST, CONNECT)
                .header("content-type", "application/json")
                .body("{\"user_id\":")
        };
        let told = elder(malformed()).await;
        assert_eq!((&told[0], &told[2]), (&json!(400), &json!("Bad Request")));
        let problem = Answer::to(malformed()).await.problem(400, "MALFORMED_JSON");
        assert_eq!(problem["message"], problem["detail"]);
        // As it stands in the seed, with no `error`.
        let invalid = elder(with_json(ask(Method::POST, CONNECT), &json!({}))).await;
        assert_eq!(invalid, json!([400, "Invalid params", null]));
        let not_there = elder(ask(Method::GET, "/api/webhooks/nothing/events")).await;
        assert_eq!((&not_there[0], &not_there[2]), (&json!(404), &json!("Not Found")));
        let put = elder(ask(Method::PUT, CONNECT)).await;
        assert_eq!((&put[0], &put[2]), (&json!(405), &json!("Method Not Allowed")));
        // What is refused before anybody looks who asks.
        let long = elder(ask(Method::POST, &format!("{CONNECT}?{}", "x".repeat(9000)))).await;
        assert_eq!((&long[0], &long[2]), (&json!(414), &json!("URI Too Long")));
        // A start that fails: the seed has the error's words in `message`.
        app.stop_sessions().await;
        let body = json!({ "user_id": "user-1", "phone_number": "6281234567890" });
        let failed = elder(with_json(ask(Method::POST, CONNECT), &body)).await;
        assert_eq!((&failed[0], &failed[2]), (&json!(503), &json!("Service Unavailable")));
        assert!(failed[1].as_str().is_some_and(|it| !it.is_empty()), "{failed}");
        app.close().await;
    })
    .await;
}
