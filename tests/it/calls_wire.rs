//! Calls, on the real wire: they are told, and never taken.

use serde_json::Value;

use crate::world::{self, ALICE, BOB, World};

/// What was told of calls, once there is so much of it.
async fn until_calls(world: &World, count: usize) -> Vec<Value> {
    let told = world
        .until("word of a call", async || {
            let events = world.events("sales").await.into_iter();
            let calls = events.filter(|(name, _)| name == "call");
            let calls: Vec<_> = calls.map(|(_, data)| data["call"].clone()).collect();
            if calls.len() >= count { Ok(calls) } else { Err(Value::Array(calls)) }
        })
        .await;
    assert_eq!(told.len(), count, "{told:?}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_when_it_rings_and_when_it_ends_and_once_each_over_a_restart() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let bob = world.whatsapp.contact(BOB).unwrap();
        let call = bob.call(ALICE).unwrap();
        let rung = until_calls(world, 1).await;
        assert_eq!((&rung[0]["id"], &rung[0]["stage"]), (&call.clone().into(), &"offer".into()));
        assert_eq!(rung[0]["from"], format!("{BOB}@c.us"));
        assert_eq!((&rung[0]["isVideo"], &rung[0]["channel"]), (&false.into(), &"embedded".into()));
        bob.send_text(ALICE, "Did you hear it?").await.unwrap();
        let written = world.until_messages("sales", 1).await;
        assert_eq!(written[0]["channel"], "embedded");
        let sent = world.send("sales", BOB, "No").await;
        world.until_ack("sales", &sent, 2).await;
        let told = world.events("sales").await.into_iter();
        let told = told.filter(|(name, _)| matches!(name.as_str(), "message" | "message_ack"));
        let told: Vec<_> = told
            .map(|(name, data)| (name, data["channel"].clone(), data["message"]["channel"].clone()))
            .collect();
        let embedded = Value::from("embedded");
        for (name, of_event, of_message) in &told {
            let said = if name == "message" { of_message } else { of_event };
            assert_eq!(*said, embedded, "{told:?}");
        }
        assert!(told.len() >= 2, "{told:?}");

        phone.wait_confirmed().await.unwrap();
        world.stop_daemon().await;
        phone.wait_offline().await.unwrap();
        bob.hang_up(ALICE, &call).unwrap();
        world.start_daemon().await;
        let all = until_calls(world, 2).await;
        assert_eq!((&all[1]["id"], &all[1]["stage"]), (&call.into(), &"terminate".into()));
    })
    .await;
}
