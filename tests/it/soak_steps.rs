//! How time is moved in the soak where somebody waits for sessions, and what is done to them between its halves.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use wagate_simulator::{Fault, Lasting, Scope, SocketState};

use crate::soak_fleet::{Fleet, STEP, name, number};

/// How long anything may take, with as many steps as the longest wait for a next try has.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long nothing may move on the wire for it to be quiet, and how long one waits for that. What moves by itself,
/// signs of life, is rare enough.
const QUIET: Duration = Duration::from_millis(15);
const LONGEST_QUIET: Duration = Duration::from_secs(5);

impl Fleet {
    /// Has everybody dial again.
    pub(crate) async fn begin_anew(&self) {
        self.all_connected().await;
        self.world.whatsapp.fault(Scope::Everyone, Fault::Drop, Lasting::Once).await;
        self.all_connected().await;
    }

    /// Unlinks a session on its phone and links it again, in place.
    pub(crate) async fn link_again(&mut self) {
        let session = self.linked_again % self.sessions;
        self.linked_again += 1;
        let name = name(session);
        let phone = self.world.whatsapp.existing(&number(session)).unwrap();
        assert_eq!(phone.unlink_all(), 1, "{name}");
        self.pass_until("an end", STEP, async || {
            let seen = self.world.status(&name).await;
            if seen["status"] == "session_not_connected" { Ok(()) } else { Err(seen) }
        })
        .await;
        let start = format!("/api/whatsapp/session/{name}/start");
        let started = self.world.post(&start, json!({})).await;
        assert!(started.status.is_success(), "{name}: {}", started.body);
        let qr = self
            .pass_until("a code", STEP, async || {
                let seen = self.world.status(&name).await;
                seen["qr"].as_str().map(ToOwned::to_owned).ok_or(seen.clone())
            })
            .await;
        phone.scan(&qr).await.unwrap();
        self.pass_until("a connection", STEP, async || {
            let seen = self.world.status(&name).await;
            if seen["status"] == "session_connected" { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Moves time on until all are connected, by what the API says and by what the server sees.
    pub(crate) async fn all_connected(&self) {
        let list = "/api/whatsapp/session/list-realtime?limit=1";
        self.pass_until("all sessions connected", Duration::from_secs(2), async || {
            let summary = self.world.get(list).await.body["summary"].clone();
            let online = self.world.whatsapp.online_devices().len();
            if summary["connected"] == json!(self.sessions) && online == self.sessions {
                return Ok::<_, Value>(());
            }
            Err(json!({ "summary": summary, "online": online }))
        })
        .await;
    }

    /// Moves time on until `wanted` gives something. What a step has set off is done before the next one, so that moved
    /// time does not outrun the wire.
    pub(crate) async fn pass_until<T, F>(
        &self,
        what: &str,
        step: Duration,
        wanted: impl Fn() -> F,
    ) -> T
    where
        F: Future<Output = Result<T, Value>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = match wanted().await {
                Ok(found) => return found,
                Err(seen) => seen,
            };
            let kind = self.kind;
            assert!(
                Instant::now() < deadline,
                "{kind:?}: {what} did not come about; last seen: {seen:#}"
            );
            self.world.clock.advance(step);
            timeout(LONGEST_QUIET, self.quiet()).await.ok();
        }
    }

    /// Waits until nothing moves on the wire, and nobody dials.
    async fn quiet(&self) {
        let moved = || {
            let info = self.world.whatsapp.info();
            (info.connections, info.sockets, info.stanzas_in, info.stanzas_out)
        };
        let mut before = moved();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = moved();
            let sockets = self.world.whatsapp.sockets();
            let dials = sockets.iter().any(|it| it.state == SocketState::Opening);
            if now == before && !dials {
                return;
            }
            before = now;
        }
    }
}
