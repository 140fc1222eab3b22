//! A receiver that says when it wants to be asked again is asked then, and not before.

use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;
use serde_json::{Value, json};

use crate::{
    database::on_each,
    http_app::App,
    receiver::{Behaviour, Receiver},
    webhooks_api::{endpoint, log},
};

const HOUR: u64 = 3600;
const YEAR: u64 = 365 * 24 * HOUR;

/// What a receiver says of the time to come.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// In so many seconds.
    Seconds(&'static str),
    /// At a time, as its own clock has it, which may go wrong by so much, and is said with it.
    Date(u64, u64),
    /// At a time, and not what time it is.
    DateAlone(u64),
}

impl Asks {
    /// The answer to a request at this second.
    fn answer(self, status: u16, now: u64) -> Behaviour {
        let date = |seconds| fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        let headers = match self {
            Self::Seconds(text) => vec![("retry-after", text.to_owned())],
            Self::Date(after, ahead) => {
                vec![("retry-after", date(now + ahead + after)), ("date", date(now + ahead))]
            }
            Self::DateAlone(after) => vec![("retry-after", date(now + after))],
        };
        Behaviour::Answer(status, headers, Vec::new())
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_to_the_second_and_an_hour_at_most() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let asked = [
            (429, Asks::Seconds("120"), 120),
            (503, Asks::Seconds("120"), 120),
            // Whatever the status is.
            (500, Asks::Seconds("120"), 120),
            (429, Asks::Date(90, YEAR), 90),
            (503, Asks::Date(90, 0), 90),
            (503, Asks::DateAlone(90), 90),
            (503, Asks::Seconds("3600"), HOUR),
            (503, Asks::Seconds("3601"), HOUR),
            (429, Asks::Seconds("99999999999999999999999"), HOUR),
            (503, Asks::DateAlone(YEAR), HOUR),
        ];
        for (status, asks, seconds) in asked {
            let before = receiver.count();
            let now = app.clock.now().as_secs().unsigned_abs();
            receiver.next([asks.answer(status, now)]);
            app.hear("shop", "4911", "x").await;
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), before + 1, "{asks:?}");
            let again = fmt_time(now + seconds);
            let row = &log(&app, &id).await[0];
            assert_eq!(row["next_attempt_at"], again, "{status} {asks:?}: {row}");
            // Also what comes meanwhile waits.
            app.hear("shop", "4911", "y").await;
            app.clock.advance(Duration::from_millis(seconds * 1000 - 1));
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), before + 1, "{status} {asks:?}: too early");
            app.clock.advance(Duration::from_millis(1));
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), before + 3, "{status} {asks:?}: too late");
        }
        app.close().await;
    })
    .await;
}

/// A whole second as our API writes it.
fn fmt_time(seconds: u64) -> Value {
    let at = entity::UnixMillis(i64::try_from(seconds * 1000).unwrap());
    json!(wagate::event::payload::rfc3339(at))
}

#[tokio::test]
async fn who_asks_for_no_time_that_makes_sense_is_asked_again_as_always() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        endpoint(&app, json!({ "url": receiver.url() })).await;
        app.session("shop").await;
        let now = app.clock.now().as_secs().unsigned_abs();
        let yesterday = fmt_http_date(UNIX_EPOCH + Duration::from_secs(now - 24 * HOUR));
        for text in ["0", "-5", "soon", "", "1.5", "\u{e9}", &yesterday] {
            let before = receiver.count();
            let headers = vec![("retry-after", text.to_owned())];
            receiver.next([Behaviour::Answer(503, headers, Vec::new())]);
            app.hear("shop", "4911", "x").await;
            app.deliveries.drive().await.unwrap();
            app.clock.advance(Duration::from_millis(3_999));
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), before + 1, "{text:?}");
            app.clock.advance(Duration::from_millis(2_001));
            app.deliveries.drive().await.unwrap();
            assert_eq!(receiver.count(), before + 2, "{text:?}");
        }
        app.close().await;
    })
    .await;
}

/// A success forgets that the endpoint wanted nothing for a while; the delivery remembers.
#[tokio::test]
async fn what_was_put_off_waits_although_its_endpoint_answers_again() {
    on_each(async |database| {
        let app = App::start(database).await;
        let receiver = Receiver::start().await;
        let (id, _) = endpoint(&app, json!({ "url": receiver.url(), "max_in_flight": 2 })).await;
        app.session("shop").await;
        app.hear("shop", "4911", "x").await;
        app.hear("shop", "4912", "y").await;
        let now = app.clock.now().as_secs().unsigned_abs();
        receiver.next([Asks::Seconds("120").answer(503, now), Behaviour::status(200)]);
        let gate = receiver.hold();
        let driving = async { app.deliveries.drive().await.unwrap() };
        let answering = async {
            receiver.arrived(2).await;
            gate.notify_one();
            // Until that is written down.
            while app.store.webhooks().backlog().await.unwrap() != (1, 1) {}
            let held = app.get(&format!("/api/webhooks/{id}")).await.json();
            assert_eq!(held["data"]["health"]["breaker"], "open");
            gate.notify_one();
        };
        tokio::join!(driving, answering);
        let held = app.get(&format!("/api/webhooks/{id}")).await.json();
        assert_eq!(held["data"]["health"]["breaker"], "closed");
        receiver.release();
        app.hear("shop", "4913", "z").await;
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 3, "what is new goes out");
        app.clock.advance(Duration::from_millis(119_999));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 3);
        app.clock.advance(Duration::from_millis(1));
        app.deliveries.drive().await.unwrap();
        assert_eq!(receiver.count(), 4);
        app.close().await;
    })
    .await;
}
