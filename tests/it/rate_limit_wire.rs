//! A 429: whom it pauses, and what those say who wait.

use std::time::Duration;

use entity::UnixMillis;
use serde_json::{Value, json};
use wagate::{clock::Clock, config::Config};
use wagate_simulator::{Fault, Lasting, Options, Phone, Scope};

use crate::{
    care_wire::{SECOND, minutes, on_each, pass_until_connected, pass_until_is_connected},
    database::{self, Kind},
    world::{ALICE, BOB, World},
};

/// The status object of a session that waits because of a rate limit; otherwise as it is, as an error.
async fn limited(world: &World, name: &str) -> Result<Value, Value> {
    let seen = world.status(name).await;
    let limited = seen["lastDisconnect"]["reason"] == "rate_limited";
    if limited && seen["nextAttemptAt"].is_string() { Ok(seen) } else { Err(seen) }
}

/// Two sessions are connected. One loses its connection, and when it dials anew it is told to wait for so many seconds: the
/// other's phone, and what is said of the one.
async fn sales_is_limited(world: &World, seconds: u32) -> (Phone, Value) {
    let phone = world.connect("sales", ALICE).await;
    let other = world.connect("other", BOB).await;
    let limit = Fault::RefuseUpgrade { status: 429, retry_after: Some(seconds) };
    world.whatsapp.fault(Scope::Everyone, limit, Lasting::Once).await;
    phone.fault(Fault::Drop, Lasting::Once).await;
    let limited =
        world.pass_until("the limit", SECOND, async || limited(world, "sales").await).await;
    (other, limited.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rate_limit_pauses_the_dials_of_all_sessions_over_a_restart() {
    on_each(async |world| {
        let (other, seen) = sales_is_limited(world, 600).await;
        assert_eq!(seen["lastDisconnect"]["code"], 429);
        assert!((9..=12).contains(&minutes(world, &seen)), "{seen}");

        // The other one loses its connection as well, and waits although nobody has told it to.
        other.fault(Fault::Drop, Lasting::Once).await;
        world.pass_until("the pause", SECOND, async || limited(world, "other").await).await;
        let dials = world.whatsapp.info().connections;
        world.stop_daemon().await;
        world.start_daemon().await;
        world.clock.advance(Duration::from_mins(8));
        for name in ["sales", "other"] {
            let seen = world.status(name).await;
            assert_eq!(seen["reconnecting"], true, "{seen}");
        }
        assert_eq!(world.whatsapp.info().connections, dials, "a restart is no way around it");
        pass_until_connected(world, Duration::from_secs(20)).await;
        pass_until_is_connected(world, "other", Duration::from_secs(20)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_all_dials_outlasts_the_process_and_a_start_that_somebody_asks_for_is_no_storm()
{
    on_each(async |world| {
        sales_is_limited(world, 600).await;

        // The other one is connected to the end of the process, and knows nothing of a limit.
        world.stop_daemon().await;
        world.start_daemon().await;
        world.pass_until("the pause", SECOND, async || limited(world, "other").await).await;
        let start = world.post("/api/whatsapp/session/other/start", json!({})).await;
        assert!(start.status.is_success(), "{}", start.body);
        world.until_status("other", "session_connected").await;
        assert_eq!(world.status("sales").await["reconnecting"], true);
    })
    .await;
}

/// Restarts a session by hand.
async fn restart(world: &World, name: &str) {
    let restart = world.post(&format!("/api/whatsapp/session/{name}/restart"), json!({})).await;
    assert!(restart.status.is_success(), "{}", restart.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlasts_a_restart_and_the_end_of_the_session_that_was_told_of_it() {
    on_each(async |world| {
        sales_is_limited(world, 1800).await;
        restart(world, "sales").await;
        pass_until_is_connected(world, "sales", SECOND).await;
        // Once with the session that was told, which remembers nothing by now; once without it.
        for deleted in [false, true] {
            if deleted {
                let gone = world.delete("/api/whatsapp/session/sales").await;
                assert!(gone.status.is_success(), "{}", gone.body);
            }
            let dials = world.whatsapp.info().connections;
            world.stop_daemon().await;
            world.start_daemon().await;
            world.pass_until("the pause", SECOND, async || limited(world, "other").await).await;
            assert_eq!(world.whatsapp.info().connections, dials, "{deleted}");
            if !deleted {
                world.pass_until("its", SECOND, async || limited(world, "sales").await).await;
                // A person may dial all the same.
                for name in ["sales", "other"] {
                    restart(world, name).await;
                    pass_until_is_connected(world, name, SECOND).await;
                }
            }
        }
        world.clock.advance(Duration::from_mins(36));
        pass_until_is_connected(world, "other", SECOND).await;
        world.stop_daemon().await;
        world.start_daemon().await;
        // It is over.
        pass_until_is_connected(world, "other", SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_restarts_sessions_does_not_dial_all_of_them_into_a_rate_limit() {
    on_each(async |world| {
        sales_is_limited(world, 600).await;
        for _ in 0..3 {
            restart(world, "other").await;
            pass_until_is_connected(world, "other", SECOND).await;
        }
        let dials = world.whatsapp.info().connections;
        restart(world, "other").await;
        let (waits, _) =
            world.pass_until("the wait", SECOND, async || limited(world, "other").await).await;
        assert!((8..=12).contains(&minutes(world, &waits)), "{waits}");
        restart(world, "sales").await;
        world.pass_until("the other", SECOND, async || limited(world, "sales").await).await;
        // Nor does a restart that comes when it waits already.
        restart(world, "other").await;
        world.pass_until("the wait", SECOND, async || limited(world, "other").await).await;
        assert_eq!(world.whatsapp.info().connections, dials);
        world.clock.advance(Duration::from_mins(12));
        for name in ["sales", "other"] {
            pass_until_is_connected(world, name, SECOND).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_turn_when_dials_are_paused_says_why_and_until_when() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            // As time stands still, the other one waits for its turn when the first one is refused.
            let slowly = |config: &mut Config| config.whatsapp.dial_rate_per_second = 1;
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let options = Options::default();
            let mut world = World::start_at(clock, database, options, slowly).await;
            let names = ["sales", "other"];
            for (name, number) in names.into_iter().zip([ALICE, BOB]) {
                world.connect(name, number).await;
                world.clock.advance(2 * SECOND);
            }
            world.stop_daemon().await;
            let limit = Fault::RefuseUpgrade { status: 429, retry_after: Some(600) };
            world.whatsapp.fault(Scope::Everyone, limit, Lasting::Once).await;
            world.start_daemon().await;
            for name in names {
                let seen = world
                    .until("the pause", async || {
                        let seen = world.status(name).await;
                        let told = seen["lastDisconnect"]["reason"] == "rate_limited";
                        if told && seen["reconnecting"] == true { Ok(seen) } else { Err(seen) }
                    })
                    .await;
                assert!((9..=12).contains(&minutes(&world, &seen)), "{name}: {seen}");
            }
            world.clock.advance(Duration::from_mins(13));
            for name in names {
                pass_until_is_connected(&world, name, SECOND).await;
            }
            world.end().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_accounts_own_rate_limit_keeps_no_other_from_dialling() {
    on_each(async |world| {
        let phones = [world.connect("sales", ALICE).await, world.connect("other", BOB).await];
        let limit = Fault::StreamError { code: Some(429), child: None, stays_open: false };
        let waits = async |name: &str, reason: &str| {
            world
                .until(reason, async || {
                    let seen = world.status(name).await;
                    let told = seen["lastDisconnect"]["reason"] == reason;
                    if told && seen["nextAttemptAt"].is_string() { Ok(seen) } else { Err(seen) }
                })
                .await
        };
        phones[0].fault(limit, Lasting::Once).await;
        let limited = waits("sales", "rate_limited").await;
        phones[1].fault(Fault::Drop, Lasting::Once).await;
        waits("other", "connection_lost").await;
        // The wait after a first loss is over; the limit is not.
        world.clock.advance(Duration::from_secs(5));
        world.until_status("other", "session_connected").await;
        let seen = world.status("sales").await;
        assert_eq!(seen["reconnecting"], true, "{seen}");
        assert_eq!(seen["nextAttemptAt"], limited["nextAttemptAt"]);
    })
    .await;
}
