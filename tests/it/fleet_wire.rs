//! Many sessions at once.

use futures_util::future::join_all;
use wagate_simulator::ReceiptPolicy;

use crate::{
    database::{self, Kind},
    world::{BOB, World},
};

const SESSIONS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_pair_talk_and_come_back_without_a_code() {
    // Once, on SQLite: the single writer is the harder case, and this is the longest test.
    database::on(Kind::Sqlite, async |database| {
        let mut world = World::start(database).await;
        let names: Vec<_> = (0..SESSIONS).map(|n| format!("s{n:03}")).collect();
        let numbers: Vec<_> = (0..SESSIONS).map(|n| format!("1556{n:07}")).collect();

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
