//! What downloads may cost: size, time, how many there are at once, and place on the disk.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use wagate::config::ByteSize;
use wagate_simulator::{MediaDelivery, MediaLie};

use crate::{
    media_wire::{image, on_each_with},
    world::ALICE,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_too_large_is_not_begun() {
    on_each_with(
        |config| config.media.max_size = ByteSize::b(64 << 10),
        async |world| {
            world.connect("sales", ALICE).await;
            let file = image(64 << 10);
            let whole = file.bytes.clone();
            let (path, _) = world.receive("sales", file).await;
            world.file(&path).await.is(&whole);
            let asked = world.whatsapp.info().media_requests;
            let lie = image(10).lying(MediaLie::Size(u64::MAX));
            for (file, size) in [(image((64 << 10) + 1), (64 << 10) + 1), (lie, u64::MAX)] {
                let (path, _) = world.receive("sales", file).await;
                let problem = world.file(&path).await.problem(413, "MEDIA_TOO_LARGE");
                assert_eq!((&problem["size"], &problem["limit"]), (&json!(size), &json!(65_536)));
                let signed = world.post(&format!("{path}/url"), json!({})).await;
                assert_eq!(signed.body["code"], "MEDIA_TOO_LARGE");
            }
            assert_eq!(world.whatsapp.info().media_requests, asked);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_slow_or_stands_still_keeps_nobody_for_ever() {
    on_each_with(
        |config| config.media.timeout = Duration::from_secs(1),
        async |world| {
            world.connect("sales", ALICE).await;
            for delivery in [MediaDelivery::Stuck, MediaDelivery::Slow(60_000)] {
                let (path, _) = world.receive("sales", image(100_000).delivered(delivery)).await;
                let problem = world.file(&path).await.problem(503, "MEDIA_UNAVAILABLE");
                assert_eq!(problem["reason"], "unreachable", "{delivery:?}");
            }
            // An outage of the hosts passes, and is no verdict.
            let file = image(100).delivered(MediaDelivery::Missing(500));
            let (path, _) = world.receive("sales", file).await;
            let problem = world.file(&path).await.problem(503, "MEDIA_UNAVAILABLE");
            assert_eq!(problem["reason"], "unreachable");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_so_many_at_a_time_and_one_for_all_who_want_the_same() {
    on_each_with(
        |config| config.media.concurrency = 4,
        async |world| {
            world.connect("sales", ALICE).await;
            let mut paths = Vec::new();
            for _ in 0..6 {
                let file = image(10_000).delivered(MediaDelivery::Slow(300));
                paths.push((world.receive("sales", file.clone()).await.0, file.bytes));
            }
            // Each is wanted by three.
            join_all(paths.iter().flat_map(|wanted| [wanted; 3]).map(async |(path, bytes)| {
                world.file(path).await.is(bytes);
            }))
            .await;
            assert_eq!(world.whatsapp.info().media_requests, 6);
            assert_eq!(world.whatsapp.most_media_at_once(), 2, "half of them for one organization");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_makes_place_for_what_comes() {
    on_each_with(
        |config| {
            config.media.max_size = ByteSize::b(64 << 10);
            config.media.spool = ByteSize::b(100 << 10);
        },
        async |world| {
            world.connect("sales", ALICE).await;
            let mut files = Vec::new();
            for _ in 0..3 {
                let file = image(40 << 10);
                files.push((world.receive("sales", file.clone()).await.0, file.bytes));
            }
            for (path, bytes) in &files {
                world.file(path).await.is(bytes);
            }
            assert_eq!(world.whatsapp.info().media_requests, 3);
            // Two are kept; the first has made place for the third.
            world.file(&files[2].0).await.is(&files[2].1);
            world.file(&files[1].0).await.is(&files[1].1);
            assert_eq!(world.whatsapp.info().media_requests, 3);
            world.file(&files[0].0).await.is(&files[0].1);
            assert_eq!(world.whatsapp.info().media_requests, 4);
        },
    )
    .await;
}
