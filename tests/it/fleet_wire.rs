//! Many sessions at once.

use std::time::Duration;

use entity::UnixMillis;
use futures_util::future::join_all;
use tokio::time::timeout;
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options, ReceiptPolicy};

use crate::{
    database::{self, Kind},
    world::{BOB, DEADLINE, World},
};

const SESSIONS: usize = 100;
const SECOND: Duration = Duration::from_secs(1);

fn number(session: usize) -> String {
    format!("1556{session:07}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_pair_talk_and_come_back_without_a_code() {
    // Once, on SQLite: the single writer is the harder case, and this is the longest test.
    database::on(Kind::Sqlite, async |database| {
        let mut world = World::start(database).await;
        let names: Vec<_> = (0..SESSIONS).map(|n| format!("s{n:03}")).collect();
        let numbers: Vec<_> = (0..SESSIONS).map(number).collect();

        let all = names.iter().zip(&numbers);
        let phones = join_all(all.clone().map(|(name, number)| world.connect(name, number))).await;

        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::Read);
        join_all(all.map(|(name, number)| {
            let (world, bob) = (&world, &bob);
            async move {
                bob.send_text(number, &format!("to {name}")).await.unwrap();
                let received = world.until_messages(name, 1).await.remove(0);
                assert_eq!(received["body"], format!("to {name}"));
                let id = world.send(name, BOB, &format!("from {name}")).await;
                world.until_ack(name, &id, 3).await;
            }
        }))
        .await;

        world.stop_daemon().await;
        for phone in &phones {
            phone.wait_offline().await.unwrap();
        }
        world.start_daemon().await;
        for name in &names {
            world.until_status(name, "session_connected").await;
        }
        for (name, phone) in names.iter().zip(&phones) {
            assert_eq!(phone.logins().len(), 2, "{name}");
            let codes = world.events(name).await.into_iter().filter(|(kind, _)| kind == "qr");
            assert_eq!(codes.count(), 1, "{name}");
        }
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_sessions_dial_at_the_rate_and_who_was_active_last_comes_first() {
    const FEW: usize = 10;
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let mut world = World::start_at(clock, database, Options::default(), |config| {
                config.whatsapp.dial_concurrency = 1;
                config.whatsapp.dial_rate_per_second = 1;
            })
            .await;
            let bob = world.whatsapp.contact(BOB).unwrap();
            for n in 0..FEW {
                let id = format!("s{n}");
                world.create(&id).await;
                let (qr, _) = world
                    .pass_until("a code", SECOND, async || {
                        let seen = world.status(&id).await;
                        seen["qr"].as_str().map(ToOwned::to_owned).ok_or(seen.clone())
                    })
                    .await;
                world.whatsapp.phone(&number(n)).unwrap().scan(&qr).await.unwrap();
                world.until_status(&id, "session_connected").await;
            }
            // Every third, so that the order is neither that of creation nor its reverse.
            let order: Vec<_> = (0..FEW).map(|n| n * 3 % FEW).collect();
            for n in &order {
                world.clock.advance(SECOND);
                bob.send_text(&number(*n), "hello").await.unwrap();
                world.until_messages(&format!("s{n}"), 1).await;
            }
            // All are proved sound, and owe no wait for earlier dials.
            world.clock.advance(SECOND * 60);
            let before = world.whatsapp.logins();
            world.stop_daemon().await;
            world.start_daemon().await;
            let started = world.clock.now();
            world
                .pass_until("all connected", SECOND / 4, async || {
                    let list = "/api/whatsapp/session/list-realtime?limit=1";
                    let summary = world.get(list).await.body["summary"].clone();
                    // Two dials are half a second apart at least.
                    let most = 2 + world.clock.now().since(started).as_millis() / 500;
                    let dialled = world.whatsapp.logins() - before;
                    assert!(dialled as u128 <= most, "{dialled} dials, {most} allowed");
                    if summary["connected"] == FEW { Ok(()) } else { Err(summary) }
                })
                .await;
            let mut back: Vec<_> = (0..FEW)
                .map(|n| (world.whatsapp.existing(&number(n)).unwrap().logins()[1].at, n))
                .collect();
            back.sort_unstable();
            // The first to ask finds the place free; all the others wait for each other.
            let first = back.remove(0).1;
            let back: Vec<_> = back.into_iter().map(|(_, session)| session).collect();
            let expected: Vec<_> = order.into_iter().rev().filter(|it| *it != first).collect();
            assert_eq!(back, expected);

            // The same when all lose their connections: who was active since the start counts as such.
            let order: Vec<_> = (0..FEW).map(|n| n * 7 % FEW).collect();
            for n in &order {
                world.clock.advance(SECOND);
                bob.send_text(&number(*n), "hello again").await.unwrap();
                world.until_messages(&format!("s{n}"), 2).await;
            }
            world.clock.advance(SECOND * 60);
            for n in &order {
                let phone = world.whatsapp.existing(&number(*n)).unwrap();
                phone.fault(Fault::Drop, Lasting::Once).await;
            }
            let figure = async |name: &str, wanted: usize| {
                let line = format!("{name} {wanted}\n");
                loop {
                    let figures = world.get("/metrics").await.body;
                    if figures.as_str().unwrap().contains(&line) {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            };
            timeout(DEADLINE, figure("wagate_sessions_reconnecting", FEW)).await.unwrap();
            // The waits of all are over, one dials, and the others wait for their turn.
            world.clock.advance(SECOND * 2);
            timeout(DEADLINE, figure("wagate_dials_waiting", FEW - 1)).await.unwrap();
            world
                .pass_until("all connected again", SECOND / 4, async || {
                    let list = "/api/whatsapp/session/list-realtime?limit=1";
                    let summary = world.get(list).await.body["summary"].clone();
                    if summary["connected"] == FEW { Ok(()) } else { Err(summary) }
                })
                .await;
            let mut back: Vec<_> = (0..FEW)
                .map(|n| (world.whatsapp.existing(&number(n)).unwrap().logins()[2].at, n))
                .collect();
            back.sort_unstable();
            let first = back.remove(0).1;
            let back: Vec<_> = back.into_iter().map(|(_, session)| session).collect();
            let expected: Vec<_> = order.into_iter().rev().filter(|it| *it != first).collect();
            assert_eq!(back, expected);
            world.end().await;
        })
        .await;
    }
}
