//! What is wanted of a session and what it does agree, however the wishes cross each other.

use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::StatusCode;
use serde_json::json;

use crate::world::{self, ALICE, World};

/// Rounds of crossing requests per database.
const ROUNDS: u64 = 40;

/// Sends requests for one session side by side, and waits for all answers.
async fn cross(world: &World, wishes: &[&str]) {
    join_all(wishes.iter().map(async |wish| {
        let path = format!("/api/whatsapp/session/sales/{wish}");
        let answer = world.post(&path, json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{wish}: {}", answer.body);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_wish_counts_however_starts_and_stops_cross_each_other() {
    world::on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        for seed in 0..ROUNDS {
            let mut rng = StdRng::seed_from_u64(seed);
            let wishes: Vec<&str> = (0..rng.random_range(2..7))
                .map(|_| *["start", "stop", "stop", "restart"].choose(&mut rng).unwrap())
                .collect();
            cross(world, &wishes).await;
            let seen = world.status("sales").await;
            if seen["desiredState"] == "running" {
                world.until_status("sales", "session_connected").await;
            } else {
                assert_eq!(
                    seen["status"], "session_not_connected",
                    "seed {seed}, {wishes:?}: {seen}"
                );
                phone.wait_offline().await.unwrap();
            }
        }
    })
    .await;
}
