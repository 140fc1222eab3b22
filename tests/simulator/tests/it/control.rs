//! The control API, by hand over TCP.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wagate_simulator::control;

use crate::Client;
use crate::world::{ALICE, BOB, World};

struct Script(SocketAddr);

impl Script {
    async fn start(world: &World) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self(control::serve(&world.sim, any).await.unwrap())
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, &body.to_string()).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "").await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_tells_the_whole_story() {
    let world = World::start().await;
    let script = Script::start(&world).await;
    let new = json!({"number": BOB, "name": "Bob", "receipts": "read"});
    assert_eq!(script.post("/contacts", new).await.0, 201);
    let client = Client::fresh(&world.sim.url()).await;
    let scanned = script.post("/scan", json!({"phone": ALICE, "qr": client.qr().await})).await;
    assert_eq!(scanned, (200, json!({"device": 1})));
    client.connected(1).await;

    let injected = json!({"from": BOB, "to": ALICE, "text": "from a script"});
    let (status, injected) = script.post("/inject", injected).await;
    assert_eq!(status, 200, "{injected}");
    let (id, _) = client.text("from a script").await;
    assert_eq!(injected["ids"], json!([id]));
    world.alice.wait_for_receipt(&id, wagate_simulator::ReceiptKind::Delivered).await.unwrap();
    let receipts = script.get(&format!("/receipts?account={ALICE}&id={id}")).await;
    let kind = &receipts[0]["kind"];
    assert!(kind == "delivered" || kind == "inactive", "{receipts}");

    let id = client.send(BOB, "to a script").await;
    world.alice.wait_for_sent(|it| it.id == id).await.unwrap();
    let sent = script.get(&format!("/sent?account={ALICE}&id={id}")).await;
    assert_eq!(
        (&sent[0]["text"], &sent[0]["decrypted_by"]),
        (&json!("to a script"), &json!([BOB]))
    );
    let played = json!({"from": BOB, "to": ALICE, "ids": [id], "kind": "played"});
    assert_eq!(script.post("/receipt", played).await.0, 200);

    let dropped = script.post("/drop", json!({"account": ALICE})).await;
    assert_eq!(dropped, (200, json!({"dropped": [format!("{ALICE}:1")]})));
    world.alice.wait_logged_in(2).await.unwrap();
    assert_eq!(script.get("/info").await["counters"]["logins"], 2);
    let unlinked = script.post("/logout", json!({"account": ALICE})).await;
    assert_eq!(unlinked, (200, json!({"unlinked": 1})));
    assert_eq!(script.get("/violations").await, json!([]));
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_armed_listed_and_cleared() {
    let world = World::start().await;
    let script = Script::start(&world).await;
    let fault = json!({"fault": "slow", "millis": 5, "account": ALICE, "lasting": "until_cleared"});
    let (status, armed) = script.post("/fault", fault).await;
    assert_eq!(status, 200, "{armed}");
    assert_eq!(armed[0]["fault"], json!({"fault": "slow", "millis": 5}));
    let fault = json!({"fault": "error_ack", "code": 463, "lasting": {"times": 3}});
    assert_eq!(script.post("/fault", fault).await.1[1]["left"], 3);
    assert_eq!(script.call("DELETE", "/fault", "").await, (200, json!([])));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_of_faults_are_started_moved_and_ended_over_http() {
    let world = World::start().await;
    let script = Script::start(&world).await;
    let step = json!({
        "after": 500, "fault": "outage", "scope": {"account": ALICE}, "lasting": {"millis": 1000},
    });
    let (status, play) = script.post("/script", json!({"steps": [step], "manual": true})).await;
    assert_eq!((status, &play["left"], &play["next"]), (200, &json!(1), &json!(500)));
    let advance = json!({"id": play["id"], "millis": 500});
    let (status, moved) = script.post("/script/advance", advance).await;
    assert_eq!((status, &moved["begun"][0]["fault"]), (200, &json!("outage")), "{moved}");
    assert_eq!(script.get("/fault").await[0]["fault"], json!({"fault": "outage"}));
    assert_eq!(script.get("/inflicted").await[0]["scope"], json!({"account": ALICE}));
    assert_eq!(script.call("DELETE", "/script", "").await, (200, json!([])));
    assert_eq!(script.get("/fault").await, json!([]));

    let chaos = json!({
        "seed": 1, "accounts": [ALICE], "mean_millis": 1000, "during_millis": 60_000,
        "troubles": [{"weight": 1, "fault": "lose_ack"}],
    });
    let (status, random) = script.post("/chaos", chaos).await;
    assert_eq!((status, &random["steps"][0]["fault"]), (200, &json!("lose_ack")));
    script.call("DELETE", "/script", "").await;
    assert_eq!(script.get("/sockets").await, json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_errs_is_told_what_is_wrong() {
    let world = World::start().await;
    let script = Script::start(&world).await;
    for (method, path, body, status) in [
        ("POST", "/scan", "{", 400),
        ("POST", "/scan", "{}", 400),
        ("POST", "/scan", r#"{"phone": "15550001111", "qr": "nonsense"}"#, 400),
        ("POST", "/link-code", r#"{"phone": "15550001111", "code": "ABCD1234"}"#, 409),
        ("POST", "/phones", r#"{"number": "12"}"#, 400),
        ("POST", "/inject", r#"{"from": "15550002222", "to": "15550001111"}"#, 400),
        ("POST", "/inject", r#"{"from": "19999999999", "to": "15550001111", "text": "x"}"#, 404),
        ("POST", "/fault", r#"{"fault": "gremlins"}"#, 400),
        ("POST", "/script", r#"{"steps": [{"fault": "drop"}]}"#, 400),
        ("POST", "/script/advance", r#"{"id": 0, "millis": 1}"#, 404),
        (
            "POST",
            "/chaos",
            r#"{"seed": 1, "accounts": [], "mean_millis": 0, "during_millis": 1}"#,
            400,
        ),
        (
            "POST",
            "/chaos",
            r#"{"seed": 1, "accounts": ["19999999999"], "mean_millis": 1, "during_millis": 1}"#,
            404,
        ),
        (
            "POST",
            "/receipt",
            r#"{"from": "15550002222", "to": "15550001111", "ids": ["X"], "kind": "read"}"#,
            404,
        ),
        ("POST", "/drop", r#"{"device": 1}"#, 400),
        ("POST", "/logout", r#"{"account": "15550001111", "device": 9}"#, 404),
        ("GET", "/sent", "", 400),
        ("GET", "/sent?account=19999999999", "", 404),
        ("GET", "/nowhere", "", 404),
        ("GET", "/scan", "", 405),
    ] {
        let (got, answer) = script.call(method, path, body).await;
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    world.end().await;
}
