//! Status updates, which come in bulk when a day or a year begins.

use futures_util::future::join_all;
use wagate_simulator::{ReceiptKind, ReceiptPolicy};

use crate::world::{self, ALICE, BOB};

const PEOPLE: usize = 20;
const EACH: usize = 20;
const LINES: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn status_updates_in_bulk_cost_no_message_and_hold_up_no_conversation() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::Delivered);
        let people: Vec<_> =
            (0..PEOPLE).map(|n| world.whatsapp.contact(&format!("1560{n:07}")).unwrap()).collect();
        let updates = people.iter().map(async |person| {
            for n in 0..EACH {
                person.show_status(ALICE, &format!("update {n}")).await.unwrap();
            }
        });
        // Each line is answered for before the next is written, and each answer before the next, too.
        let conversation = async {
            for n in 0..LINES / 2 {
                let line = bob.send_text(ALICE, &format!("line {n}")).await.unwrap();
                phone.wait_for_receipt(&line, ReceiptKind::Delivered).await.unwrap();
                let answer = world.send("sales", BOB, &format!("answer {n}")).await;
                world.until_ack("sales", &answer, 2).await;
            }
        };
        tokio::join!(join_all(updates), conversation);

        let messages = world.until_messages("sales", PEOPLE * EACH + LINES).await;
        let of = |chat: String| messages.iter().filter(move |it| it["chat"] == *chat);
        let talk: Vec<_> = of(format!("{BOB}@c.us")).map(|it| it["body"].clone()).collect();
        let lines = (0..LINES / 2).flat_map(|n| [format!("line {n}"), format!("answer {n}")]);
        assert_eq!(talk, lines.collect::<Vec<_>>());
        for person in &people {
            let from = format!("{}@c.us", person.number());
            let shown = of("status@broadcast".to_owned()).filter(|it| it["from"] == from);
            let shown: Vec<_> = shown.map(|it| it["body"].clone()).collect();
            let expected: Vec<_> = (0..EACH).map(|n| format!("update {n}")).collect();
            assert_eq!(shown, expected, "{from}");
        }
        let events = world.events("sales").await;
        assert_eq!(world.status("sales").await["status"], "session_connected");
        assert!(events.iter().all(|(name, _)| name != "message_ciphertext"));
        assert_eq!(phone.logins().len(), 1);
    })
    .await;
}
