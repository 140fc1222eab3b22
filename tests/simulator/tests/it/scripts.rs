//! Scripts of faults, step by step and by the clock.

use std::time::Duration;

use wagate_simulator::{Chaos, Fault, Lasting, Scope, Script};

use crate::Client;
use crate::world::{ALICE, World};

fn alice() -> Scope {
    Scope::Account(ALICE.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staged_script_moves_only_when_it_is_told_to() {
    let world = World::start().await;
    let client = world.linked().await;
    let slow = Fault::Slow { millis: 1 };
    let script = Script::default().then(60_000, Fault::Drop, alice(), Lasting::Once).then(
        90_000,
        slow.clone(),
        alice(),
        Lasting::Millis(10_000),
    );
    let play = world.sim.stage(script);

    assert!(play.advance(Duration::from_millis(59_999)).await.is_empty());
    assert_eq!(world.alice.logins().len(), 1);
    let begun = play.advance(Duration::from_millis(1)).await;
    assert_eq!(begun.len(), 1);
    world.alice.wait_logged_in(2).await.unwrap();
    assert_eq!(play.next_at().await, Some(Duration::from_secs(90)));

    play.advance(Duration::from_secs(30)).await;
    assert_eq!(world.sim.faults(), [(alice(), slow, None)]);
    play.advance(Duration::from_secs(10)).await;
    assert!(world.sim.faults().is_empty());
    play.finished().await;
    let faults: Vec<_> = world.sim.inflicted().into_iter().map(|it| it.struck).collect();
    assert_eq!(faults, [1, 0]);
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_played_by_the_clock_ends_by_itself() {
    let world = World::start().await;
    let client = world.linked().await;
    let script = Script::default()
        .then(0, Fault::Outage, Scope::Everyone, Lasting::Millis(50))
        .then(20, Fault::DuplicateDelivery, alice(), Lasting::Once);
    let play = world.sim.play(script);
    play.finished().await;
    assert!(world.sim.plays().is_empty());
    world.alice.wait_logged_in(2).await.unwrap();
    client.shutdown().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_is_stopped_takes_its_faults_along() {
    let world = World::start().await;
    let hours = Lasting::Millis(36_000_000);
    let script = Script::default().then(0, Fault::LoseAck, alice(), hours).then(
        36_000_000,
        Fault::Drop,
        alice(),
        Lasting::Once,
    );
    let play = world.sim.stage(script);
    play.advance(Duration::ZERO).await;
    world.alice.fault(Fault::LoseAck, Lasting::Once).await;
    assert_eq!(world.sim.faults().len(), 2);
    play.stop().await;
    assert_eq!(world.sim.faults(), [(alice(), Fault::LoseAck, Some(1))]);
    assert!(play.advance(Duration::from_hours(10)).await.is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_survives_an_hour_of_passing_troubles() {
    let world = World::start().await;
    let mut client = world.linked().await;
    let mut chaos = Chaos::new(2026, vec![ALICE.to_owned()], 240_000, 3_600_000);
    // For the client's own watchdog to notice, by a clock nobody moves here.
    chaos.troubles.retain(|it| it.fault != Fault::SilentHandshake);
    let play = world.sim.stage(chaos.script());
    let mut steps = 0;
    while let Some(next) = play.next_at().await {
        steps += play.advance(next.saturating_sub(play.position().await)).await.len();
        if world.sim.faults().iter().any(|(_, _, left)| left.is_none()) {
            // It lasts: nothing can be expected before it is over.
            continue;
        }
        // Another client dials at once; this one's back-off has grown with every fault.
        let store = client.shutdown().await;
        world.alice.wait_offline().await.unwrap();
        let text = format!("after step {steps}");
        world.bob.send_text(ALICE, &text).await.unwrap();
        client = Client::with_store(&world.sim.url(), store).await;
        client.text(&text).await;
    }
    assert!(steps > 5, "{steps}");
    client.shutdown().await;
    world.end().await;
}
