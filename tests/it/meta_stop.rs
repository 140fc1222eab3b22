//! A daemon that stops while Meta is being asked hears what Meta says.

use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use wagate_simulator::Options;

use crate::{
    database::{self, Kind},
    graph::takes,
    meta::{NUMBER, SECRET, WABA, complete},
    receiver::Receiver,
    world::{DEADLINE, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_meta_is_asked_to_send_when_the_daemon_stops_has_its_answer_afterwards() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let graph = Receiver::start().await;
            let url = format!("http://{}", graph.address);
            let options = Options::default();
            let mut world =
                World::start_with(database, options, |config| config.meta.graph_url = url).await;
            let made = world.post("/api/meta/accounts", complete(NUMBER, WABA, SECRET)).await;
            let account = made.body["data"]["id"].as_str().unwrap();
            let path = format!("/api/meta/accounts/{account}/messages");
            let gate = graph.hold();
            graph.usually(takes("wamid.out"));
            let taken = world.post(&path, json!({ "to": "16505551234", "text": "x" })).await;
            let session = taken.body["data"]["sessionId"].as_str().unwrap();
            let id = taken.body["data"]["id"].as_str().unwrap();
            let message = format!("/api/whatsapp/session/{session}/messages/{id}");
            graph.arrived(1).await;

            let address = world.address();
            let daemon = world.daemon.take().expect("the daemon runs");
            let answered = async {
                // It has begun to stop when it accepts no more.
                let refused = async { while TcpStream::connect(address).await.is_ok() {} };
                timeout(DEADLINE, refused).await.expect("nobody accepts at its address any more");
                gate.notify_one();
            };
            let (stopped, ()) = tokio::join!(daemon.shutdown(), answered);
            assert!(stopped.is_clean(), "every part ends within its time: {stopped:?}");

            world.start_daemon().await;
            let shown = world.get(&message).await.body["data"].clone();
            let state = (&shown["status"], &shown["waId"], &shown["error"]);
            assert_eq!(state, (&json!("sent"), &json!("wamid.out"), &Value::Null), "{shown:#}");
            assert_eq!(graph.count(), 1);
            world.end().await;
        })
        .await;
    }
}
