//! Daemons that share one PostgreSQL database, and with it the sessions.
//!
//! Each of these tests ends by asking the simulator whether a device ever logged in while it was
//! connected: that would be a session that two daemons run.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate_simulator::ReceiptPolicy;

use crate::{
    database::{Kind, on},
    node::{Cluster, Gate, LEASE, Node, number},
    world::BOB,
};

/// So long that nothing in a test is explained by its running out.
pub(crate) const NEVER: &str = "10m";

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:02}")).collect()
}

/// The place of a session's name among the names, which is its phone number's.
pub(crate) fn place(session: &str) -> usize {
    session[1..].parse().unwrap()
}

/// Makes sessions, at one daemon after the other.
pub(crate) async fn create(nodes: &[&Node], names: &[String]) {
    for (n, name) in names.iter().enumerate() {
        nodes[n % nodes.len()].create(name).await;
    }
}

/// Waits until each daemon has seen the others: until then it takes itself for the only one.
pub(crate) async fn until_acquainted(cluster: &Cluster<'_>, nodes: &[&Node]) {
    for node in nodes {
        node.until_some("all daemons", async || {
            let living = cluster.database.count("SELECT count(*) FROM node").await;
            if living == i64::try_from(nodes.len()).unwrap() { Ok(()) } else { Err(json!(living)) }
        })
        .await;
    }
}

/// Waits until all these sessions are owned by the daemon of this name.
pub(crate) async fn until_owned(cluster: &Cluster<'_>, node: &Node, sessions: &[String]) {
    node.until_some(&format!("{} owning all", node.name), async || {
        let owned = cluster.owned_by(node.name).await;
        if sessions.iter().all(|session| owned.contains(session)) {
            Ok(())
        } else {
            Err(json!(cluster.owners().await))
        }
    })
    .await;
}

/// Sends a text to each of these sessions, and waits until all are there once, as `node` says.
pub(crate) async fn all_hear(cluster: &Cluster<'_>, node: &Node, sessions: &[String], text: &str) {
    let bob = cluster.whatsapp.contact(BOB).unwrap();
    join_all(sessions.iter().map(async |session| {
        bob.send_text(&number(place(session)), text).await.unwrap();
    }))
    .await;
    each_heard_once(node, sessions, text).await;
}

pub(crate) async fn each_heard_once(node: &Node, sessions: &[String], text: &str) {
    for session in sessions {
        let copies =
            |messages: &[Value]| messages.iter().filter(|message| message["body"] == text).count();
        node.until_some(&format!("{session} hearing {text:?}"), async || {
            let messages = node.messages(session).await;
            if copies(&messages) > 0 { Ok(()) } else { Err(json!(messages)) }
        })
        .await;
        assert_eq!(copies(&node.messages(session).await), 1, "{session}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_share_twenty_sessions_and_one_goes_on_with_all_when_the_other_is_killed() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LEASE).await;
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(20);
        create(&[&a, &b], &names).await;
        // Every code is shown by either, whoever runs the session.
        let phones = cluster.pair(&a, &names).await;
        b.until_connected(&names).await;
        let (of_a, of_b) = (cluster.owned_by("a").await, cluster.owned_by("b").await);
        assert_eq!((of_a.len(), of_b.len()), (10, 10), "{:?}", cluster.owners().await);
        all_hear(&cluster, &b, &names, "to both").await;

        a.kill();
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        for session in &of_a {
            bob.send_text(&number(place(session)), "while nobody is there").await.unwrap();
        }
        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        each_heard_once(&b, &of_a, "while nobody is there").await;
        all_hear(&cluster, &b, &names, "to one").await;

        // Back again, it takes nothing that runs.
        let a = cluster.start("a");
        a.until_connected(&names).await;
        assert_eq!(cluster.owned_by("b").await.len(), 20);
        for (name, phone) in names.iter().zip(&phones) {
            // The pairing's connection is no login; what moved has logged in once more.
            let moved = usize::from(of_a.contains(name));
            assert_eq!(phone.logins().len(), 1 + moved, "{name}");
        }
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_daemon_that_stops_go_to_the_others_at_once_and_each_of_three_has_its_share()
{
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let (a, b, c) = (cluster.start("a"), cluster.start("b"), cluster.start("c"));
        until_acquainted(&cluster, &[&a, &b, &c]).await;
        let names = names(9);
        create(&[&a, &b, &c], &names).await;
        cluster.pair(&c, &names).await;
        for name in ["a", "b", "c"] {
            assert_eq!(cluster.owned_by(name).await.len(), 3, "{:?}", cluster.owners().await);
        }

        a.terminate().await;
        b.until_some("two daemons with all of them", async || {
            let owners = cluster.owners().await;
            if owners.len() == names.len() { Ok(()) } else { Err(json!(owners)) }
        })
        .await;
        c.until_connected(&names).await;
        for name in ["b", "c"] {
            let owned = cluster.owned_by(name).await.len();
            assert!((4..=5).contains(&owned), "{:?}", cluster.owners().await);
        }
        all_hear(&cluster, &c, &names, "after the stop").await;

        // One that is killed is known to be dead as soon as it starts again.
        let of_b = cluster.owned_by("b").await;
        b.kill();
        let b = cluster.start("b");
        b.until_connected(&names).await;
        all_hear(&cluster, &c, &of_b, "after the kill").await;
        b.terminate().await;
        c.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_alone_comes_back_by_itself_when_its_database_does() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LEASE).await;
        let gate = Gate::new(&database.url).await;
        let a = cluster.start_through("a", &gate.url(&database.url));
        let names = names(2);
        create(&[&a], &names).await;
        let phones = cluster.pair(&a, &names).await;

        gate.shut();
        for phone in &phones {
            phone.wait_offline().await.unwrap();
        }
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        for n in 0..names.len() {
            bob.send_text(&number(n), "meanwhile").await.unwrap();
        }
        assert_eq!(a.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);

        gate.open();
        for phone in &phones {
            phone.wait_logged_in(2).await.unwrap();
        }
        a.until_connected(&names).await;
        each_heard_once(&a, &names, "meanwhile").await;
        assert_eq!(a.get("/readyz").await.0, StatusCode::NO_CONTENT);
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_of_one_daemon_is_done_by_the_one_that_runs_the_session() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(4);
        create(&[&a, &b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::Read);
        let of_a = cluster.owned_by("a").await;
        let session = &of_a[0];
        let phone = &phones[place(session)];

        // Both are ready, and both say the same.
        for node in [&a, &b] {
            assert_eq!(node.get("/readyz").await.0, StatusCode::NO_CONTENT);
            assert_eq!(node.status(session).await["isConnected"], true);
        }

        // A message, sent at once: not queued until the next connection.
        let (status, sent) = b.send(session, BOB, "by way of b").await;
        assert!(status.is_success(), "{sent}");
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("by way of b")).await.unwrap();

        // Stop, start, restart.
        assert_eq!(b.command(session, "stop").await["status"], "session_not_connected");
        phone.wait_offline().await.unwrap();
        assert!(!cluster.owned_by("a").await.contains(session), "given back");
        let (_, queued) = b.send(session, BOB, "for later").await;
        assert_eq!(queued["data"]["status"], "queued", "{queued}");
        a.command(session, "start").await;
        phone.wait_for_sent(|sent| sent.text.as_deref() == Some("for later")).await.unwrap();
        b.until(session, "connected", |seen| seen["isConnected"] == true).await;
        let before = phone.logins().len();
        b.command(session, "restart").await;
        phone.wait_logged_in(before + 1).await.unwrap();
        b.until(session, "connected", |seen| seen["isConnected"] == true).await;
        assert!(cluster.owned_by("a").await.contains(session), "it stays where it is");

        // A code to type, of a session that is shown a QR code.
        let (other, asker) =
            if cluster.owned_by("a").await.len() > 2 { (&b, &a) } else { (&a, &b) };
        other.create("fresh").await;
        other.until("fresh", "a code", |seen| seen["needsQR"] == true).await;
        let path = "/api/whatsapp/session/fresh/pair";
        let (status, code) = asker.post(path, json!({ "phoneNumber": number(9) })).await;
        assert_eq!(status, StatusCode::OK, "{code}");
        let fresh = cluster.whatsapp.phone(&number(9)).unwrap();
        fresh.enter_code(code["data"]["code"].as_str().unwrap()).await.unwrap();
        asker.until("fresh", "connected", |seen| seen["isConnected"] == true).await;
        let (status, refused) = asker.post(path, json!({ "phoneNumber": number(9) })).await;
        assert_eq!(
            (status, &refused["code"]),
            (StatusCode::CONFLICT, &json!("SESSION_ALREADY_PAIRED"))
        );

        // Logout and deletion tell WhatsApp.
        assert_eq!(b.command(session, "logout").await["unlinked"], true);
        assert_eq!(phone.devices().len(), 0);
        let gone = &of_a[1];
        let (status, deleted) = b.delete(&format!("/api/whatsapp/session/{gone}")).await;
        assert_eq!((status, &deleted["data"]["unlinked"]), (StatusCode::OK, &json!(true)));
        assert_eq!(
            a.get(&format!("/api/whatsapp/session/status/{gone}")).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(database.count("SELECT count(*) FROM command").await, 0, "all letters are read");

        // What was written by nobody's request: the owner sees to it.
        let mine = &cluster.owned_by("b").await[0];
        database
            .execute(&format!(
                "UPDATE session SET desired_state = 'stopped' WHERE session_id = '{mine}'"
            ))
            .await;
        phones[place(mine)].wait_offline().await.unwrap();
        a.until(mine, "stopped", |seen| seen["status"] == "session_not_connected").await;
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}
