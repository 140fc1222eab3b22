//! Sessions that look after themselves: what follows from each reason, on the real wire and by a
//! moved clock.

use std::time::Duration;

use entity::UnixMillis;
use serde_json::{Value, json};
use wagate::clock::Clock;
use wagate_simulator::{Fault, Lasting, Options, Phone, Scope};

use crate::{
    database::{self, Kind},
    world::{ALICE, BOB, World},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A world whose time stands still until it is moved.
pub(crate) async fn on_each<F>(test: F)
where
    F: AsyncFn(&mut World),
{
    for kind in [Kind::Sqlite, Kind::Postgres] {
        database::on(kind, async |database| {
            let clock = Clock::manual(UnixMillis(1_795_500_000_000));
            let mut world = World::start_at(clock, database, Options::default(), |_| {}).await;
            test(&mut world).await;
            world.end().await;
        })
        .await;
    }
}

/// In how many minutes a session is dialled again, by its status object.
pub(crate) fn minutes(world: &World, status: &Value) -> i64 {
    let at = status["nextAttemptAt"].as_str().unwrap_or_else(|| panic!("it waits: {status}"));
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    let at = time::PrimitiveDateTime::parse(at, format).unwrap().assume_utc();
    (at.unix_timestamp() - world.clock.now().as_secs()) / 60
}

/// Waits until a session is, and lasts, as a session that nothing is wrong with.
async fn connected(world: &World, phone: &Phone, logins: usize) {
    phone.wait_logged_in(logins).await.unwrap();
    world.until_status("sales", "session_connected").await;
}

/// Moves time on until the session has another status than this.
async fn pass_while(world: &World, status: &str, step: Duration) -> (Value, Duration) {
    world
        .pass_until(&format!("an end of {status}"), step, async || {
            let seen = world.status("sales").await;
            if seen["status"] == status { Err(seen) } else { Ok(seen) }
        })
        .await
}

pub(crate) async fn pass_until_connected(world: &World, step: Duration) -> Duration {
    pass_until_is_connected(world, "sales", step).await
}

pub(crate) async fn pass_until_is_connected(world: &World, name: &str, step: Duration) -> Duration {
    let connected = world.pass_until(name, step, async || {
        let seen = world.status(name).await;
        if seen["status"] == "session_connected" { Ok(()) } else { Err(seen) }
    });
    connected.await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_is_left_alone_for_5_15_and_60_minutes_and_a_restart_forgets_nothing() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 403 }, Lasting::UntilCleared).await;
        let locked = pass_while(world, "session_connected", SECOND).await.0;
        let locked = if locked["status"] == "connecting" {
            pass_while(world, "connecting", SECOND).await.0
        } else {
            locked
        };
        assert_eq!(locked["status"], "auth_failure", "{locked}");
        assert_eq!(locked["lastDisconnect"]["reason"], "account_locked");
        assert_eq!(locked["lastDisconnect"]["code"], 403);
        assert!((4..=6).contains(&minutes(world, &locked)), "{locked}");

        for (least, most) in [(15, 18), (60, 72), (60, 72)] {
            let before = world.whatsapp.info().connections;
            let waits = world.status("sales").await;
            world.stop_daemon().await;
            world.start_daemon().await;
            let again = world.status("sales").await;
            assert_eq!(again["nextAttemptAt"], waits["nextAttemptAt"], "a restart forgets nothing");
            assert_eq!(again["status"], "auth_failure");
            assert_eq!(world.whatsapp.info().connections, before, "and dials nothing");

            let wait = u64::try_from(minutes(world, &again)).unwrap();
            world.clock.advance(MINUTE * u32::try_from(wait).unwrap());
            let last = again["nextAttemptAt"].clone();
            let (refused, _) = world
                .pass_until("the next refusal", Duration::from_secs(20), async || {
                    let seen = world.status("sales").await;
                    let next = seen["nextAttemptAt"].is_string() && seen["nextAttemptAt"] != last;
                    if next && seen["status"] == "auth_failure" { Ok(seen) } else { Err(seen) }
                })
                .await;
            assert_eq!(world.whatsapp.info().connections, before + 1, "one dial");
            let wait = minutes(world, &refused);
            assert!((least - 1..=most).contains(&wait), "{wait} minutes");
        }
        world.whatsapp.clear_faults(None);
        pass_until_connected(world, Duration::from_mins(5)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_lengthens_no_wait_for_the_next_dial() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 403 }, Lasting::UntilCleared).await;
        world
            .pass_until("the lock", SECOND, async || {
                let seen = world.status("sales").await;
                if seen["status"] == "auth_failure" { Ok(()) } else { Err(seen) }
            })
            .await;
        world.whatsapp.clear_faults(None);
        world.clock.set_back(Duration::from_hours(1));
        let waited = pass_until_connected(world, 10 * SECOND).await;
        assert!((4 * MINUTE..8 * MINUTE).contains(&waited), "{waited:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_stops_or_restarts_waits_for_no_lock() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 403 }, Lasting::UntilCleared).await;
        world
            .pass_until("the lock", SECOND, async || {
                let seen = world.status("sales").await;
                if seen["status"] == "auth_failure" { Ok(()) } else { Err(seen) }
            })
            .await;
        let stopped = world.post("/api/whatsapp/session/sales/stop", json!({})).await;
        assert_eq!(stopped.body["data"]["status"], "session_not_connected", "{}", stopped.body);
        assert!(stopped.body["data"]["nextAttemptAt"].is_null(), "{}", stopped.body);
        let dials = world.whatsapp.info().connections;
        world.stop_daemon().await;
        world.start_daemon().await;
        world.clock.advance(Duration::from_hours(48));
        assert_eq!(world.status("sales").await["status"], "session_not_connected");
        assert_eq!(world.whatsapp.info().connections, dials, "stopped stays stopped");

        // An operator's word is enough; time stands still from here on.
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        world.until_status("sales", "auth_failure").await;
        world.whatsapp.clear_faults(None);
        world.post("/api/whatsapp/session/sales/restart", json!({})).await;
        connected(world, &phone, 2).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_client_is_an_alarm_and_tried_again() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 405 }, Lasting::UntilCleared).await;
        let (outdated, _) = world
            .pass_until("the refusal", SECOND, async || {
                let seen = world.status("sales").await;
                if seen["status"] == "auth_failure" { Ok(seen) } else { Err(seen) }
            })
            .await;
        assert_eq!(outdated["hasError"], true);
        assert_eq!(outdated["lastDisconnect"]["reason"], "client_outdated");
        assert!(minutes(world, &outdated) <= 1, "{outdated}");
        world.whatsapp.clear_faults(None);
        pass_until_connected(world, MINUTE).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logged_out_session_is_never_dialled_again_and_keeps_its_credentials() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Failure { reason: 401 }, Lasting::UntilCleared).await;
        let (refused, _) = world
            .pass_until("the refusal", SECOND, async || {
                let seen = world.status("sales").await;
                if seen["status"] == "auth_failure" { Ok(seen) } else { Err(seen) }
            })
            .await;
        assert_eq!(refused["lastDisconnect"]["reason"], "credentials_refused");
        assert!(refused["nextAttemptAt"].is_null(), "{refused}");
        let dials = world.whatsapp.info().connections;
        world.stop_daemon().await;
        world.start_daemon().await;
        for _ in 0..60 {
            world.clock.advance(Duration::from_hours(1));
            world.status("sales").await;
        }
        assert_eq!(world.whatsapp.info().connections, dials, "nobody dials");

        // It was a mistake of the server's. Whoever starts the session needs no new pairing.
        world.whatsapp.clear_faults(None);
        world.post("/api/whatsapp/session/sales/start", json!({})).await;
        connected(world, &phone, 2).await;
        let codes = world.events("sales").await.into_iter().filter(|(name, _)| name == "qr");
        assert_eq!(codes.count(), 1, "the one of the first pairing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_dial_has_a_time_after_which_it_is_left() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        // Nobody answers the first hello; then nobody completes the login.
        for (scope, reason) in
            [(Scope::Everyone, "dial_timeout"), (Scope::Account(ALICE.to_owned()), "login_timeout")]
        {
            world.whatsapp.fault(scope, Fault::SilentHandshake, Lasting::Once).await;
            phone.fault(Fault::Drop, Lasting::Once).await;
            world
                .pass_until("a dial that is not answered", SECOND, async || {
                    if world.whatsapp.faults().is_empty() { Ok(()) } else { Err(json!(null)) }
                })
                .await;
            let (seen, _) = world
                .pass_until(reason, Duration::from_secs(5), async || {
                    let seen = world.status("sales").await;
                    let left = seen["lastDisconnect"]["reason"] == reason;
                    if left { Ok(seen) } else { Err(seen) }
                })
                .await;
            assert_eq!(seen["reconnecting"], true, "{seen}");
            pass_until_connected(world, SECOND).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_connections_and_never_answers_is_left_each_time_and_that_can_be_seen()
{
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let silence = Fault::SilentHandshake;
        world.whatsapp.fault(Scope::Everyone, silence, Lasting::UntilCleared).await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        let mut last = json!(null);
        let mut counted = 0;
        for _ in 0..3 {
            let dials = world.whatsapp.info().connections;
            let begun = world.pass_until("a dial", SECOND, async || {
                let now = world.whatsapp.info().connections;
                if now > dials { Ok(()) } else { Err(json!(now)) }
            });
            begun.await;
            let (left, took) = world
                .pass_until("its end", SECOND / 10, async || {
                    let seen = world.status("sales").await;
                    let ended = &seen["lastDisconnect"];
                    let is_new = ended["reason"] == "dial_timeout" && ended["at"] != last;
                    if is_new && seen["nextAttemptAt"].is_string() { Ok(seen) } else { Err(seen) }
                })
                .await;
            // What is left of its 25 seconds when it is seen, and what time has moved meanwhile.
            assert!(took <= Duration::from_secs(40), "{took:?}");
            assert_eq!(
                (&left["status"], &left["reconnecting"]),
                (&json!("connecting"), &json!(true))
            );
            last = left["lastDisconnect"]["at"].clone();
            let figures = world.get("/metrics").await.body;
            let figures = figures.as_str().unwrap();
            assert!(figures.contains("wagate_sessions_reconnecting 1\n"));
            let again = figures.lines().find_map(|it| it.strip_prefix("wagate_reconnects_total "));
            let again: u64 = again.unwrap().parse().unwrap();
            assert!(again > counted, "{again} reconnects");
            counted = again;
        }
        world.whatsapp.clear_faults(None);
        pass_until_connected(world, SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_restarted_again_and_again_dials_no_more_often_than_one_that_fails() {
    on_each(async |world| {
        world.connect("sales", ALICE).await;
        world.connect("support", BOB).await;
        // Proved sound: the first restart dials at once.
        world.clock.advance(MINUTE);
        let before = world.whatsapp.info().connections;
        // Each process lives for two seconds, ten times in a row.
        for _ in 0..10 {
            world.stop_daemon().await;
            world.start_daemon().await;
            for _ in 0..2 {
                world.clock.advance(SECOND);
                // Whoever may dial by now has dialled when it is connected.
                for name in ["sales", "support"] {
                    let seen = world.status(name).await;
                    if seen["nextAttemptAt"].is_null() {
                        world.until_status(name, "session_connected").await;
                    }
                }
            }
        }
        // At 0, 1, 3, 7 and 15 seconds, with a fifth of play.
        let dials = (world.whatsapp.info().connections - before) / 2;
        assert!((2..=6).contains(&dials), "{dials} dials of each session in twenty seconds");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_in_the_middle_of_a_dial_has_dialled() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let silence = Fault::SilentHandshake;
        world.whatsapp.fault(Scope::Everyone, silence, Lasting::UntilCleared).await;
        phone.fault(Fault::Drop, Lasting::Once).await;
        // In short steps: nobody is to be late for the wait that follows.
        world
            .pass_until("a dial that nobody answers", SECOND / 10, async || {
                let seen = world.status("sales").await;
                let dials = seen["reconnecting"] == true && seen["nextAttemptAt"].is_null();
                if dials { Ok(()) } else { Err(seen) }
            })
            .await;
        world.stop_daemon().await;
        world.whatsapp.clear_faults(None);
        world.start_daemon().await;
        // As after a dial that has failed.
        world
            .until("a wait", async || {
                let seen = world.status("sales").await;
                let told = seen["lastDisconnect"]["reason"] == "restarted";
                if told && seen["nextAttemptAt"].is_string() { Ok(()) } else { Err(seen) }
            })
            .await;
        pass_until_connected(world, SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_session_tries_once_more_if_configured_and_never_again() {
    database::on(Kind::Sqlite, async |database| {
        let clock = Clock::manual(UnixMillis(1_795_500_000_000));
        let mut world = World::start_at(clock, database, Options::default(), |config| {
            config.whatsapp.replaced_retry_after = Some(Duration::from_mins(10));
        })
        .await;
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::Replaced, Lasting::Once).await;
        let replaced = world.until_status("sales", "session_not_connected").await;
        assert_eq!(replaced["lastDisconnect"]["reason"], "replaced");
        assert!((9..=12).contains(&minutes(&world, &replaced)), "{replaced}");
        world.stop_daemon().await;
        world.start_daemon().await;
        pass_until_connected(&world, MINUTE).await;
        // Two, or more where a login took longer than the time that was moved allows.
        let logins = phone.logins().len();

        world.clock.advance(Duration::from_hours(5));
        phone.fault(Fault::Replaced, Lasting::Once).await;
        let again = world.until_status("sales", "session_not_connected").await;
        assert!(again["nextAttemptAt"].is_null(), "{again}");
        assert_eq!(phone.logins().len(), logins, "no ping-pong");
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_session_is_said_and_counted_and_it_begins_anew_while_others_notice_nothing()
{
    database::on(Kind::Sqlite, async |database| {
        let clock = Clock::manual(UnixMillis(1_795_500_000_000));
        let world = World::start_at(clock, database, Options::default(), |config| {
            // The sum of this and anything panics; a configuration file cannot say it.
            config.whatsapp.replaced_retry_after = Some(Duration::MAX);
        })
        .await;
        let phone = world.connect("sales", ALICE).await;
        let other = world.connect("other", BOB).await;
        phone.fault(Fault::Replaced, Lasting::Once).await;
        let panicked = world
            .until("the panic", async || {
                let seen = world.status("sales").await;
                if seen["lastDisconnect"]["reason"] == "panicked" { Ok(seen) } else { Err(seen) }
            })
            .await;
        assert_eq!(panicked["reconnecting"], true, "{panicked}");
        assert!(panicked["nextAttemptAt"].is_string(), "{panicked}");
        let figures = world.get("/metrics").await.body;
        assert!(figures.as_str().unwrap().contains("wagate_session_panics_total 1\n"), "{figures}");

        // By the clock that nobody sets.
        world.clock.set_back(Duration::from_hours(1));
        let waited = pass_until_connected(&world, SECOND).await;
        let wait = Duration::from_secs(30)..3 * MINUTE;
        assert!(wait.contains(&waited), "{waited:?}");
        let told = format!("{:?}", world.events("sales").await);
        assert!(told.contains("panicked") && !told.contains("restarted"), "one wait: {told}");
        connected(&world, &phone, 2).await;
        assert_eq!(other.logins().len(), 1);
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_is_waited_out_over_a_restart_and_then_dialled_again() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let ban = Fault::Ban { code: 101, expire: 6 * 3600 };
        phone.fault(ban, Lasting::UntilCleared).await;
        let (banned, _) = world
            .pass_until("the ban", SECOND, async || {
                let seen = world.status("sales").await;
                if seen["status"] == "auth_failure" { Ok(seen) } else { Err(seen) }
            })
            .await;
        assert_eq!(banned["lastDisconnect"]["reason"], "banned");
        assert_eq!(banned["lastDisconnect"]["code"], 101);
        let events = world.events("sales").await;
        let (_, refused) = events.iter().rfind(|(name, _)| name == "auth_failure").unwrap();
        assert!(refused["until"].is_string() && refused["nextAttemptAt"].is_string(), "{refused}");
        assert_eq!(banned["bannedUntil"], refused["until"], "{banned}");
        assert!(banned["bannedUntil"].as_str() < banned["nextAttemptAt"].as_str(), "{banned}");
        // A little after its end.
        assert!((359..=366).contains(&minutes(world, &banned)), "{banned}");
        let dials = world.whatsapp.info().connections;
        world.stop_daemon().await;
        world.start_daemon().await;
        let again = world.status("sales").await;
        for member in ["nextAttemptAt", "bannedUntil"] {
            assert_eq!(again[member], banned[member]);
        }
        world.clock.advance(Duration::from_mins(355));
        assert_eq!(world.status("sales").await["status"], "auth_failure");
        assert_eq!(world.whatsapp.info().connections, dials, "nobody dials into a ban");
        world.whatsapp.clear_faults(None);
        // Who looks while it is dialled sees that it is, and no refusal any more.
        world.whatsapp.fault(Scope::Everyone, Fault::SilentHandshake, Lasting::Once).await;
        let (dialled, _) = pass_while(world, "auth_failure", 10 * SECOND).await;
        assert_eq!(dialled["status"], "connecting", "{dialled}");
        assert_eq!(dialled["reconnecting"], false, "{dialled}");
        pass_until_connected(world, MINUTE).await;
        assert!(world.status("sales").await["bannedUntil"].is_null());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_when_it_ends_a_stream_is_the_reason() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        let error = |code: Option<u16>, child: Option<&str>| Fault::StreamError {
            code,
            child: child.map(str::to_owned),
            stays_open: false,
        };
        for (fault, reason, code) in [
            (error(Some(503), None), "server_unavailable", json!(503)),
            (error(Some(429), None), "rate_limited", json!(429)),
            (error(Some(599), None), "stream_error", json!(599)),
            (error(None, Some("xml-not-well-formed")), "stream_error", json!(null)),
            (Fault::Drop, "connection_lost", json!(null)),
            (Fault::Failure { reason: 503 }, "server_unavailable", json!(503)),
        ] {
            phone.fault(fault, Lasting::Once).await;
            let (seen, _) = world
                .pass_until(reason, SECOND, async || {
                    let seen = world.status("sales").await;
                    let there = seen["lastDisconnect"]["reason"] == reason
                        && seen["lastDisconnect"]["code"] == code;
                    if there { Ok(seen) } else { Err(seen) }
                })
                .await;
            assert_ne!(seen["status"], "auth_failure", "{seen}");
            pass_until_connected(world, Duration::from_secs(5)).await;
        }
    })
    .await;
}
