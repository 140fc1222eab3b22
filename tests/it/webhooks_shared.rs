//! Two daemons on one database keep together what an endpoint asks for.

use std::time::Duration;

use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::{
    database::on_each,
    http_app::{App, deliveries},
    receiver::Receiver,
    webhooks_api::endpoint,
};

#[tokio::test]
async fn two_daemons_together_give_an_endpoint_no_more_at_a_time_than_it_may_have() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        for most in [1, 3] {
            let receiver = Receiver::start().await;
            let body = json!({ "url": receiver.url(), "max_in_flight": most });
            let (id, _) = endpoint(&app, body).await;
            for n in 0..12 {
                app.hear("shop", "4911", &n.to_string()).await;
            }
            let trackers = (TaskTracker::new(), TaskTracker::new());
            let one = deliveries(&app.store, "one", &trackers.0);
            let two = deliveries(&app.store, "two", &trackers.1);
            let gate = receiver.hold();
            let first = async { one.drive().await.unwrap() };
            let second = async {
                receiver.arrived(most).await;
                // It finds nothing that it may take, and so has nothing to wait for.
                two.drive().await.unwrap();
                assert_eq!(receiver.count(), most, "as many as it may have, of both");
                assert_eq!(two.stats().in_flight, 0);
                receiver.release();
                gate.notify_waiters();
            };
            tokio::join!(first, second);
            assert_eq!(receiver.count(), 12);
            assert_eq!(two.stats().attempts["success"], 0);
            // What one leaves is the other's.
            app.hear("shop", "4911", "more").await;
            two.drive().await.unwrap();
            assert_eq!(two.stats().attempts["success"], 1);
            drop((one, two));
            app.delete(&format!("/api/webhooks/{id}")).await;
        }
        app.close().await;
    })
    .await;
}

#[tokio::test]
async fn two_daemons_together_keep_the_rate_of_an_endpoint() {
    on_each(async |database| {
        let app = App::start(database).await;
        app.session("shop").await;
        let receiver = Receiver::start().await;
        let body = json!({ "url": receiver.url(), "rate_per_second": 4, "max_in_flight": 50 });
        endpoint(&app, body).await;
        for n in 0..20 {
            app.hear("shop", "4911", &n.to_string()).await;
        }
        let trackers = (TaskTracker::new(), TaskTracker::new());
        let one = deliveries(&app.store, "one", &trackers.0);
        let two = deliveries(&app.store, "two", &trackers.1);
        for count in [4, 8, 12, 16, 20] {
            one.drive().await.unwrap();
            two.drive().await.unwrap();
            assert_eq!(receiver.count(), count);
            app.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(one.stats().attempts["success"], 10);
        drop((one, two));
        app.close().await;
    })
    .await;
}
