//! What a token may ask of several daemons together: as much as of one.

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    database::{Kind, on},
    node::{Cluster, Node},
    nodes_wire::NEVER,
    world::{DEADLINE, http_client},
};

/// So little that nothing comes back during the test, and so many at once.
const LIMITS: [(&str, &str); 2] =
    [("WAGATE_LIMITS__PER_TOKEN", "1/h"), ("WAGATE_LIMITS__PER_TOKEN_BURST", "10")];

/// Waits until a daemon gives so many at once. It says so of whatever it refuses, too.
async fn until_it_gives(node: &Node, most: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = node.request(Method::GET, "/").send().await.unwrap();
        if answer.headers()["x-ratelimit-limit"] == most {
            return;
        }
        assert!(Instant::now() < deadline, "{}: {:?}", node.name, answer.headers());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_give_a_token_together_what_one_would() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let (a, b) =
            (cluster.start_configured("a", &LIMITS), cluster.start_configured("b", &LIMITS));
        let (status, made) = a.post("/api/tokens", json!({ "role": "viewer" })).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let secret = made["data"]["secret"].as_str().unwrap();
        for node in [&a, &b] {
            until_it_gives(node, "5").await;
        }

        let ask = async |node: &Node| {
            let request = http_client().get(node.address("/")).bearer_auth(secret);
            request.send().await.unwrap().status()
        };
        let mut given = [0; 2];
        for _ in 0..20 {
            for (at, node) in [&a, &b].into_iter().enumerate() {
                match ask(node).await {
                    StatusCode::OK => given[at] += 1,
                    status => assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
                }
            }
        }
        assert_eq!(given, [5, 5]);

        // Alone again, a daemon gives all of it, but not what was taken.
        b.terminate().await;
        until_it_gives(&a, "10").await;
        assert_eq!(ask(&a).await, StatusCode::TOO_MANY_REQUESTS);
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}
