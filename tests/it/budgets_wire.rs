//! No state lasts longer than it may: what is due and does not come ends the connection, which is dialled
//! again.

use std::time::Duration;

use serde_json::{Value, json};
use wagate_simulator::{Fault, Lasting, Phone, Scope};

use crate::{
    care_wire::{SECOND, on_each, pass_until_connected},
    renewal_wire::codes,
    world::{ALICE, World},
};

/// When the session ended last, in milliseconds since the epoch.
fn ended_at(status: &Value) -> i64 {
    let at = status["lastDisconnect"]["at"].as_str().unwrap_or_else(|| panic!("{status}"));
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    let at = time::PrimitiveDateTime::parse(at, format).unwrap().assume_utc();
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
}

/// Lets time pass until the session has ended for this reason, and answers how long that took by the time at
/// which it was noticed, which no slow test makes later.
async fn pass_until_ended(world: &World, reason: &str) -> (Value, Duration) {
    let begun = world.clock.now();
    let (seen, _) = world
        .pass_until(reason, SECOND, async || {
            let seen = world.status("sales").await;
            if seen["lastDisconnect"]["reason"] == reason { Ok(seen) } else { Err(seen) }
        })
        .await;
    let took = u64::try_from(ended_at(&seen) - begun.0).unwrap();
    (seen, Duration::from_millis(took))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_noticed_within_a_minute() {
    on_each(async |world| {
        let phone = world.connect("sales", ALICE).await;
        phone.fault(Fault::BlackHole, Lasting::Once).await;
        let (silent, took) = pass_until_ended(world, "silent").await;
        // At least six ticks of eight seconds.
        assert!(took >= Duration::from_secs(48), "{took:?}");
        assert!(took <= Duration::from_mins(1), "{took:?}");
        assert_eq!(silent["isConnected"], false, "{silent}");
        pass_until_connected(world, SECOND).await;
        assert_eq!(phone.logins().len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_comes_no_further_is_left_and_begun_anew() {
    on_each(async |world| {
        world.create("sales").await;
        let first = world.until_qr("sales").await;
        // A minute for the first code, and a minute and a half for the next one, which the library's own clock
        // has not come to. The server gives signs of life all the time.
        let (left, took) = pass_until_ended(world, "pairing_timeout").await;
        assert!(took >= Duration::from_secs(150), "{took:?}");
        assert!(took <= Duration::from_secs(170), "{took:?}");
        assert_eq!((&left["reconnecting"], &left["needsQR"]), (&json!(true), &json!(false)));
        let (second, _) = world
            .pass_until("another code", SECOND, async || {
                let seen = world.status("sales").await;
                seen["qr"].as_str().map(ToOwned::to_owned).ok_or(seen.clone())
            })
            .await;
        assert_ne!(second, first);
        world.whatsapp.phone(ALICE).unwrap().scan(&second).await.unwrap();
        world.until_status("sales", "session_connected").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_whose_login_is_not_answered_is_left_and_logs_in_by_itself() {
    on_each(async |world| {
        world.create("sales").await;
        let qr = world.until_qr("sales").await;
        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.fault(Fault::SilentHandshake, Lasting::Once).await;
        phone.scan(&qr).await.unwrap();
        world.until_status("sales", "loading").await;
        let (left, took) = pass_until_ended(world, "pairing_timeout").await;
        assert!(took >= Duration::from_secs(40), "{took:?}");
        assert!(took <= Duration::from_secs(45), "{took:?}");
        assert_eq!((&left["reconnecting"], &left["needsQR"]), (&json!(true), &json!(false)));
        // It is linked all the same: it needs no code.
        pass_until_connected(world, SECOND).await;
        assert_eq!(phone.logins().len(), 1);
        assert_eq!(codes(world).await, 1);
    })
    .await;
}

/// Long enough for many dials of a client that waits between none.
const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_every_stream_is_not_dialled_without_a_wait() {
    on_each(async |world| {
        let restart = || Fault::StreamError { code: Some(515), child: None, stays_open: false };
        let lost = async |dials: u64| {
            world
                .until("the loss", async || {
                    let seen = world.status("sales").await;
                    if seen["reconnecting"] == true { Ok(()) } else { Err(seen) }
                })
                .await;
            // Time stands still: whoever waits for the next dial waits.
            tokio::time::sleep(A_WHILE).await;
            let made = world.whatsapp.info().connections - dials;
            assert!(made <= 2, "{made} dials in no time");
        };
        // While a code is shown.
        world.create("sales").await;
        world.until_qr("sales").await;
        let dials = world.whatsapp.info().connections;
        world.whatsapp.fault(Scope::Everyone, restart(), Lasting::UntilCleared).await;
        lost(dials).await;
        world.whatsapp.clear_faults(None);
        let (qr, _) = world
            .pass_until("another code", SECOND, async || {
                let seen = world.status("sales").await;
                seen["qr"].as_str().map(ToOwned::to_owned).ok_or(seen.clone())
            })
            .await;
        // After a pairing: one restart is part of it.
        let codes = codes(world).await;
        let phone = world.whatsapp.phone(ALICE).unwrap();
        phone.fault(restart(), Lasting::UntilCleared).await;
        let dials = world.whatsapp.info().connections;
        phone.scan(&qr).await.unwrap();
        lost(dials).await;
        world.whatsapp.clear_faults(None);
        pass_until_connected(world, SECOND).await;
        assert_eq!(self::codes(world).await, codes, "what was paired stays paired");
    })
    .await;
}

/// Links the session to a phone whose server lets it in, and gives it nothing that it asks for.
pub(crate) async fn loading(world: &World) -> Phone {
    world.create("sales").await;
    let qr = world.until_qr("sales").await;
    let phone = world.whatsapp.phone(ALICE).unwrap();
    phone.fault(Fault::IgnoreRequests, Lasting::UntilCleared).await;
    phone.scan(&qr).await.unwrap();
    phone.wait_logged_in(1).await.unwrap();
    world.until_status("sales", "loading").await;
    phone
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_never_becomes_a_connection_is_left_and_tried_again() {
    on_each(async |world| {
        let phone = loading(world).await;
        let (left, took) = pass_until_ended(world, "loading_timeout").await;
        assert!(took >= Duration::from_mins(5), "{took:?}");
        assert!(took <= Duration::from_secs(5 * 60 + 20), "{took:?}");
        assert_eq!(left["reconnecting"], true, "{left}");
        world.whatsapp.clear_faults(None);
        pass_until_connected(world, SECOND).await;
        assert!(phone.logins().len() >= 2, "it was dialled again");
    })
    .await;
}
