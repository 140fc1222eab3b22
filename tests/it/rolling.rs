//! Releases that follow each other: two daemons on one PostgreSQL, restarted one after the other while phones write and
//! programs send; and a program that finds a database of a later one.

use std::fs;

use futures_util::future::join_all;
use reqwest::StatusCode;
use wagate_simulator::SentMessage;

use crate::{
    database::{Kind, on, on_each},
    node::{Cluster, Node, number},
    nodes_wire::{NEVER, create, each_heard_once, names, place, until_acquainted},
    program::{Process, command, ended},
    world::BOB,
};

/// Ends a daemon and starts it again, while each session is written to and sends through the other one.
async fn restarted(cluster: &Cluster<'_>, node: Node, other: &Node, sessions: &[String]) -> Node {
    let name = node.name;
    let bob = cluster.whatsapp.contact(BOB).unwrap();
    let (in_stop, in_start) = (format!("while {name} stops"), format!("while {name} starts"));
    let write = async |text: &str| {
        join_all(sessions.iter().map(async |session| {
            bob.send_text(&number(place(session)), text).await.unwrap();
            let (status, sent) = other.send(session, BOB, &format!("{text}, from {session}")).await;
            assert!(status.is_success(), "{status} {sent}");
        }))
        .await;
    };
    tokio::join!(node.terminate(), write(&in_stop));
    assert_eq!(other.get("/readyz").await.0, StatusCode::NO_CONTENT, "one of two is ready");
    let ((), node) = tokio::join!(write(&in_start), async { cluster.start(name) });
    other.until_connected(sessions).await;
    for text in [in_stop, in_start] {
        each_heard_once(&node, sessions, &text).await;
        for session in sessions {
            let text = format!("{text}, from {session}");
            let mine = |it: &SentMessage| it.text.as_deref() == Some(text.as_str());
            bob.wait_for_received(mine).await.unwrap();
            let copies = bob.received().iter().filter(|it| mine(it)).count();
            assert_eq!(copies, 1, "{text}");
        }
    }
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_are_restarted_one_after_the_other_and_nothing_is_lost_or_doubled() {
    on(Kind::Postgres, async |database| {
        let cluster = Cluster::new(database, NEVER).await;
        let (a, b) = (cluster.start("a"), cluster.start("b"));
        until_acquainted(&cluster, &[&a, &b]).await;
        let names = names(6);
        create(&[&a, &b], &names).await;
        cluster.pair(&a, &names).await;
        let a = Box::pin(restarted(&cluster, a, &b, &names)).await;
        let b = Box::pin(restarted(&cluster, b, &a, &names)).await;
        // Whoever asks either is told the same.
        a.until_connected(&names).await;
        b.until_connected(&names).await;
        b.terminate().await;
        a.terminate().await;
        cluster.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_refuses_the_database_of_a_newer_one_and_leaves_it_as_it_is() {
    on_each(async |database| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let program = || {
            let mut command = command(&state);
            command.env("WAGATE_DATABASE__URL", &database.url);
            command
        };
        let mut daemon = Process::of(program(), &state);
        daemon.signal("-TERM");
        assert_eq!(daemon.code(), Some(0));
        // What the next version has done to it.
        database.execute("CREATE TABLE of_the_next_version (id BIGINT)").await;
        database.execute("INSERT INTO of_the_next_version VALUES (7)").await;
        let step = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_x', 0)";
        database.execute(step).await;
        let files = || -> Vec<_> {
            let kept = ["master.key", "operator.token", "home.id"];
            kept.iter().map(|name| fs::read(state.join(name)).unwrap()).collect()
        };
        let before = (files(), database.count("SELECT count(*) FROM node").await);

        for flags in [&[][..], &["--no-migrate"]] {
            let mut older = program();
            older.args(flags);
            let (code, log) = ended(older);
            let last = log.lines().last().unwrap();
            assert_eq!(code, Some(1), "{log}");
            assert!(last.contains("Cannot start") && last.contains("m99991231_x"), "{last}");
        }
        assert_eq!((files(), database.count("SELECT count(*) FROM node").await), before);
        assert_eq!(database.count("SELECT id FROM of_the_next_version").await, 7);

        // The newer one goes on with it.
        database.execute("DELETE FROM seaql_migrations WHERE version = 'm99991231_x'").await;
        let mut newer = Process::of(program(), &state);
        newer.signal("-TERM");
        assert_eq!(newer.code(), Some(0));
    })
    .await;
}
