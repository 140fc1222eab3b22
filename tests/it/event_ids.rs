//! The log says what became of an event, by its id, from the request that told of it to the end of its delivery.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Options, Simulator};

use crate::{
    process::{Installation, Process},
    receiver::{Behaviour, Receiver},
    world::DEADLINE,
};

/// The lines of the log that have this, as JSON.
fn lines(log: &std::path::Path, wanted: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(log).unwrap();
    let with = log.lines().filter(|line| line.contains(wanted));
    // The last one may not be whole yet.
    with.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until a line of the log with this id has this message, and answers it.
async fn told(log: &std::path::Path, id: &str, message: &str) -> Value {
    let waits = async {
        loop {
            let found = lines(log, id).into_iter().find(|line| line["message"] == message);
            if let Some(found) = found {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, waits).await;
    found.unwrap_or_else(|_| panic!("no {message:?} of {id}: {:#?}", lines(log, id)))
}

/// Has a session elsewhere tell something, in a request of this name, and answers the event's id.
async fn tell(daemon: &Process, request: &str, words: &str) -> String {
    let path = "/api/whatsapp/webhook/elsewhere";
    let body = json!({ "event": "anything", "data": { "words": words } });
    let posted = daemon.request(Method::POST, path).header("x-request-id", request).json(&body);
    let answer = posted.send().await.unwrap();
    // It is none of those that are known.
    assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await.unwrap());
    let page = daemon.get("/api/whatsapp/session/elsewhere/events/page?after=0&limit=100").await;
    let last = page["data"].as_array().unwrap().last().unwrap().clone();
    last["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_s_id_is_in_the_log_from_its_request_to_its_end() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let receiver = Receiver::start().await;
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let talkative = [("WAGATE_LOG__LEVEL", "debug"), ("WAGATE_LOG__FORMAT", "json")];
    let daemon = installation.try_start(&talkative).unwrap();
    let log = directory.path().join("log");
    let made = json!({ "sessionId": "elsewhere", "origin": "external" });
    assert_eq!(daemon.post("/api/whatsapp/session", made).await.0, StatusCode::CREATED);
    let endpoint = json!({
        "url": receiver.url(), "event_types": ["*"], "ordering": "none", "max_retries": 1,
    });
    let (status, made) = daemon.post("/api/webhooks", endpoint).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");

    // Taken at once.
    let taken = tell(&daemon, "req-taken", "one").await;
    let recorded = told(&log, &taken, "Recorded an event").await;
    assert_eq!(recorded["event.id"], taken.as_str());
    let spans = recorded["spans"].to_string();
    assert!(spans.contains("\"req-taken\""), "{recorded:#}");
    let delivered = told(&log, &taken, "Delivered an event").await;
    assert_eq!((&delivered["event.id"], &delivered["status"]), (&taken.into(), &200.into()));

    // Put off, and given up for good by what the receiver says.
    receiver.next([Behaviour::status(500)]);
    let put_off = tell(&daemon, "req-put-off", "two").await;
    let again = told(&log, &put_off, "A delivery has failed, and is tried again").await;
    assert_eq!((&again["level"], &again["result"]), (&"INFO".into(), &"http_status".into()));
    assert!(again["webhook.delivery"].as_str().unwrap().starts_with("dlv_"), "{again:#}");
    receiver.next([Behaviour::status(410)]);
    let given_up = tell(&daemon, "req-given-up", "three").await;
    let last = told(&log, &given_up, "A delivery is given up").await;
    assert_eq!((&last["level"], &last["result"]), (&"WARN".into(), &"gone".into()));
    daemon.terminate().await;
    whatsapp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_somebody_makes_up_is_not_logged() {
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), None, &whatsapp);
    let daemon = installation.start();
    let made_up = Method::from_bytes(b"CALL-4915112345678").unwrap();
    daemon.request(made_up, "/livez").send().await.unwrap();
    daemon.terminate().await;
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("OTHER") && !log.contains("4915112345678"), "{log}");
    whatsapp.stop().await;
}
