//! A daemon that is paused, cut off or taken over from: it writes nothing more, and dials nobody that others run.

use entity::{UnixMillis, id::NodeId};
use serde_json::json;
use wagate_simulator::{Fault, Lasting, Scope, SocketState};

use crate::{
    database::{Database, Kind, on},
    node::{Cluster, Gate, LEASE, number},
    nodes_wire::{
        NEVER, all_hear, create, each_heard_once, names, place, until_acquainted, until_owned,
    },
    world::{BOB, DEADLINE},
};

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
