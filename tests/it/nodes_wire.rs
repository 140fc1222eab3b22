//! Daemons that share one PostgreSQL database, and with it the sessions.
//!
//! Each of these tests ends by asking the simulator whether a device ever logged in while it was
//! connected: that would be a session that two daemons run.

use entity::{UnixMillis, id::NodeId};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting, ReceiptPolicy, Scope, SocketState};

use crate::{
    database::{Database, Kind, on},
    node::{Cluster, Gate, LEASE, Node, number},
    world::{BOB, DEADLINE},
};

/// So long that nothing in a test is explained by its running out.
const NEVER: &str = "10m";

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:02}")).collect()
}

/// The place of a session's name among the names, which is its phone number's.
fn place(session: &str) -> usize {
    session[1..].parse().unwrap()
}

/// Makes sessions, at one daemon after the other.
async fn create(nodes: &[&Node], names: &[String]) {
    for (n, name) in names.iter().enumerate() {
        nodes[n % nodes.len()].create(name).await;
    }
}

/// Waits until each daemon has seen the others: until then it takes itself for the only one.
async fn until_acquainted(cluster: &Cluster<'_>, nodes: &[&Node]) {
    for node in nodes {
        node.until_some("all daemons", async || {
            let living = cluster.database.count("SELECT count(*) FROM node").await;
            if living == i64::try_from(nodes.len()).unwrap() { Ok(()) } else { Err(json!(living)) }
        })
        .await;
    }
}

/// Waits until all these sessions are owned by the daemon of this name.
async fn until_owned(cluster: &Cluster<'_>, node: &Node, sessions: &[String]) {
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
async fn all_hear(cluster: &Cluster<'_>, node: &Node, sessions: &[String], text: &str) {
    let bob = cluster.whatsapp.contact(BOB).unwrap();
    join_all(sessions.iter().map(async |session| {
        bob.send_text(&number(place(session)), text).await.unwrap();
    }))
    .await;
    each_heard_once(node, sessions, text).await;
}

async fn each_heard_once(node: &Node, sessions: &[String], text: &str) {
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
async fn a_daemon_that_was_paused_past_its_lease_writes_nothing_more_and_dials_nobody() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LEASE).await;
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(6);
        create(&[&a, &b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let of_a = cluster.owned_by("a").await;
        assert_eq!(of_a.len(), 3);

        a.signal("-STOP");
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        for session in &of_a {
            // What is delivered to a paused process lies in its socket until it goes on: a message, and what
            // its client would answer without asking anybody.
            bob.send_text(&number(place(session)), "to whom it may concern").await.unwrap();
            phones[place(session)].ping(20);
            // A process that is paused keeps its sockets open, which is not its fault.
            phones[place(session)].fault(Fault::BlackHole, Lasting::Once).await;
        }
        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        each_heard_once(&b, &of_a, "to whom it may concern").await;

        let (before, dialled) = (cluster.epochs().await, cluster.whatsapp.info().connections);
        let (logins, frames) = (cluster.whatsapp.logins(), cluster.whatsapp.info().stanzas_unheard);
        let events = database.count("SELECT count(*) FROM event").await;
        a.signal("-CONT");
        // It says itself that it was taken for dead, and is back under a new name.
        a.until_some("a living again", async || {
            let living = database.count("SELECT count(*) FROM node WHERE name = 'a'").await;
            let log = a.log();
            if living == 1 && log.contains("Among the living again") {
                Ok(())
            } else {
                Err(json!(log))
            }
        })
        .await;
        all_hear(&cluster, &b, &names, "after the pause").await;
        assert_eq!(cluster.epochs().await, before, "no session changed its owner or its run");
        assert_eq!(cluster.whatsapp.logins(), logins);
        assert_eq!(cluster.whatsapp.info().connections, dialled, "nobody dialled");
        // Its old sockets were open all the time, and nothing came of them but their end.
        b.until_some("the end of old sockets", async || {
            let open = cluster.whatsapp.sockets();
            let deaf = open.iter().any(|socket| socket.state == SocketState::Deaf);
            if deaf { Err(json!(open)) } else { Ok(()) }
        })
        .await;
        assert_eq!(cluster.whatsapp.info().stanzas_unheard, frames, "a frame left after the pause");
        assert_eq!(database.count("SELECT count(*) FROM event").await, events + 6);
        assert_eq!(cluster.owned_by("b").await.len(), 6);
        a.until_connected(&names).await;

        // Its sockets are closed, and it is fit for work.
        a.create("s06").await;
        cluster.owners().await;
        a.until("s06", "a code", |seen| seen["needsQR"] == true).await;
        assert_eq!(cluster.owned_by("a").await, ["s06"]);
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

/// As a machine that is suspended after it has become the owner of a session, and before it dials.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_paused_in_front_of_a_dial_does_not_dial_what_others_run_by_now() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LEASE).await;
        let b = cluster.start("b");
        let names = names(1);
        create(&[&b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let a = cluster.start_to_be_paused("a", "session.dialling");
        until_acquainted(&cluster, &[&a, &b]).await;
        // It takes the session over, and comes no further than that.
        b.kill();
        phones[0].wait_offline().await.unwrap();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !a.is_paused() {
            assert!(tokio::time::Instant::now() < deadline, "{}", a.log());
            // That takes a moment.
            cluster.owners().await;
        }
        assert_eq!(cluster.owned_by("a").await, names);
        assert_eq!(phones[0].logins().len(), 1);

        let b = cluster.start("b");
        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        let (before, dialled) = (cluster.epochs().await, cluster.whatsapp.info().connections);
        a.signal("-CONT");
        a.until_some("a living again", async || {
            let log = a.log();
            if log.contains("Among the living again") { Ok(()) } else { Err(json!(log)) }
        })
        .await;
        all_hear(&cluster, &b, &names, "after the pause").await;
        a.until_connected(&names).await;
        assert_eq!(cluster.whatsapp.info().connections, dialled, "it dialled");
        assert_eq!(phones[0].logins().len(), 2);
        assert_eq!(cluster.epochs().await, before, "the session changed its owner or its run");
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

/// Its own measure says that all is well, so only what it writes before it dials can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_session_was_taken_over_while_it_waits_for_its_next_try_does_not_dial() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let a = cluster.start("a");
        let names = names(1);
        create(&[&a], &names).await;
        let phones = cluster.pair(&a, &names).await;
        let refuses = Fault::RefuseUpgrade { status: 503, retry_after: Some(5) };
        cluster.whatsapp.fault(Scope::Everyone, refuses, Lasting::Once).await;
        phones[0].fault(Fault::Drop, Lasting::Once).await;
        // Its next dial is refused, and the one after that is five seconds away.
        let wait = "SELECT coalesce(next_attempt_at, 0) \
                    - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) FROM session";
        a.until_some("waiting", async || {
            let left = database.count(wait).await;
            if left > 3_000 { Ok(()) } else { Err(json!(left)) }
        })
        .await;
        take_over(database).await;
        let dialled = cluster.whatsapp.info().connections;
        a.until_some("a noticing", async || {
            let log = a.log();
            if log.contains("Another daemon has taken the session over") {
                Ok(())
            } else {
                Err(json!(log))
            }
        })
        .await;
        assert_eq!(cluster.whatsapp.info().connections, dialled, "it dialled");
        assert_eq!(phones[0].logins().len(), 1);
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

/// A neighbour that lives and does nothing becomes the owner of all sessions.
async fn take_over(database: &Database) {
    let id = NodeId::new(UnixMillis(0), 7);
    let neighbour = format!(
        "INSERT INTO node (id, home, name, joined_at, expires_at) \
         SELECT '{id}', 'neighbour', 'neighbour', joined_at, expires_at FROM node"
    );
    database.execute(&neighbour).await;
    let take = format!("UPDATE lease SET node_id = '{id}', epoch = epoch + 1");
    database.execute(&take).await;
}

/// All that it still has to write is one message's way: the outbox, Signal's state, its echo.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_session_was_taken_over_behind_its_back_sends_nothing_more_for_it() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let a = cluster.start("a");
        let names = names(1);
        create(&[&a], &names).await;
        let phones = cluster.pair(&a, &names).await;
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        a.send(&names[0], BOB, "ours").await;
        bob.wait_for_received(|sent| sent.text.as_deref() == Some("ours")).await.unwrap();
        phones[0].wait_confirmed().await.unwrap();

        take_over(database).await;
        let ask = "SELECT string_agg(encode(record, 'hex'), ' ' ORDER BY address) FROM wa_session";
        let ratchets =
            async || -> String { database.query(ask).await[0].try_get_by_index(0).unwrap() };
        let before = ratchets().await;
        let (_, sent) = a.send(&names[0], BOB, "not ours").await;
        phones[0].wait_offline().await.unwrap();
        let id = sent["data"]["id"].as_str().unwrap();
        let left = format!("SELECT count(*) FROM message WHERE id = '{id}' AND status = 'queued'");
        assert_eq!(database.count(&left).await, 1, "{sent}");
        assert_eq!(ratchets().await, before);
        assert!(bob.received().iter().all(|sent| sent.text.as_deref() != Some("not ours")));
        a.terminate().await;
        assert_eq!(database.count(&left).await, 1);
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_cut_off_closes_its_sockets_before_others_dial() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, LEASE).await;
        let gate = Gate::new(&database.url).await;
        let a = cluster.start_through("a", &gate.url(&database.url));
        let b = cluster.start("b");
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(6);
        create(&[&a, &b], &names).await;
        let phones = cluster.pair(&b, &names).await;
        let of_a = cluster.owned_by("a").await;

        gate.shut();
        // In the middle of traffic: what it has received it cannot record, and does not acknowledge.
        let bob = cluster.whatsapp.contact(BOB).unwrap();
        for session in &of_a {
            bob.send_text(&number(place(session)), "into the cut").await.unwrap();
        }
        until_owned(&cluster, &b, &names).await;
        b.until_connected(&names).await;
        each_heard_once(&b, &of_a, "into the cut").await;
        let before = cluster.epochs().await;

        gate.open();
        a.until_some("a living again", async || {
            let living = database.count("SELECT count(*) FROM node WHERE name = 'a'").await;
            if living == 1 { Ok(()) } else { Err(json!(living)) }
        })
        .await;
        all_hear(&cluster, &a, &names, "after the cut").await;
        assert_eq!(cluster.epochs().await, before, "no session changed its owner or its run");
        for session in &of_a {
            assert_eq!(phones[place(session)].logins().len(), 2, "{session}");
        }
        b.terminate().await;
        a.terminate().await;
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
