//! Bad input and trouble: every refusal is a problem document, and nothing is ever a 500.

use std::time::Duration;

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wagate::{service::Tokens, store::audit::By};

use crate::{
    database::{Kind, on, on_each},
    http_app::{Answer, App, json as with_json},
};

/// Every route but `/livez` and `/readyz`, with a session called `s`.
const ROUTES: [(&str, &str); 30] = [
    ("GET", "/"),
    ("GET", "/nowhere"),
    ("GET", "/api/whatsapp/session/status/s"),
    ("GET", "/api/whatsapp/session/list-realtime"),
    ("POST", "/api/whatsapp/session"),
    ("GET", "/api/whatsapp/session/s"),
    ("PATCH", "/api/whatsapp/session/s"),
    ("DELETE", "/api/whatsapp/session/s"),
    ("PUT", "/api/whatsapp/session/s"),
    ("POST", "/api/whatsapp/session/s/start"),
    ("POST", "/api/whatsapp/session/s/stop"),
    ("POST", "/api/whatsapp/session/s/restart"),
    ("POST", "/api/whatsapp/session/s/logout"),
    ("POST", "/api/whatsapp/session/s/pair"),
    ("GET", "/api/whatsapp/session/s/qr"),
    ("GET", "/api/whatsapp/session/s/qr?wait=60"),
    ("GET", "/api/whatsapp/session/s/qr.png"),
    ("GET", "/api/whatsapp/session/s/qr.svg"),
    ("GET", "/api/whatsapp/session/s/qr.txt"),
    ("GET", "/api/whatsapp/session/s/qr.json"),
    ("POST", "/api/whatsapp/session/s/messages"),
    ("GET", "/api/whatsapp/session/s/messages"),
    ("GET", "/api/whatsapp/session/s/messages/msg_01JJ0000000000000000000000"),
    ("GET", "/api/whatsapp/session/s/figures"),
    ("GET", "/api/whatsapp/session/s/events"),
    ("GET", "/api/whatsapp/session/s/events/page"),
    ("GET", "/api/whatsapp/events"),
    ("GET", "/api/whatsapp/events/page"),
    ("DELETE", "/api/whatsapp/events"),
    ("OPTIONS", "/api/whatsapp/session"),
];

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

#[tokio::test]
async fn everything_but_health_needs_a_valid_token() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let revoked = app.token_of(&app.organization, Role::Operator).await;
        let caller = Tokens::new(app.store.clone()).authenticate(&revoked).await.unwrap();
        assert!(
            app.store
                .tokens()
                .revoke(&app.organization, caller.token_id.as_ref().unwrap(), By::default())
                .await
                .unwrap()
        );

        for (name, path) in ROUTES {
            let without = Answer::to(app.anonymous(method(name), path)).await;
            without.problem(401, "UNAUTHENTICATED");
            assert!(without.header("www-authenticate").starts_with("Bearer"), "{name} {path}");
            for wrong in ["wag_wrong", &revoked, &"x".repeat(5000)] {
                let request = app.anonymous(method(name), path).bearer_auth(wrong);
                Answer::to(request).await.problem(401, "UNAUTHENTICATED");
            }
            let request = app.anonymous(method(name), path).basic_auth("user", Some("password"));
            Answer::to(request).await.problem(401, "UNAUTHENTICATED");
        }
        for path in ["/livez", "/readyz"] {
            let answer = Answer::to(app.anonymous(Method::GET, path)).await;
            assert_eq!(answer.status, 204);
            assert!(answer.body.is_empty());
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_token_is_good_until_it_expires() {
    on_each(async |database| {
        let app = App::start(database).await;
        let expires_at = app.clock.now() + Duration::from_mins(1);
        database.execute(&format!("UPDATE token SET expires_at = {}", expires_at.0)).await;
        assert_eq!(app.get("/").await.status, 200);
        app.clock.advance(Duration::from_mins(1));
        app.get("/").await.problem(401, "UNAUTHENTICATED");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_session_is_404_on_every_route() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (name, path) in ROUTES.iter().filter(|(name, path)| {
            path.contains("/s") && !path.ends_with("/session") && *name != "PUT"
        }) {
            if path.contains("list-realtime") {
                continue;
            }
            let body = match path.rsplit('/').next().unwrap() {
                "messages" => json!({ "to": "6281234567890", "text": "hi" }),
                "pair" => json!({ "phoneNumber": "6281234567890" }),
                _ => json!({}),
            };
            let request = with_json(app.request(method(name), path), &body);
            let problem = Answer::to(request).await.problem(404, "SESSION_NOT_FOUND");
            assert_eq!(problem["detail"], "there is no such session");
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_invalid_session_id_is_400() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let too_long = "x".repeat(65);
        for id in ["-x", "_x", "a%20b", "a%2Fb", "%00", "%FF", "%C3%A4", "events", &too_long] {
            let path = format!("/api/whatsapp/session/status/{id}");
            app.get(&path).await.invalid(&["/sessionId"]);
        }
        for id in ["", "-x", "a b", "ä", "status", "List-Realtime", "a\0", &too_long] {
            let answer = app.post("/api/whatsapp/session", json!({ "sessionId": id })).await;
            answer.invalid(&["/sessionId"]);
        }
        app.get("/api/whatsapp/session/status").await.invalid(&["/sessionId"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_wrong_method_is_405_and_says_which_are_right() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        for (name, path, allow) in [
            ("PUT", "/api/whatsapp/session/s", "GET,HEAD,PATCH,DELETE"),
            ("GET", "/api/whatsapp/session", "POST"),
            ("DELETE", "/api/whatsapp/session/list-realtime", "GET,HEAD"),
            ("POST", "/api/whatsapp/events", "GET,HEAD"),
            ("TRACE", "/api/whatsapp/session/s/start", "POST"),
        ] {
            let answer = Answer::to(app.request(method(name), path)).await;
            answer.problem(405, "METHOD_NOT_ALLOWED");
            assert_eq!(answer.header("allow"), allow, "{name} {path}");
        }
        let answer = Answer::to(app.anonymous(Method::POST, "/livez")).await;
        answer.problem(405, "METHOD_NOT_ALLOWED");
        app.get("/api/nowhere").await.problem(404, "ROUTE_NOT_FOUND");
        app.get("/api/whatsapp/session/s/").await.problem(404, "ROUTE_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_body_must_be_json_and_of_reasonable_size() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let path = "/api/whatsapp/session";
        let post = |kind: Option<&'static str>, body: Vec<u8>| {
            let request = app.request(Method::POST, path).body(body);
            Answer::to(match kind {
                Some(kind) => request.header("content-type", kind),
                None => request,
            })
        };

        for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let answer = post(kind, b"{}".to_vec()).await;
            answer.problem(415, "UNSUPPORTED_MEDIA_TYPE");
        }
        let deep = "[".repeat(100_000).into_bytes();
        for body in [
            b"".to_vec(),
            b"{".to_vec(),
            b"[]".to_vec(),
            b"null".to_vec(),
            b"\"text\"".to_vec(),
            b"{\"sessionId\": \"\\ud800\"}".to_vec(),
            b"{\"sessionId\": \"\xff\"}".to_vec(),
            b"{} {}".to_vec(),
            deep[..60_000].to_vec(),
        ] {
            let answer = post(Some("application/json"), body).await;
            let problem = answer.problem(400, "MALFORMED_JSON");
            assert_eq!(problem["errors"][0]["pointer"], "");
        }

        // By the length stated, before anything is sent; and by what comes, where none is stated.
        let large = format!("{{\"userId\": \"{}\"}}", "x".repeat(64 << 10)).into_bytes();
        post(Some("application/json"), large).await.problem(413, "BODY_TOO_LARGE");
        let huge = vec![b' '; 2 << 20];
        post(Some("application/json"), huge).await.problem(413, "BODY_TOO_LARGE");
        let answer = chunked(&app, path, 3 << 20).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

        // The longest message fits, escaped as badly as may be.
        app.session("s").await;
        let text = "\\u00e4".repeat(65_536);
        let body = format!("{{\"to\": \"6281234567890\", \"text\": \"{text}\", \"queue\": true}}");
        let request = app
            .request(Method::POST, "/api/whatsapp/session/s/messages")
            .header("content-type", "application/json")
            .body(body);
        assert_eq!(Answer::to(request).await.status, 202);
        app.close().await;
    })
    .await;
}

/// Posts that many bytes without saying how many there will be.
async fn chunked(app: &App, path: &str, length: usize) -> String {
    let address = app.base.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        app.token
    );
    let writer = async move {
        write.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b' '; 4096];
        for _ in 0..length / chunk.len() {
            let framed = [b"1000\r\n".as_slice(), &chunk, b"\r\n"].concat();
            // The other side has heard enough at some point.
            if write.write_all(&framed).await.is_err() {
                return write;
            }
        }
        write
    };
    let mut answer = vec![0; 4096];
    let (_write, length) = tokio::join!(writer, read.read(&mut answer));
    String::from_utf8_lossy(&answer[..length.unwrap()]).into_owned()
}

#[tokio::test]
async fn members_and_parameters_are_read_strictly() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        for (path, body, pointers) in [
            ("session", json!({ "sessionid": "x", "start": 1 }), &["/start", "/sessionid"][..]),
            ("session", json!({ "userId": 7, "phoneNumber": "12" }), &["/userId"]),
            ("session", json!({ "userId": "", "phoneNumber": "12" }), &["/userId", "/phoneNumber"]),
            ("session", json!({ "userId": "a\0b" }), &["/userId"]),
            ("session/s/start", json!({ "now": true }), &["/now"]),
            ("session/s/pair", json!({}), &["/phoneNumber"]),
            ("session/s/pair", json!({ "phoneNumber": "0812" }), &["/phoneNumber"]),
            ("session/s/messages", json!({}), &["/to", "/text"]),
            ("session/s/messages", json!({ "to": 62, "text": [] }), &["/to", "/text"]),
            ("session/s/messages", json!({ "to": "x", "text": "" }), &["/to", "/text"]),
            (
                "session/s/messages",
                json!({ "to": "6281234567890", "type": "image", "text": "x" }),
                &["/type"],
            ),
        ] {
            app.post(&format!("/api/whatsapp/{path}"), body).await.invalid(pointers);
        }
        for (path, pointers) in [
            ("session/list-realtime?stat=x", &["/stat"][..]),
            ("session/list-realtime?status=offline", &["/status"]),
            ("session/list-realtime?limit=0", &["/limit"]),
            ("session/list-realtime?limit=1&limit=2", &["/limit"]),
            ("session/list-realtime?limit=ten&cursor=x", &["/limit", "/cursor"]),
            ("session/list-realtime?userId=%00", &["/userId"]),
            ("session/list-realtime?userId=", &["/userId"]),
            ("session/status/s?x=1", &["/x"]),
            (
                "session/s/qr?size=1&margin=99&wait=61&after=-1",
                &["/size", "/margin", "/after", "/wait"],
            ),
            ("session/s/messages?chat=nobody", &["/chat"]),
            ("session/s/messages?cursor=%FF", &["/cursor"]),
            ("session/s/events?after=x", &["/after"]),
            ("events/page?after=9223372036854775808", &["/after"]),
            ("events/page?limit=1001", &["/limit"]),
        ] {
            app.get(&format!("/api/whatsapp/{path}")).await.invalid(pointers);
        }
        app.delete("/api/whatsapp/session/s?logout=no").await.invalid(&["/logout"]);
        let request = app.request(Method::GET, "/api/whatsapp/events").header("last-event-id", "x");
        Answer::to(request).await.invalid(&["/Last-Event-ID"]);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_is_called_what_its_caller_calls_it() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        let request = app.request(Method::GET, "/nowhere").header("x-request-id", "mine:1");
        let problem = Answer::to(request).await.problem(404, "ROUTE_NOT_FOUND");
        assert_eq!(problem["requestId"], "mine:1");

        let request = app.request(Method::GET, "/").header("x-request-id", "no good\"");
        let answer = Answer::to(request).await;
        assert!(answer.header("x-request-id").starts_with("req_"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn another_organization_sees_nothing() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        app.connect("s").await;
        let message = json!({ "to": "6281234567890", "text": "hi", "queue": true });
        let sent = app.post("/api/whatsapp/session/s/messages", message).await.json();
        let message = sent["data"]["id"].as_str().unwrap();

        let stranger = app.stranger(database).await;
        let get =
            |path: String| Answer::to(app.anonymous(Method::GET, &path).bearer_auth(&stranger));
        get("/api/whatsapp/session/s".to_owned()).await.problem(404, "SESSION_NOT_FOUND");
        get(format!("/api/whatsapp/session/s/messages/{message}"))
            .await
            .problem(404, "SESSION_NOT_FOUND");
        let list = get("/api/whatsapp/session/list-realtime".to_owned()).await.json();
        assert_eq!((&list["data"], &list["summary"]["total"]), (&json!([]), &json!(0)));
        let events = get("/api/whatsapp/events/page".to_owned()).await.json();
        assert_eq!(events["data"], json!([]));

        // The same id is free for them, and is another session; messages do not cross over.
        let create = with_json(
            app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&stranger),
            &json!({ "sessionId": "s", "start": false }),
        );
        assert_eq!(Answer::to(create).await.status, 201);
        get(format!("/api/whatsapp/session/s/messages/{message}"))
            .await
            .problem(404, "MESSAGE_NOT_FOUND");
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_viewer_may_look_and_not_touch() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        let viewer = app.token_of(&app.organization, Role::Viewer).await;
        for (name, path) in ROUTES {
            let is_write =
                matches!(name, "POST" | "PATCH") || path.ends_with("/s") && name == "DELETE";
            if !is_write {
                continue;
            }
            let body = match path.rsplit('/').next().unwrap() {
                "messages" => json!({ "to": "6281234567890", "text": "hi" }),
                "pair" => json!({ "phoneNumber": "6281234567890" }),
                _ => json!({}),
            };
            let request = app.anonymous(method(name), path).bearer_auth(&viewer);
            let problem = Answer::to(with_json(request, &body)).await.problem(403, "FORBIDDEN");
            assert_eq!(problem["needs"], "manager", "{name} {path}");
        }
        let look = app.anonymous(Method::GET, "/api/whatsapp/session/s").bearer_auth(&viewer);
        assert_eq!(Answer::to(look).await.status, 200);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_away_is_503_and_says_when_to_come_back() {
    on(Kind::Sqlite, async |database| {
        let app = App::start(database).await;
        app.store.close().await;
        let answer = app.get("/api/whatsapp/session/list-realtime").await;
        answer.problem(503, "DATABASE_UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), "5");
        let ready = Answer::to(app.anonymous(Method::GET, "/readyz")).await;
        assert_eq!((ready.status.as_u16(), ready.body.len()), (503, 0));
        let live = Answer::to(app.anonymous(Method::GET, "/livez")).await;
        assert_eq!(live.status, 204);
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn no_input_is_a_500() {
    let strange: Vec<Value> = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!([]),
        json!({}),
        json!(""),
        json!("\0"),
        json!("\u{ffff}\u{202e}😀"),
        json!("%00"),
        json!("' OR 1=1 --"),
        json!("x".repeat(30_000)),
        json!("6281234567890@c.us"),
        json!("..%2f"),
        json!([[[[]]]]),
    ]
    .to_vec();
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("s").await;
        app.connect("s").await;
        for value in &strange {
            for (name, path, member) in [
                ("POST", "/api/whatsapp/session", "sessionId"),
                ("POST", "/api/whatsapp/session", "userId"),
                ("POST", "/api/whatsapp/session", "phoneNumber"),
                ("PATCH", "/api/whatsapp/session/s", "userId"),
                ("PATCH", "/api/whatsapp/session/s", "phoneNumber"),
                ("POST", "/api/whatsapp/session/s/pair", "phoneNumber"),
                ("POST", "/api/whatsapp/session/s/messages", "to"),
                ("POST", "/api/whatsapp/session/s/messages", "text"),
                ("POST", "/api/whatsapp/session/s/messages", "queue"),
                ("POST", "/api/whatsapp/session/s/messages", "type"),
            ] {
                let mut body = match path.rsplit('/').next().unwrap() {
                    "messages" => json!({ "to": "6281234567890", "text": "hi", "queue": true }),
                    "session" => json!({ "start": false }),
                    _ => json!({}),
                };
                body[member] = value.clone();
                let answer = Answer::to(with_json(app.request(method(name), path), &body)).await;
                assert!(answer.status.as_u16() < 500, "{name} {path} {body}: {answer:?}");
            }
        }
        app.close().await;
    })
    .await;
}
