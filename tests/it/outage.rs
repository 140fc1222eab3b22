//! The database goes away for a while, in ways that really happen, and comes back.
//!
//! Meanwhile nothing is acknowledged to WhatsApp that is not stored, memory does not grow with what
//! WhatsApp has for us, and who asks is told. Afterwards everything goes on by itself.

use std::time::{Duration, Instant, SystemTime};

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use wagate_simulator::{
    Contact, Fault, Lasting, Options, Phone, ReceiptKind, ReceiptPolicy, Simulator,
};

use crate::{
    cluster::Cluster,
    database::skip,
    process::{Installation, Process},
    world::{ALICE, BOB, DEADLINE},
};

/// Messages that arrive during an outage, and their size: much more than a process may keep of them.
const FLOOD: usize = 3_000;
const SIZE: usize = 16 * 1024;

/// What may be under way of it, in bytes: in the sockets' buffers and in the process's hands.
pub(crate) const UNDER_WAY: u64 = 24 * 1024 * 1024;

/// How long the long outage takes.
const MINUTE: Duration = Duration::from_secs(62);

/// Whoever pairs meanwhile.
const SECOND: &str = "15565550199";

/// What is known of the account's new name, which is saved with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// It was learned during the outage, and its saving waited.
    Saved,
    /// The socket went before it was fetched; the next change brings it.
    Unknown,
}

/// What somebody who asked was told.
#[derive(Debug)]
struct Told {
    status: StatusCode,
    /// There is a `Retry-After`.
    says_when: bool,
    #[expect(dead_code, reason = "for whoever reads why a test has failed")]
    body: String,
}

impl Told {
    async fn by(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers());
        let says_when = headers.contains_key(header::RETRY_AFTER);
        Self { status, says_when, body: answer.text().await.unwrap_or_default() }
    }

    fn is_refused(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A daemon with a session that is connected, and a message sent that nobody has confirmed yet.
pub(crate) struct Scene {
    whatsapp: Simulator,
    pub(crate) installation: Installation,
    pub(crate) daemon: Process,
    phone: Phone,
    bob: Contact,
    /// The message's id at WhatsApp, and with us.
    sent: (String, String),
}

impl Scene {
    pub(crate) async fn new(installation: impl FnOnce(&Simulator) -> Installation) -> Self {
        let options = Options { deadline: DEADLINE, ..Options::default() };
        let whatsapp = Simulator::start(options).await.unwrap();
        let installation = installation(&whatsapp);
        let bob = whatsapp.contact(BOB).unwrap();
        bob.set_receipts(ReceiptPolicy::None);
        let daemon = installation.start();
        let code = daemon.code("sales").await.unwrap();
        let phone = whatsapp.phone(ALICE).unwrap();
        phone.scan(&code).await.unwrap();
        daemon.paired("sales").await.unwrap();
        bob.send_text(ALICE, "before").await.unwrap();
        let body = json!({ "to": BOB, "text": "before" });
        let (status, sent) = daemon.post("/api/whatsapp/session/sales/messages", body).await;
        assert_eq!(status, StatusCode::CREATED, "{sent}");
        let received =
            bob.wait_for_received(|sent| sent.text.as_deref() == Some("before")).await.unwrap();
        let sent = (received.id, sent["data"]["id"].as_str().unwrap().to_owned());
        phone.wait_confirmed().await.unwrap();
        Self { whatsapp, installation, daemon, phone, bob, sent }
    }

    /// What WhatsApp has for us arrives, and a change of the device wants to be saved. Answers the ids of the messages.
    pub(crate) async fn arrive(&self) -> Vec<String> {
        self.phone.set_name("Alice Anew");
        let text = "x".repeat(SIZE);
        let ids = self.bob.send_many(ALICE, &text, FLOOD).await.unwrap();
        let about = [self.sent.0.clone()];
        self.bob.receipt(ALICE, &about, &ReceiptKind::Delivered).unwrap();
        self.bob.receipt(ALICE, &about, &ReceiptKind::Read).unwrap();
        ids
    }

    /// Asks again and again until the answer is as wanted. Each question takes its time, and there is
    /// a deadline to all of them.
    async fn until(&self, path: &str, what: &str, wanted: impl Fn(StatusCode, &Value) -> bool) {
        let begun = Instant::now();
        loop {
            let (status, body) = self.daemon.ask(Method::GET, path, None).await.expect("it lives");
            if wanted(status, &body) {
                return;
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "{what} did not come about: {status} {body}\n{}",
                self.installation.log()
            );
        }
    }

    pub(crate) async fn is_noticed(&self) {
        self.until("/readyz", "not ready", |status, _| status == StatusCode::SERVICE_UNAVAILABLE)
            .await;
    }

    /// Everybody who asks is told, for as long as `time`.
    pub(crate) async fn is_told(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let request = |method, path: &str| self.daemon.request(method, path);
            let ready = Told::by(request(Method::GET, "/readyz")).await;
            self.assert(ready.is_refused(), "readiness", begun, &ready);
            let live = Told::by(request(Method::GET, "/livez")).await;
            self.assert(live.status.is_success(), "liveness", begun, &live);

            let write = request(Method::POST, "/api/whatsapp/session/sales/messages")
                .json(&json!({ "to": BOB, "text": "now", "queue": true }));
            let write = Told::by(write).await;
            self.assert(write.is_refused() && write.says_when, "a write", begun, &write);

            let read = Told::by(request(Method::GET, "/api/whatsapp/session/status/sales")).await;
            let is_told = read.status == StatusCode::OK || (read.is_refused() && read.says_when);
            self.assert(is_told, "a read", begun, &read);
        }
    }

    /// Fails with all that is known.
    fn assert(&self, is_so: bool, what: &str, begun: Instant, told: &Told) {
        let after = begun.elapsed();
        assert!(is_so, "{what} after {after:?} of it: {told:?}\n{}", self.installation.log());
    }

    /// Until it has taken a minute since `begun`, which is what is on trial.
    pub(crate) async fn lasts(&self, begun: Instant) {
        while begun.elapsed() < MINUTE {
            self.is_told(Duration::from_millis(200)).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }

    /// Bytes that WhatsApp has got rid of: what the daemon cannot have been given, it does not keep.
    pub(crate) fn given(&self) -> u64 {
        self.whatsapp.info().bytes_out
    }

    /// Which of these messages the daemon has told WhatsApp that it has, and when it did.
    pub(crate) fn acknowledged(&self, ids: &[String]) -> Vec<(String, u64)> {
        let receipts = self.phone.receipts();
        let acknowledged = receipts.iter().flat_map(|receipt| {
            receipt.ids.iter().filter(|id| ids.contains(id)).map(|id| (id.clone(), receipt.at))
        });
        acknowledged.collect()
    }

    /// Everything that WhatsApp has for the account is confirmed.
    async fn confirms(&self) {
        let confirmed = self.phone.wait_confirmed().await;
        assert!(confirmed.is_ok(), "not all is confirmed\n{}", self.installation.log());
    }

    /// It is over since `back`, and nothing was acknowledged before.
    async fn recovers_after(self, back: u64, ids: &[String], name: Name) {
        self.until("/readyz", "ready", |status, _| status.is_success()).await;
        self.confirms().await;
        let too_soon: Vec<_> =
            self.acknowledged(ids).into_iter().filter(|(_, at)| *at < back).collect();
        assert!(too_soon.is_empty(), "before {back}: {too_soon:?}\n{}", self.installation.log());
        self.recovers(ids, name).await;
    }

    /// It is over: all of it is there, once.
    pub(crate) async fn recovers(self, ids: &[String], name: Name) {
        self.until("/readyz", "ready", |status, _| status.is_success()).await;
        self.confirms().await;
        let path = format!("/api/whatsapp/session/sales/messages/{}", self.sent.1);
        self.until(&path, "read", |_, body| body["data"]["ack"] == 3).await;

        let messages = self.daemon.messages("sales").await;
        let mut stored: Vec<&str> =
            messages.iter().filter_map(|message| message["waId"].as_str()).collect();
        stored.sort_unstable();
        for id in ids {
            let copies = stored.partition_point(|it| *it <= id.as_str())
                - stored.partition_point(|it| *it < id.as_str());
            assert_eq!(copies, 1, "{id}\n{}", self.installation.log());
        }
        assert_eq!(stored.len(), ids.len() + 2, "{}", self.installation.log());

        // Both ways, as if nothing had been.
        let body = json!({ "to": BOB, "text": "after", "queue": true });
        let (status, sent) = self.daemon.post("/api/whatsapp/session/sales/messages", body).await;
        assert!(status.is_success(), "{status} {sent}\n{}", self.installation.log());
        self.bob.wait_for_received(|sent| sent.text.as_deref() == Some("after")).await.unwrap();

        // The library's saver of the device gives up for good after ten failures; it has seen none.
        let log = self.installation.log();
        assert!(!log.contains("flush failed") && !log.contains("halting"), "{log}");
        let Self { whatsapp, installation, daemon, phone, .. } = self;
        daemon.terminate().await;
        let daemon = installation.start();
        daemon.connected("sales").await.unwrap();
        if name == Name::Saved {
            let status = daemon.get("/api/whatsapp/session/status/sales").await;
            assert_eq!(status["data"]["pushName"], "Alice Anew");
        }
        assert_eq!(phone.logins().last().unwrap().device, phone.logins()[0].device);
        daemon.terminate().await;
        let violations = whatsapp.violations();
        assert!(violations.is_empty(), "{violations:#?}");
        whatsapp.stop().await;
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stops_and_starts_again_and_nothing_is_lost_or_acknowledged_too_soon() {
    let Some(cluster) = Cluster::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url();
    let scene =
        Scene::new(|whatsapp| Installation::new(directory.path(), Some(&url), whatsapp)).await;
    let before = scene.given();

    cluster.stop();
    let ids = scene.arrive().await;
    scene.is_noticed().await;
    scene.is_told(Duration::from_secs(3)).await;
    let given = scene.given() - before;
    assert!(given < UNDER_WAY, "{given} bytes were taken without a place for them");
    assert_eq!(scene.acknowledged(&ids), []);
    // The messages, two receipts; the change of the name is acknowledged or not.
    assert!(scene.phone.unacknowledged() >= ids.len() + 2);
    // The socket goes as well, and what was in it.
    scene.phone.fault(Fault::Drop, Lasting::Once).await;
    scene.is_told(Duration::from_secs(1)).await;

    let back = now();
    cluster.start_again();
    scene.recovers_after(back, &ids, Name::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_drops_connections_and_refuses_writes_and_nothing_is_lost() {
    let Some(cluster) = Cluster::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url();
    let scene =
        Scene::new(|whatsapp| Installation::new(directory.path(), Some(&url), whatsapp)).await;

    // A failover: every connection is cut, and the server that answers is not the primary any more.
    cluster.execute("ALTER SYSTEM SET default_transaction_read_only = on").await;
    cluster.execute("SELECT pg_reload_conf()").await;
    cluster
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'wagate'",
        )
        .await;
    let ids = scene.arrive().await;
    scene.is_noticed().await;
    scene.is_told(Duration::from_secs(2)).await;
    assert_eq!(scene.acknowledged(&ids), []);

    let back = now();
    cluster.execute("ALTER SYSTEM RESET default_transaction_read_only").await;
    cluster.execute("SELECT pg_reload_conf()").await;
    scene.recovers_after(back, &ids, Name::Saved).await;
}

/// What PostgreSQL answers when it has no room: an error of the statement, on a connection that stays.
/// As long as there is a row in `full_disk`.
const FULL_DISK: &str = "
    CREATE TABLE full_disk ();
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM full_disk) THEN
            RAISE EXCEPTION 'could not extend file: No space left on device'
                USING ERRCODE = 'disk_full';
        END IF;
        RETURN NULL;
    END $$";

/// One table after the other, as its lock is let go of: a daemon writes meanwhile.
const ON_EVERY_TABLE: &str = "
    DO $$ DECLARE it text; BEGIN
        FOR it IN SELECT tablename FROM pg_tables
            WHERE schemaname = 'public' AND tablename <> 'full_disk' LOOP
            EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON %I \
                            EXECUTE FUNCTION refuse()', it);
            COMMIT;
        END LOOP;
    END $$";

#[tokio::test(flavor = "multi_thread")]
async fn postgres_has_no_room_for_a_while_and_nothing_is_lost() {
    let Some(cluster) = Cluster::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url();
    let scene =
        Scene::new(|whatsapp| Installation::new(directory.path(), Some(&url), whatsapp)).await;
    cluster.execute(FULL_DISK).await;
    cluster.execute(ON_EVERY_TABLE).await;

    cluster.execute("INSERT INTO full_disk DEFAULT VALUES").await;
    let ids = scene.arrive().await;
    scene.is_noticed().await;
    scene.is_told(Duration::from_secs(2)).await;
    assert_eq!(scene.acknowledged(&ids), []);

    let back = now();
    cluster.execute("DELETE FROM full_disk").await;
    scene.recovers_after(back, &ids, Name::Saved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_postgres_loses_nothing_and_no_pairing_that_was_begun_in_it() {
    let Some(cluster) = Cluster::new() else { return skip("no PostgreSQL binaries") };
    let directory = tempfile::tempdir().unwrap();
    let url = cluster.url();
    let scene =
        Scene::new(|whatsapp| Installation::new(directory.path(), Some(&url), whatsapp)).await;
    let code = scene.daemon.code("second").await.unwrap();
    let second = scene.whatsapp.phone(SECOND).unwrap();

    cluster.stop();
    let begun = Instant::now();
    let scanning = TaskTracker::new().spawn({
        let second = second.clone();
        async move { second.scan(&code).await.is_ok() }
    });
    let ids = scene.arrive().await;
    scene.is_noticed().await;
    scene.lasts(begun).await;
    assert_eq!(scene.acknowledged(&ids), []);
    assert_eq!(second.devices().len(), 0, "linked with a device that nobody has kept");

    let back = now();
    cluster.start_again();
    scene.until("/readyz", "ready", |status, _| status.is_success()).await;
    let linked = scanning.await.unwrap();
    let settled = scene.daemon.watch("second", "connected, or a new code", |seen| {
        let ended = seen["status"] == "session_not_connected" || seen["status"] == "auth_failure";
        (seen["isConnected"] == true || seen["needsQR"] == true || ended).then(|| seen.clone())
    });
    let settled = settled.await.unwrap();
    if settled["isConnected"] != true {
        assert!(!linked && second.devices().is_empty(), "linked for nothing: {settled:#}");
        scene.daemon.post("/api/whatsapp/session/second/start", json!({})).await;
        let code = scene.daemon.shown_code("second").await.unwrap();
        second.scan(&code).await.unwrap();
        scene.daemon.paired("second").await.unwrap();
    }
    assert_eq!(second.devices().len(), 1);
    scene.recovers_after(back, &ids, Name::Unknown).await;
}
