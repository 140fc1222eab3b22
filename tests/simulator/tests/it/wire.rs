//! Frames: each is heard, and one that cannot be read is told of.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio_util::task::TaskTracker;
use wagate_simulator::{Fault, Lasting, ViolationKind};
use whatsapp_rust::wacore::store::InMemoryBackend;

use crate::client::{jid, until};
use crate::raw::Raw;
use crate::world::{ALICE, BOB, World};

/// More than the length of a frame can say.
const TOO_LONG: usize = 17 * 1024 * 1024;

fn goodbye() -> Fault {
    Fault::StreamError { code: Some(503), child: None, stays_open: false }
}

/// Logs in with frames, and waits until the server has as many of them as the transport needs.
async fn raw(world: &World, store: &InMemoryBackend) -> Raw {
    let heard = world.sim.info().stanzas_in;
    let mut raw = Raw::log_in(&world.sim.url(), store).await;
    raw.send_requests(Raw::ENOUGH).await;
    all_heard(world, heard, Raw::ENOUGH).await;
    raw
}

/// Waits until so many more were heard, or the server has complained.
async fn all_heard(world: &World, before: u64, more: usize) {
    let wanted = before + more as u64;
    until("all frames", || {
        world.sim.info().stanzas_in >= wanted || !world.sim.violations().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_after_the_servers_goodbye_is_heard_and_no_mistake() {
    let world = World::start().await;
    let client = world.linked().await;
    let store = client.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    for _ in 0..8 {
        let mut raw = raw(&world, &store).await;
        // Some are being heard when the server says goodbye, some are under way, and some are sent when it has.
        let heard = world.sim.info().stanzas_in;
        join(raw.send_requests(300), world.alice.fault(goodbye(), Lasting::Once)).await;
        raw.send_requests(100).await;
        all_heard(&world, heard, 400).await;
        raw.close().await;
        world.alice.wait_offline().await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_cannot_be_read_is_told_of_before_and_after_a_goodbye() {
    let world = World::start().await;
    let client = world.linked().await;
    let store = client.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    let mut broken = Vec::new();
    for after_goodbye in [false, true] {
        for skips in [false, true] {
            let mut raw = raw(&world, &store).await;
            if after_goodbye {
                world.alice.fault(goodbye(), Lasting::Once).await;
            }
            let mut frame = raw.request();
            if skips {
                // A frame was lost.
                frame = raw.request();
            } else if let Some(last) = frame.last_mut() {
                *last ^= 1;
            }
            raw.send(frame).await;
            broken.push(ViolationKind::BrokenWire);
            until("the complaint", || world.sim.violations().len() == broken.len()).await;
            world.alice.wait_offline().await.unwrap();
        }
    }
    let violations = world.sim.violations();
    assert!(violations.iter().all(|it| it.device.is_some()), "{violations:#?}");
    world.end_with(&broken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stanza_that_cannot_be_written_is_told_of_and_ends_its_connection() {
    let world = World::start().await;
    let client = world.linked().await;
    let socket = world.sim.sockets()[0].id;
    // No frame is as long, and what is encrypted cannot be deflated.
    world.bob.send_text(ALICE, &"x".repeat(TOO_LONG)).await.unwrap();
    until("the end of the connection", || world.sim.sockets().iter().all(|open| open.id != socket))
        .await;
    // It is as it was when the client comes back, and asks for it again.
    client.shutdown().await;
    world.alice.wait_offline().await.unwrap();
    let violations = world.sim.take_violations();
    assert!(!violations.is_empty(), "nobody was told");
    for violation in violations {
        assert_eq!(violation.kind, ViolationKind::Unwritten, "{violation}");
        assert!(violation.device.is_some(), "{violation}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_whose_sending_is_given_up_half_way_break_no_frame() {
    let world = World::start().await;
    let client = world.linked().await;
    client.send(BOB, "first").await;
    for (round, fault) in [None, Some(goodbye()), Some(Fault::Drop)].into_iter().enumerate() {
        let sending = TaskTracker::new();
        let sends = (0..60_u64).map(|n| {
            let inner = client.inner();
            // Each is given up a little later than the one before it, and every other one is not.
            let patience = Duration::from_micros(if n % 2 == 0 { n * 200 } else { 20_000_000 });
            sending.spawn(async move {
                let to = jid(BOB);
                tokio::time::timeout(patience, inner.send_text(to, "under way")).await.is_ok()
            })
        });
        let sends: Vec<_> = sends.collect();
        if let Some(fault) = fault {
            world.alice.fault(fault, Lasting::Once).await;
        }
        let ended = join_all(sends).await.into_iter().filter(|it| *it.as_ref().unwrap()).count();
        assert!(ended >= 30, "{ended} ended by themselves in round {round}");
        client.connected(round + 1).await;
    }
    client.shutdown().await;
    world.end().await;
}
