//! The crash matrix: a daemon is killed at every moment that the sources name, and at moments that
//! chance names, over and over on the same state; nothing may be lost, doubled or asked for again.
//!
//! What a summary counts is printed past the capture of the test harness, so that it stands in the
//! log of a run that passes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate_simulator::{Options, Phone, ReceiptPolicy, Simulator};

use crate::{
    crash_moments::{MOMENTS, Scene},
    database::{Database, Kind},
    process::{HOLD_AT, Installation, KILL_AT, Process, aborted, send_signal, was_killed},
    world::{ALICE, BOB, DEADLINE},
};

/// Kills at moments that chance names: at the n-th moment of whatever name, or from outside.
const AT_RANDOM: usize = 16;

/// Messages each way in a scene.
const BURST: usize = 10;

/// Bursts until the latest of the moments is come to.
const BURSTS: u32 = 5;

/// What is counted over all daemons.
#[derive(Debug, Default)]
struct Tally {
    kills: BTreeMap<String, u32>,
    inbound: usize,
    outbound: usize,
    lost: Vec<String>,
    doubled: Vec<String>,
    new_codes: Vec<String>,
    violations: Vec<String>,
}

impl Tally {
    fn kills(&self) -> u32 {
        self.kills.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (moment, count) in other.kills {
            *self.kills.entry(moment).or_default() += count;
        }
        self.inbound += other.inbound;
        self.outbound += other.outbound;
        self.lost.extend(other.lost);
        self.doubled.extend(other.doubled);
        self.new_codes.extend(other.new_codes);
        self.violations.extend(other.violations);
    }

    fn print(&self, database: &str, took: Duration) {
        let mut text = format!("\ncrash matrix on {database}:\n");
        for (moment, count) in &self.kills {
            writeln!(text, "  {count:4} kills at {moment}").unwrap();
        }
        let Self { inbound, outbound, lost, doubled, new_codes, violations, .. } = self;
        writeln!(
            text,
            "crash matrix on {database}: {} kills in {} s, {inbound} messages in and {outbound} out: \
             {} lost, {} doubled, {} new QR codes, {} violations",
            self.kills(),
            took.as_secs(),
            lost.len(),
            doubled.len(),
            new_codes.len(),
            violations.len(),
        )
        .unwrap();
        // Not by a macro: those are captured.
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    }
}

/// A daemon that is killed over and over, and what it has promised.
struct Victim {
    whatsapp: Simulator,
    installation: Installation,
    phone: Phone,
    random: SmallRng,
    round: usize,
    /// Ids of what was written to it.
    written: Vec<String>,
    /// Texts that it has accepted.
    accepted: Vec<String>,
    pairing: Option<Pairing>,
    /// The session was connected to Alice's phone once: it shall need no other code.
    is_linked: bool,
    tally: Tally,
}

impl Victim {
    /// A new installation.
    async fn new(directory: &Path, database: Option<&str>, seed: u64) -> Self {
        let options = Options { deadline: DEADLINE, ..Options::default() };
        let whatsapp = Simulator::start(options).await.unwrap();
        let installation = Installation::new(directory, database, &whatsapp);
        let phone = whatsapp.phone(ALICE).unwrap();
        whatsapp.contact(BOB).unwrap().set_receipts(ReceiptPolicy::Read);
        Self {
            whatsapp,
            installation,
            phone,
            random: SmallRng::seed_from_u64(seed),
            round: 0,
            written: Vec::new(),
            accepted: Vec::new(),
            pairing: None,
            is_linked: false,
            tally: Tally::default(),
        }
    }

    /// Has a session that is connected to Alice's phone, if it has none yet.
    async fn connect(&mut self) {
        let daemon = self.installation.start();
        if self.phone.devices().is_empty() {
            if self.is_linked {
                // Mended, so that the rest can be looked at; but not in silence.
                self.tally.new_codes.push("sales: unlinked by a kill".to_owned());
            }
            let code = daemon.code("sales").await.unwrap();
            self.phone.scan(&code).await.unwrap();
            daemon.paired("sales").await.unwrap();
        }
        self.is_linked = true;
        daemon.terminate().await;
    }

    fn killed_at(&mut self, moment: &str) {
        *self.tally.kills.entry(moment.to_owned()).or_default() += 1;
    }

    /// Starts it, has things happen to it, and sees it die at that moment.
    async fn die_at(&mut self, moment: &str, passage: u32, scene: Scene) {
        let at = format!("{moment}:{passage}");
        let mut faults = vec![(KILL_AT, at.as_str())];
        if scene == Scene::PairingUnsaved {
            faults.push((HOLD_AT, "device.saves"));
        }
        let died = match self.installation.try_start(&faults) {
            Err(status) => aborted(status),
            Ok(daemon) => {
                // What is written together comes to a moment once: how many times a burst comes to it is
                // chance. On a dead one it does nothing.
                let bursts = if scene == Scene::Traffic { BURSTS } else { 1 };
                for _ in 0..bursts {
                    self.play(scene, &daemon).await;
                }
                aborted(daemon.end_within(DEADLINE).await)
            }
        };
        assert!(died, "{at} was not come to\n{}", self.installation.log());
        self.killed_at(moment);
    }

    /// The same, at a moment that chance names. False when it came to an end in good order before.
    async fn die_at_random(&mut self) -> bool {
        let scene = if self.random.random() { Scene::Traffic } else { Scene::Stop };
        if self.random.random() {
            let passage = self.random.random_range(1..400);
            let at = format!("any:{passage}");
            let status = match self.installation.try_start(&[(KILL_AT, at.as_str())]) {
                Err(status) => status,
                Ok(daemon) => {
                    self.play(scene, &daemon).await;
                    // Chance may have named more moments than there are.
                    daemon.end_within(Duration::from_secs(1)).await
                }
            };
            if was_killed(status) {
                self.killed_at("a moment of whatever name");
            }
            was_killed(status)
        } else {
            let daemon = self.installation.start();
            // The point of it is that nothing says when.
            let moment = Duration::from_millis(self.random.random_range(0..800));
            let pid = daemon.id();
            let ((), ()) = tokio::join!(self.play(scene, &daemon), async {
                tokio::time::sleep(moment).await;
                send_signal(pid, "-KILL");
            });
            let status = daemon.end_within(DEADLINE).await;
            if was_killed(status) {
                self.killed_at("no moment, from outside");
            }
            was_killed(status)
        }
    }

    /// Has a scene happen to a daemon, which may die over it.
    async fn play(&mut self, scene: Scene, daemon: &Process) {
        self.round += 1;
        match scene {
            Scene::FirstStart | Scene::Start => {}
            Scene::Pairing | Scene::PairingUnsaved => self.pair(daemon).await,
            Scene::Traffic => self.traffic(daemon).await,
            Scene::Stop => {
                self.traffic(daemon).await;
                daemon.signal("-TERM");
            }
        }
    }

    /// Messages both ways at once, with receipts, and a new name of the account. What the daemon has
    /// answered with 2xx, it has promised.
    async fn traffic(&mut self, daemon: &Process) {
        let round = self.round;
        if daemon.connected("sales").await.is_none() {
            return;
        }
        self.phone.set_name(&format!("Alice {round}"));
        let bob = self.whatsapp.contact(BOB).unwrap();
        let text = format!("in {round}");
        let inbound = bob.send_many(ALICE, &text, BURST);
        let texts: Vec<String> = (0..BURST).map(|n| format!("out {round} {n}")).collect();
        let outbound = join_all(texts.iter().map(|text| {
            let body = json!({ "to": BOB, "text": text, "queue": true });
            daemon.ask(Method::POST, "/api/whatsapp/session/sales/messages", Some(body))
        }));
        let (written, answers) = tokio::join!(inbound, outbound);
        self.written.extend(written.unwrap());
        for (text, answer) in texts.into_iter().zip(answers) {
            if answer.is_some_and(|(status, _)| status.is_success()) {
                self.accepted.push(text);
            }
        }
    }

    /// Another session, and another phone that scans its code.
    async fn pair(&mut self, daemon: &Process) {
        let session = format!("pair-{}", self.round);
        let number = format!("1556{:07}", self.round);
        let phone = self.whatsapp.phone(&number).unwrap();
        // One that was meant for the number, with something to say: it hands over.
        let meant = format!("meant-{}", self.round);
        let body = json!({ "sessionId": meant, "phoneNumber": number, "start": false });
        daemon.ask(Method::POST, "/api/whatsapp/session", Some(body)).await;
        let body = json!({ "to": BOB, "text": format!("from {meant}"), "queue": true });
        let messages = format!("/api/whatsapp/session/{meant}/messages");
        daemon.ask(Method::POST, &messages, Some(body)).await;
        let mut linked = false;
        if let Some(code) = daemon.code(&session).await {
            linked = phone.scan(&code).await.is_ok();
            if linked {
                daemon.paired(&session).await;
            }
        }
        self.pairing = Some(Pairing { session, phone, linked });
    }

    /// What became of a pairing: connected without another code if the phone has our signature, and
    /// by another code if not. Then that life ends as well, without warning.
    async fn check_pairing(&mut self) {
        let Some(Pairing { session, phone, linked }) = self.pairing.take() else { return };
        let daemon = self.installation.start();
        let path = format!("/api/whatsapp/session/{session}");
        let (status, _) = daemon.ask(Method::GET, &path, None).await.unwrap();
        if status == StatusCode::NOT_FOUND {
            assert!(!linked);
            daemon.kill();
            return self.killed_at("no moment, from outside");
        }
        daemon.hurry(&session).await.unwrap();
        let seen = daemon
            .watch(&session, "connected, or a code", |seen| {
                let ended = seen["status"] == "auth_failure";
                let settled = seen["isConnected"] == true || seen["needsQR"] == true || ended;
                settled.then(|| seen.clone())
            })
            .await
            .unwrap();
        if seen["isConnected"] != true {
            if linked {
                self.tally.new_codes.push(format!("{session}: {seen}"));
            }
            daemon.post(&format!("{path}/start"), json!({})).await;
            let code = daemon.shown_code(&session).await.unwrap();
            phone.scan(&code).await.unwrap();
            daemon.paired(&session).await.unwrap();
        }
        let (status, body) = daemon.ask(Method::DELETE, &path, None).await.unwrap();
        assert!(status.is_success(), "{body}");
        daemon.kill();
        self.killed_at("no moment, from outside");
    }

    /// The last life, which ends in good order. Everything that was promised must be there.
    async fn last_life(mut self) -> Tally {
        self.connect().await;
        let daemon = self.installation.start();
        daemon.connected("sales").await.unwrap();
        let bob = self.whatsapp.contact(BOB).unwrap();
        self.written.push(bob.send_text(ALICE, "last in").await.unwrap());
        let body = json!({ "to": BOB, "text": "last out", "queue": true });
        let (status, answer) = daemon.post("/api/whatsapp/session/sales/messages", body).await;
        assert!(status.is_success(), "{answer}");
        self.accepted.push("last out".to_owned());
        // The outbox keeps the order, so the last one ends it; and then nothing is owed any more.
        bob.wait_for_received(|sent| sent.text.as_deref() == Some("last out")).await.unwrap();
        self.phone.wait_confirmed().await.unwrap();

        let mut copies: HashMap<String, usize> = HashMap::new();
        for message in daemon.messages("sales").await {
            if message["direction"] == "inbound" {
                *copies.entry(message["waId"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        for id in &self.written {
            match copies.remove(id) {
                Some(1) => {}
                None => self.tally.lost.push(format!("inbound {id}")),
                Some(_) => self.tally.doubled.push(format!("inbound {id}")),
            }
        }
        self.tally.doubled.extend(copies.into_keys().map(|id| format!("unknown {id}")));

        // One text under two ids would be two messages; one id twice is one, to whoever gets it.
        let mut ids: HashMap<String, BTreeSet<String>> = HashMap::new();
        for sent in bob.received() {
            ids.entry(sent.text.unwrap_or_default()).or_default().insert(sent.id);
        }
        for text in &self.accepted {
            if !ids.contains_key(text) {
                self.tally.lost.push(format!("outbound {text:?}"));
            }
        }
        self.check_rows(&daemon, &ids).await;
        let twice = ids.iter().filter(|(_, ids)| ids.len() > 1);
        self.tally.doubled.extend(twice.map(|(text, _)| format!("outbound {text:?}")));

        daemon.terminate().await;
        let violations = self.whatsapp.violations();
        self.tally.violations.extend(violations.iter().map(ToString::to_string));
        self.tally.inbound = self.written.len();
        self.tally.outbound = self.accepted.len();
        self.whatsapp.stop().await;
        self.tally
    }
}

impl Victim {
    /// What the table says of messages that went out: of each that was accepted or received there is one row, and
    /// none is still being sent. `received` are the texts that Bob has.
    async fn check_rows(&mut self, daemon: &Process, received: &HashMap<String, BTreeSet<String>>) {
        let begun = Instant::now();
        let rows = loop {
            let rows = daemon.messages("sales").await;
            let rows: Vec<_> =
                rows.into_iter().filter(|row| row["direction"] == "outbound").collect();
            let is_open =
                |row: &Value| matches!(row["status"].as_str(), Some("queued" | "sending"));
            if !rows.iter().any(is_open) || begun.elapsed() > DEADLINE {
                break rows;
            }
        };
        let mut copies: HashMap<&str, usize> = HashMap::new();
        for row in &rows {
            let text = row["body"].as_str().unwrap_or_default();
            *copies.entry(text).or_default() += 1;
            if !matches!(row["status"].as_str(), Some("sent" | "delivered" | "read")) {
                self.tally.lost.push(format!("outbound row {text:?} is {}", row["status"]));
            }
        }
        let ours = received.keys().filter(|text| text.starts_with("out "));
        for text in self.accepted.iter().chain(ours) {
            if !copies.contains_key(text.as_str()) {
                self.tally.lost.push(format!("outbound row {text:?}"));
            }
        }
        let twice = copies.iter().filter(|(_, count)| **count > 1);
        self.tally.doubled.extend(twice.map(|(text, _)| format!("outbound row {text:?}")));
    }
}

/// A session that was being paired when its daemon died.
struct Pairing {
    session: String,
    phone: Phone,
    /// Whether the phone has our signature.
    linked: bool,
}

/// Moments of some scenes, on an installation of their own, and some more that chance names.
async fn kill_in(scenes: &[Scene], kind: Kind, every: usize, at_random: usize, seed: u64) -> Tally {
    let Some(database) = Database::new(kind).await else { return Tally::default() };
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(directory.path(), database.server_url(), seed).await;
    if !scenes.contains(&Scene::Pairing) {
        // What a session that is there already does by itself would come in between.
        victim.connect().await;
    }
    let moments = MOMENTS.iter().filter(|(_, scene, _)| scenes.contains(scene));
    let wanted = moments.flat_map(|(moment, scene, passages)| {
        passages.iter().step_by(every).map(|passage| (*moment, *scene, *passage))
    });
    for (moment, scene, passage) in wanted {
        victim.die_at(moment, passage, scene).await;
        victim.check_pairing().await;
    }
    let mut killed = 0;
    while killed < at_random {
        killed += usize::from(victim.die_at_random().await);
    }
    let tally = victim.last_life().await;
    database.drop().await;
    tally
}

/// An installation that dies while it is being made, and is made all the same.
async fn kill_first_starts(kind: Kind) -> Tally {
    let mut tally = Tally::default();
    let Some(database) = Database::new(kind).await else { return tally };
    let whatsapp = Simulator::start(Options::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
    let first = MOMENTS.iter().filter(|(_, scene, _)| *scene == Scene::FirstStart);
    for (moment, ..) in first {
        let at = format!("{moment}:1");
        let died = installation.try_start(&[(KILL_AT, at.as_str())]).err();
        assert!(died.is_some_and(aborted), "{moment} was not come to");
        tally.kills.insert((*moment).to_owned(), 1);
    }
    installation.start().terminate().await;
    database.drop().await;
    tally
}

/// Kills at every moment, and of several passages of one at every so manieth.
async fn matrix(kind: Kind, every: usize, at_random: usize, at_least: u32) {
    let seed: u64 = rand::random();
    let begun = Instant::now();
    let mut tally = kill_first_starts(kind).await;
    // Two at a time: one is always starting.
    let (traffic, (pairing, rest)) =
        tokio::join!(kill_in(&[Scene::Traffic], kind, every, at_random, seed), async {
            let rest = [Scene::Start, Scene::Stop];
            (
                kill_in(&[Scene::Pairing, Scene::PairingUnsaved], kind, every, 0, seed).await,
                kill_in(&rest, kind, every, at_random / 2, seed.wrapping_add(1)).await,
            )
        });
    for part in [traffic, pairing, rest] {
        tally.add(part);
    }
    if tally.kills() == 0 {
        // No server for this kind of database, which was said.
        return;
    }
    tally.print(&format!("{kind:?}, seed {seed}"), begun.elapsed());
    let Tally { lost, doubled, new_codes, violations, .. } = &tally;
    assert!(lost.is_empty(), "lost: {lost:#?}");
    assert!(doubled.is_empty(), "doubled: {doubled:#?}");
    assert!(new_codes.is_empty(), "asked for another code: {new_codes:#?}");
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(tally.kills() >= at_least, "{} kills", tally.kills());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_moment_on_sqlite_nothing_is_lost_doubled_or_asked_for_again() {
    Box::pin(matrix(Kind::Sqlite, 1, AT_RANDOM, 100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_moment_on_postgres_nothing_is_lost_doubled_or_asked_for_again() {
    Box::pin(matrix(Kind::Postgres, 4, AT_RANDOM / 4, 50)).await;
}
