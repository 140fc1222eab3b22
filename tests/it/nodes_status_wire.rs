//! What a daemon says of sessions whose owner stops, or has been killed.

use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;
use wagate_simulator::{Fault, Lasting};

use crate::{
    database::{Kind, on},
    node::Cluster,
    nodes_wire::{NEVER, all_hear, create, names, place, until_acquainted, until_owned},
    world::{BOB, DEADLINE},
};

/// Long enough for a busy machine to see the part of it that comes after two thirds.
const LONG: &str = "24s";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_daemon_that_stops_waits_for_no_other_s_client_and_is_not_connected_meanwhile()
 {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        cluster.whatsapp.contact(BOB).unwrap();
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(6);
        create(&[&a, &b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let slow = cluster.owned_by("a").await.remove(0);
        let phone = &phones[place(&slow)];

        // One is in the middle of a message when its daemon is told to stop, and nobody answers.
        phone.fault(Fault::BlackHole, Lasting::Once).await;
        let unheard = cluster.whatsapp.info().stanzas_unheard;
        let path = format!("/api/whatsapp/session/{slow}/messages");
        let body = json!({ "to": BOB, "text": "in the middle", "queue": true });
        let sending = try_join_all([a.request(Method::POST, &path).json(&body).send()]);
        let asked = async {
            while cluster.whatsapp.info().stanzas_unheard == unheard {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = asked => {}
            sent = sending => panic!("nobody answers: {sent:?}"),
        }
        let given_back = async {
            let deadline = Instant::now() + DEADLINE;
            loop {
                let owned = cluster.owned_by("a").await;
                if owned == std::slice::from_ref(&slow) {
                    break;
                }
                assert!(Instant::now() < deadline && !owned.is_empty(), "{owned:?}");
            }
            let seen = b.status(&slow).await;
            assert_eq!(
                cluster.owned_by("a").await,
                std::slice::from_ref(&slow),
                "it is still at it"
            );
            assert_eq!(seen["status"], "connecting", "{seen}");
        };
        tokio::join!(a.terminate(), given_back);

        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("in the middle")).await.unwrap();
        all_hear(&cluster, &b, &names, "after the stop").await;
        b.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_daemon_that_was_killed_is_not_connected_before_its_lease_is_over() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LONG).await;
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(4);
        create(&[&a, &b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let (of_a, of_b) = (cluster.owned_by("a").await, cluster.owned_by("b").await);
        let epochs = cluster.epochs().await;

        a.kill();
        let killed = Instant::now();
        for session in &of_a {
            phones[place(session)].wait_offline().await.unwrap();
            b.until(session, "no connection", |seen| seen["status"] == "connecting").await;
        }
        // Not before the daemon itself would have cut its sockets, had it lived.
        assert!(killed.elapsed() > Duration::from_secs(10), "{:?}", killed.elapsed());
        assert_eq!(cluster.owned_by("a").await, of_a, "its lease is not over");
        assert_eq!(cluster.epochs().await, epochs);
        let (_, list) = b.get("/api/whatsapp/session/list-realtime").await;
        assert_eq!(list["summary"]["connected"], 2, "{list}");
        let (refused, body) = {
            let path = format!("/api/whatsapp/session/{}/messages", of_a[0]);
            b.post(&path, json!({ "to": BOB, "text": "too late" })).await
        };
        assert_eq!((refused.as_u16(), &body["code"]), (409, &json!("SESSION_NOT_CONNECTED")));
        for session in &of_b {
            assert_eq!(b.status(session).await["isConnected"], true, "{session}");
        }

        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        all_hear(&cluster, &b, &names, "to one").await;
        for session in &of_a {
            assert_eq!(phones[place(session)].logins().len(), 2, "{session}");
        }
        b.terminate().await;
        cluster.end().await;
    })
    .await;
}
