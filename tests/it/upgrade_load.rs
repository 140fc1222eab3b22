//! An upgrade while everybody goes on: phones write, programs tell and read, receivers take what is owed.
//!
//! The database is one that an earlier version has left (`schemas/`), the program is this one: it brings the
//! schema up to date under that load. Then it is stopped and started once more while programs tell and read, as an
//! operator does who installs two releases in a row. Nothing may be lost or be there twice, and nobody is refused but
//! with 503.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use wagate::{
    clock::Clock,
    config::{Config, Keep},
    service::Tokens,
};
use wagate_simulator::{Options, Simulator};

use crate::{
    callers::{self, Callers, EACH, PROGRAMS, SHOP},
    database::{Database, Kind, on},
    receiver::{Receiver, Request},
    upgrade::{linked, load, sealed_by_the_tests, versions},
    upgrade_rows::Rows,
    world::{ALICE, CAROL, World},
};

/// Of whom the database knows nothing, as of Carol.
const DAVE: &str = "15550004444";
const ERIN: &str = "15550005555";

/// A token that the earlier version has given to a program.
const TOKEN: &str = "wag_a-token-of-the-version-before";

/// What an earlier version has left, and a WhatsApp that goes on with it.
struct Old<'a> {
    version: &'a str,
    database: &'a Database,
    whatsapp: Simulator,
    receiver: Receiver,
    rows: Rows,
    steps: i64,
    /// Texts of the session's messages.
    texts: Vec<String>,
    has_endpoint: bool,
    /// Events that an endpoint was not told of yet.
    owed: Vec<String>,
}

/// Of a query whose rows are texts.
async fn strings(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.query(sql).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn steps(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM seaql_migrations").await
}

impl<'a> Old<'a> {
    async fn load(database: &'a Database, version: &'a str) -> Self {
        load(database, version).await;
        let token = format!(
            "INSERT INTO token (id, organization_id, role, secret_hash, label, created_at) \
             SELECT 'tok_01M868D3MZ0PKXTX2Q2KVP8FQZ', id, 'operator', '{}', 'a program', 1 FROM organization",
            Tokens::hash(TOKEN)
        );
        database.execute(&token).await;
        let has_endpoint = version != "0.1.0";
        let mut owed = Vec::new();
        if has_endpoint {
            // They were given up long ago by the time of those who run this.
            database.execute("UPDATE webhook_delivery SET expires_at = 9000000000000").await;
            let find = "SELECT event_id FROM webhook_delivery WHERE state = 'pending'";
            owed = strings(database, find).await;
        }
        assert_eq!(has_endpoint, owed.len() > 10, "{version}: {owed:?}");
        let texts = "SELECT body FROM message JOIN session ON session.id = message.session_key \
                     WHERE session.session_id = 'sales'";
        let texts = strings(database, texts).await;
        assert_eq!(texts.len(), 4, "{version}: {texts:?}");
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        whatsapp.phone(ALICE).unwrap().adopt(linked(database, version).await);
        Self {
            version,
            database,
            whatsapp,
            receiver: Receiver::start().await,
            rows: Rows::of(database).await,
            steps: steps(database).await,
            texts,
            has_endpoint,
            owed,
        }
    }

    /// A daemon of today on it.
    async fn start(&self, listen: SocketAddr) -> World {
        let change = |config: &mut Config| {
            sealed_by_the_tests(config);
            config.http.listen = listen;
            config.node.name = Some(listen.to_string());
            // The old rows' time was over long ago.
            let kept = &mut config.retention;
            kept.events = Keep(None);
            kept.idempotency = Keep(None);
            kept.webhooks = Keep(None);
            kept.meta = Keep(None);
            kept.message_statuses = Keep(None);
            kept.tokens = Keep(None);
            kept.audit = Keep(None);
        };
        Box::pin(World::beside(self.whatsapp.clone(), Clock::system(), self.database, change)).await
    }

    /// Three phones write at once, each one message after the other. What they have written.
    async fn burst(&self) -> Vec<String> {
        let phones = [CAROL, DAVE, ERIN].map(|number| async move {
            let contact = self.whatsapp.contact(number).unwrap();
            let mut written = Vec::new();
            for n in 0..EACH {
                let text = format!("{n} of {number}");
                contact.send_text(ALICE, &text).await.unwrap();
                written.push(text);
            }
            written
        });
        join_all(phones).await.concat()
    }

    /// Has the receiver told of everything from now on, and of what is owed.
    async fn listens(&self, world: &World) {
        if !self.has_endpoint {
            let made = world.post("/api/webhooks", json!({ "url": self.receiver.url() })).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            return;
        }
        let endpoints = world.get("/api/webhooks").await.body;
        let path = format!("/api/webhooks/{}", endpoints["data"][0]["id"].as_str().unwrap());
        let moved =
            world.request(Method::PATCH, &path).json(&json!({ "url": self.receiver.url() }));
        assert!(moved.send().await.unwrap().status().is_success());
        let resumed = world.post(&format!("{path}/resume"), json!({})).await;
        assert!(resumed.status.is_success(), "{}", resumed.body);
    }

    /// Waits until all that came and was told is there, each once.
    async fn is_all_there(&self, callers: &Callers, came: &[String], told: &[String]) {
        let of_sales = [came, &self.texts].concat();
        once("messages", &of_sales, async || callers.texts("sales").await, callers).await;
        once("events", came, async || callers.announced("sales").await, callers).await;
        once("messages elsewhere", told, async || callers.texts(SHOP).await, callers).await;
        once("events elsewhere", told, async || callers.announced(SHOP).await, callers).await;
        // An endpoint of before is told of all, and of what was owed to it. What it was being told when the daemon
        // stopped may come again, under its id.
        if self.has_endpoint {
            let expected = [came, told].concat();
            let heard = async || heard(&self.receiver.requests());
            once("at the receiver", &expected, heard, callers).await;
            let owed = async || -> Vec<String> {
                let requests = self.receiver.requests();
                let ids: BTreeSet<_> = requests.iter().map(|it| it.id().to_owned()).collect();
                ids.into_iter().collect()
            };
            once("owed from before", &self.owed, owed, callers).await;
        }
    }

    /// No row of before is gone, or another one.
    async fn is_kept(&self) {
        self.rows.are_in(self.database, self.version).await;
        assert!(steps(self.database).await > self.steps, "{}: nothing was migrated", self.version);
    }
}

/// Waits until all of these are there, and sees that each is so once.
async fn once(
    what: &str,
    wanted: &[String],
    look: impl AsyncFn() -> Vec<String>,
    callers: &Callers,
) {
    let there = callers.until(what, async || {
        let mut there = BTreeMap::new();
        for text in look().await {
            *there.entry(text).or_insert(0) += 1;
        }
        let missing: Vec<_> =
            wanted.iter().filter(|it| !there.contains_key(*it)).cloned().collect();
        if missing.is_empty() { Ok(there) } else { Err(missing) }
    });
    let there: BTreeMap<String, usize> = there.await;
    for text in wanted {
        assert_eq!(there[text], 1, "{what}: {text}");
    }
}

/// The texts of messages that came, in what a receiver was told. One id is one message.
fn heard(requests: &[Request]) -> Vec<String> {
    let distinct: BTreeMap<_, _> = requests.iter().map(|it| (it.id(), it.json())).collect();
    let came = distinct.into_values().filter(|it| it["type"] == "message.received");
    came.filter_map(|it| it["data"]["message"]["body"].as_str().map(str::to_owned)).collect()
}

async fn an_upgrade_under_load_on(kind: Kind) {
    for version in versions() {
        on(kind, async |database: &Database| {
            let old = Old::load(database, &version).await;
            let listen = callers::address();
            let callers = Callers::of(&[listen], TOKEN);
            let running = async {
                // The schema is brought up to date while phones write, and programs knock.
                let (came, mut world) = tokio::join!(old.burst(), old.start(listen));
                old.listens(&world).await;
                once("messages", &came, async || callers.texts("sales").await, &callers).await;
                callers.until_restart().await;
                // Those who knocked before the first start do not count.
                let unheard = callers.unheard();
                world.stop_daemon().await;
                world.start_daemon().await;
                let unheard = callers.unheard() - unheard;
                callers.have_done();
                (came, unheard, world)
            };
            let (told, (came, unheard, world)) =
                tokio::join!(Box::pin(callers.all(&old.texts)), Box::pin(running));
            assert!(unheard > 0, "{version}: nobody asked while it was away");
            assert!(told.len() > PROGRAMS * EACH, "{version}: nobody told on after the stop");
            world.until_status("sales", "session_connected").await;
            old.is_all_there(&callers, &came, &told).await;
            world.end().await;
            old.is_kept().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_of_each_earlier_version_is_upgraded_under_load_and_nothing_is_lost_or_doubled()
 {
    Box::pin(an_upgrade_under_load_on(Kind::Sqlite)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_of_each_earlier_version_is_upgraded_under_load_and_nothing_is_lost_or_doubled()
 {
    Box::pin(an_upgrade_under_load_on(Kind::Postgres)).await;
}
