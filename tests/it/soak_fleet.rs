//! One daemon of the soak with its sessions, its WhatsApp, and what was said over them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use entity::UnixMillis;
use futures_util::{StreamExt as _, future::join_all, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use wagate::clock::Clock;
use wagate_simulator::{Contact, Fault, Options, Scope, Step};

use crate::{
    database::{Database, Kind},
    soak_script::{Plan, troubles},
    world::{BOB, World},
};

/// From one fault to the next, on average, and how long each half is.
const BETWEEN_FAULTS: Duration = Duration::from_secs(40);
pub(crate) const HALF: Duration = Duration::from_mins(150);

/// How often somebody writes, whatever goes wrong.
const BETWEEN_MESSAGES: usize = 6;

/// Sessions that are unlinked on their phones in each half, and linked again in place.
const LINKED_AGAIN: usize = 20;

/// Sessions that are paired at once: a person holds a phone in his hand, and does not wait for a busy machine.
const PAIRED_AT_ONCE: usize = 8;

/// From an answer that says to ask again to the next request.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How far time is moved at once where somebody waits for a session.
pub(crate) const STEP: Duration = Duration::from_millis(500);

/// How long a client may take to close on a machine that has hundreds to close at once.
const CLOSING: Duration = Duration::from_mins(2);

pub(crate) struct Fleet {
    pub(crate) kind: Kind,
    pub(crate) world: World,
    pub(crate) sessions: usize,
    bob: Contact,
    turns: usize,
    /// How often somebody was to write.
    talks: usize,
    /// Texts that were to be sent so far.
    texts: usize,
    /// Sessions that were linked again so far.
    pub(crate) linked_again: usize,
    /// Texts that Bob has sent to each session.
    inbound: Vec<Vec<String>>,
    /// Texts that sessions were asked to send, and whether they have accepted to.
    outbound: Vec<(String, JoinHandle<bool>)>,
    tasks: TaskTracker,
}

pub(crate) fn name(session: usize) -> String {
    format!("s{session:03}")
}

pub(crate) fn number(session: usize) -> String {
    format!("1556{session:07}")
}

impl Fleet {
    /// Pairs so many sessions, and starts their daemon again by a clock that is moved.
    pub(crate) async fn start(database: &Database, sessions: usize) -> Self {
        let options = Options { pairing_refs: 6, ..Options::default() };
        let mut world = World::start_with(database, options, |config| {
            config.whatsapp.dial_concurrency = 64;
            config.whatsapp.dial_rate_per_second = 10_000;
            config.whatsapp.shutdown_grace = CLOSING;
        })
        .await;
        {
            let world = &world;
            let all = stream::iter(0..sessions);
            all.for_each_concurrent(PAIRED_AT_ONCE, async |session| {
                world.connect(&name(session), &number(session)).await;
            })
            .await;
        }
        world.stop_daemon().await;

        // From here on time is moved. The rows know the machine's time, so it begins there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        world.clock = Clock::manual(UnixMillis(i64::try_from(now).unwrap()));
        world.start_daemon().await;
        let fleet = Self {
            kind: database.kind,
            bob: world.whatsapp.contact(BOB).unwrap(),
            world,
            sessions,
            turns: 0,
            talks: 0,
            texts: 0,
            linked_again: 0,
            inbound: vec![Vec::new(); sessions],
            outbound: Vec::new(),
            tasks: TaskTracker::new(),
        };
        fleet.begin_anew().await;
        fleet
    }

    /// Connections that WhatsApp has seen.
    pub(crate) fn dials(&self) -> usize {
        usize::try_from(self.world.whatsapp.info().connections).unwrap()
    }

    /// One half: faults, what they must not have harmed, and sessions that are linked again. Then all connections are
    /// new, as they are before it, so that what is measured can be compared.
    pub(crate) async fn half(&mut self, seed: u64) {
        self.storm(seed).await;
        self.all_connected().await;
        self.nothing_is_lost_or_doubled().await;
        self.all_connected().await;
        for _ in 0..LINKED_AGAIN {
            self.link_again().await;
        }
        self.begin_anew().await;
    }

    /// Lets the faults of one half happen, with messages both ways meanwhile.
    async fn storm(&mut self, seed: u64) {
        let numbers: Vec<_> = (0..self.sessions).map(number).collect();
        let mut course = Plan::new(seed, &numbers, BETWEEN_FAULTS, HALF);
        let faults = course.script.steps.len();
        let mut plays = vec![self.world.whatsapp.stage(course.script.clone())];
        let mut now = Duration::ZERO;
        while let Some(step) = course.step(now) {
            let online = self.world.whatsapp.online_devices();
            plays.extend(course.sure(now, &online).map(|it| self.world.whatsapp.stage(it)));
            let mut begun = Vec::new();
            for play in &plays {
                begun.extend(play.advance(step).await);
            }
            self.world.clock.advance(step);
            now += step;
            for fault in &begun {
                self.provoke(fault).await;
            }
            self.turns += 1;
            if self.turns.is_multiple_of(BETWEEN_MESSAGES) {
                self.talks += 1;
                self.receive(self.talks * 7 % self.sessions).await;
                self.send(self.talks * 11 % self.sessions);
            }
            self.settle().await;
        }
        for play in plays {
            play.stop().await;
        }
        self.world.whatsapp.clear_faults(None);
        let Self { kind, world, .. } = self;
        let hours = HALF.as_secs() / 3600;
        let logins = world.whatsapp.logins();
        eprintln!("soak: {kind:?}: {faults} faults in {hours} moved hours, {logins} logins so far");
    }

    /// What befalls messages or stanzas is met when there are some.
    async fn provoke(&mut self, step: &Step) {
        let Scope::Account(account) = &step.scope else { return };
        let session = account["1556".len()..].parse().unwrap();
        match step.fault {
            Fault::DuplicateDelivery | Fault::CorruptCiphertext | Fault::Slow { .. } => {
                self.receive(session).await;
            }
            Fault::ReorderDelivery => {
                self.receive(session).await;
                self.receive(session).await;
            }
            Fault::LoseAck => self.send(session),
            _ => {}
        }
    }

    /// Bob writes to a session.
    async fn receive(&mut self, session: usize) {
        let text = format!("in {} {}", self.turns, self.inbound[session].len());
        self.bob.send_text(&number(session), &text).await.unwrap();
        self.inbound[session].push(text);
    }

    /// A session is asked to write to Bob. Nobody waits for the answer, which may need time to be moved.
    fn send(&mut self, session: usize) {
        let text = format!("out {}", self.texts);
        self.texts += 1;
        let path = format!("/api/whatsapp/session/{}/messages", name(session));
        let body = json!({ "to": BOB, "text": text, "queue": true });
        // Who is told that the daemon is busy asks again, for the same thing.
        let key = text.replace(' ', "-");
        let request = self.world.request(Method::POST, &path).header("idempotency-key", key);
        let request = request.json(&body);
        let asking = async move {
            loop {
                let asked = request.try_clone().expect("its body is all there").send().await;
                match asked.map(|answer| answer.status()) {
                    Ok(StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    answered => return answered.is_ok_and(|status| status.is_success()),
                }
            }
        };
        self.outbound.push((text, self.tasks.spawn(asking)));
    }

    /// Gives the wire real time for what a step has set off. When that is not enough, time moves on all
    /// the same: then some deadlines pass that would not have, which is a fault like any other.
    async fn settle(&self) {
        for look in 0..12 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            if look >= 3 && self.world.whatsapp.online_devices().len() == self.sessions {
                return;
            }
        }
    }

    /// Whatever was accepted to be sent has arrived, once; and so has whatever was sent to the sessions.
    async fn nothing_is_lost_or_doubled(&mut self) {
        let (texts, asked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.outbound).into_iter().unzip();
        self.tasks.close();
        let accepted: Vec<bool> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
        let refused = accepted.iter().filter(|accepted| !**accepted).count();
        assert_eq!(refused, 0, "of {} that were to be sent", texts.len());
        let arrived = || {
            let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
            for text in self.bob.received().into_iter().filter_map(|it| it.text) {
                *arrived.entry(text).or_default() += 1;
            }
            arrived
        };
        let all = texts.iter().zip(&accepted);
        self.pass_until("the arrival of all", Duration::from_secs(5), async || {
            let arrived = arrived();
            let missing: Vec<_> = all
                .clone()
                .filter(|(text, accepted)| **accepted && !arrived.contains_key(*text))
                .map(|(text, _)| text)
                .collect();
            if missing.is_empty() { Ok(()) } else { Err(json!(missing)) }
        })
        .await;
        let arrived = arrived();
        let doubled: Vec<_> = arrived.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");

        for (session, sent) in self.inbound.iter().enumerate().filter(|(_, it)| !it.is_empty()) {
            let name = name(session);
            let mut told = self
                .pass_until("all messages", STEP, async || {
                    let events = self.world.events(&name).await.into_iter();
                    let told = events.filter(|(kind, _)| kind == "message");
                    let told: Vec<_> =
                        told.map(|(_, data)| data["message"]["body"].clone()).collect();
                    if told.len() >= sent.len() { Ok(told) } else { Err(json!(told)) }
                })
                .await;
            let mut sent: Vec<_> = sent.iter().map(|text| json!(text)).collect();
            told.sort_by_key(Value::to_string);
            sent.sort_by_key(Value::to_string);
            assert_eq!(told, sent, "{name}: each once");
        }
        let (received, sent) = (self.inbound.iter().map(Vec::len).sum::<usize>(), texts.len());
        eprintln!("soak: {:?}: {received} messages in, {sent} out", self.kind);
    }

    /// Each kind of fault has happened to somebody.
    pub(crate) fn each_fault_was_met(&self) {
        let met = self.world.whatsapp.met();
        let times = |fault: &Fault| {
            met.iter().find(|(known, _)| known == fault).map_or(0, |(_, times)| *times)
        };
        let mut never = Vec::new();
        for trouble in troubles() {
            let times = times(&trouble.fault);
            eprintln!("soak: {:?}: {:?}: {times} times", self.kind, trouble.fault);
            if times == 0 {
                never.push(trouble.fault);
            }
        }
        assert!(never.is_empty(), "{:?}: nobody met {never:?}", self.kind);
    }

    pub(crate) async fn end(self) {
        self.world.end().await;
    }
}
