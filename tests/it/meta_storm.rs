//! A simulated Meta that batches, reorders, repeats and retries, while whoever carries it out dies between any two steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_app::App,
    meta::{SECRET, SHARED, ask, complete, deliver, get, set_up, tenant},
    meta_statuses::expected,
};

const WORDS: [&str; 5] = ["sent", "delivered", "read", "played", "failed"];

/// What one organization was told, as it should be found.
#[derive(Default)]
pub(crate) struct Owed {
    /// Text by id of the message.
    pub(crate) messages: BTreeMap<String, String>,
    /// Those that were written on the phone, of which nobody is told.
    pub(crate) echoes: BTreeMap<String, String>,
    pub(crate) statuses: BTreeMap<String, BTreeSet<&'static str>>,
    /// With whom messages were exchanged.
    people: BTreeSet<String>,
}

impl Owed {
    /// Text and status of each message's row, by its id.
    pub(crate) fn rows(&self) -> BTreeMap<String, (String, &'static str)> {
        let received = self.messages.iter().map(|(id, text)| (id, text, "received"));
        let echoes = self.echoes.iter().map(|(id, text)| {
            let told = self.statuses.get(id).map_or("attached", state);
            (id, text, if told == "attached" { "sent" } else { told })
        });
        received.chain(echoes).map(|(id, text, word)| (id.clone(), (text.clone(), word))).collect()
    }

    /// An audience: everybody who was sent a message of which something is told.
    pub(crate) fn audience(&self) -> Value {
        let members = self.statuses.keys().enumerate();
        members
            .map(|(n, id)| json!({ "phoneNumber": format!("1650555{n:04}"), "messageId": id }))
            .collect()
    }

    /// The state of each of its members, by the message's id.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        self.statuses.iter().map(|(id, words)| (id.clone(), state(words).to_owned())).collect()
    }

    /// What the campaign's sums come to.
    pub(crate) fn sums(&self) -> Value {
        expected(&self.statuses)
    }

    /// The contacts that there are to be, as each is called, and the conversations with them.
    pub(crate) fn people(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.people.clone(), self.people.iter().map(|it| format!("{it}@c.us")).collect())
    }
}

/// Text and status of each row of a list of messages, by its id.
pub(crate) fn rows(listed: &[Value]) -> BTreeMap<String, (String, &str)> {
    let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    let rows: BTreeMap<_, _> = listed
        .iter()
        .map(|it| (text(it, "waId"), (text(it, "body"), it["status"].as_str().unwrap())))
        .collect();
    assert_eq!(rows.len(), listed.len(), "something is there twice");
    rows
}

/// What lists of contacts and of conversations call them.
pub(crate) fn called(contacts: &[Value], talks: &[Value]) -> (BTreeSet<String>, BTreeSet<String>) {
    let word = |it: &Value| it.as_str().unwrap().to_owned();
    let names = contacts.iter().flat_map(|it| it["identities"].as_array().unwrap());
    let names: BTreeSet<_> = names.map(|it| word(&it["value"])).collect();
    let chats: BTreeSet<_> = talks.iter().map(|it| word(&it["chat"])).collect();
    assert_eq!(
        (contacts.len(), talks.len()),
        (names.len(), chats.len()),
        "somebody is there twice"
    );
    (names, chats)
}

/// Meta: what it will post, and what is to come of it.
pub(crate) struct Simulated {
    pub(crate) rng: StdRng,
    pub(crate) bodies: Vec<String>,
    pub(crate) owed: [Owed; 2],
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let mut meta = Self { rng, bodies: Vec::new(), owed: Default::default() };
        let mut changes: Vec<Value> = (0..1400).map(|n| meta.change(n)).collect();
        changes.shuffle(&mut meta.rng);
        let mut left = &changes[..];
        // As many as Meta puts into one body; then fewer.
        let mut sizes = [1000, 200].into_iter();
        while !left.is_empty() {
            let size = sizes.next().unwrap_or_else(|| meta.rng.random_range(1..60));
            let (batch, rest) = left.split_at(size.min(left.len()));
            meta.bodies.push(Self::body(batch));
            left = rest;
        }
        meta
    }

    /// One message, one that was written on the phone or one status, of one organization, which is remembered.
    fn change(&mut self, n: usize) -> Value {
        let whose = self.rng.random_range(0..2);
        let owed = &mut self.owed[whose];
        let own = format!("1555000000{whose}");
        let mut value = json!({ "metadata": {
            "phone_number_id": (whose + 1).to_string(), "display_phone_number": own,
        } });
        let (to, out) = {
            let out = self.rng.random_range(0..90);
            (format!("165055500{:02}", out % 17), format!("wamid.out.{out}"))
        };
        let mut field = "messages";
        if self.rng.random_bool(0.5) {
            let id = format!("wamid.in.{n}");
            let text = format!("ä {n} of {whose}");
            let from = format!("165055500{:02}", n % 17);
            value["messages"] = json!([{
                "from": from, "id": id, "timestamp": "1799999000",
                "type": "text", "text": { "body": text },
            }]);
            owed.messages.insert(id, text);
            owed.people.insert(from);
        } else if self.rng.random_bool(0.15) {
            field = "smb_message_echoes";
            let text = format!("ä {out} of {whose}");
            value["message_echoes"] = json!([{
                "from": own, "to": to, "id": out, "timestamp": "1799999000",
                "type": "text", "text": { "body": text },
            }]);
            owed.echoes.insert(out, text);
            owed.people.insert(to);
        } else {
            let word = WORDS[self.rng.random_range(0..WORDS.len())];
            value["statuses"] = json!([{
                "id": out, "status": word, "timestamp": "1799999001", "recipient_id": to,
            }]);
            owed.statuses.entry(out).or_default().insert(word);
        }
        json!({ "field": field, "value": value })
    }

    fn body(changes: &[Value]) -> String {
        let entries: Vec<Value> =
            changes.chunks(9).map(|it| json!({ "id": "77", "changes": it })).collect();
        let body = json!({ "object": "whatsapp_business_account", "entry": entries }).to_string();
        // As Meta escapes it.
        body.replace('ä', "\\u00e4")
    }
}

/// Begins to carry out what there is, and dies somewhere.
async fn die(app: &App, rng: &mut StdRng) {
    let round = app.meta.round();
    tokio::pin!(round);
    for _ in 0..rng.random_range(1..60) {
        if futures_util::poll!(&mut round).is_ready() {
            break;
        }
        // What was handed over goes on without whoever handed it over.
        for _ in 0..rng.random_range(0..20) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn whatever_order_meta_tells_it_in_and_whenever_we_die_the_end_is_the_same() {
    on_each(async |database| {
        for seed in [1, 2] {
            Box::pin(storm(database, seed)).await;
            for table in
                ["meta_account", "meta_event", "meta_body", "campaign", "session", "contact"]
            {
                database.execute(&format!("DELETE FROM {table}")).await;
            }
        }
    })
    .await;
}

async fn storm(database: &Database, seed: u64) {
    let mut meta = Simulated::new(seed);
    let mut app = App::start(database).await;
    let (id, other) = tenant(&app, &format!("other {seed}")).await;
    set_up(&app, &app.token, complete("1", "77", SECRET)).await;
    set_up(&app, &other, complete("2", "77", SECRET)).await;
    // The audience is there before anything is told, and is changed by each status that comes.
    let campaigns = [
        begin(&app, "1", &app.token, &meta.owed[0]).await,
        begin(&app, "2", &other, &meta.owed[1]).await,
    ];
    let mut posts: Vec<usize> = (0..meta.bodies.len()).collect();
    for n in 0..meta.bodies.len() {
        posts.extend(vec![n; meta.rng.random_range(0..3)]);
    }
    posts.shuffle(&mut meta.rng);
    for n in posts {
        let body = meta.bodies[n].clone();
        assert_eq!(deliver(&app, SHARED, SECRET, body.as_bytes()).await.status, 200);
        if meta.rng.random_bool(0.5) {
            die(&app, &mut meta.rng).await;
            if meta.rng.random_bool(0.3) {
                // The whole daemon, with its store.
                app.close().await;
                app = App::start(database).await;
            }
            app.meta.recover().await.unwrap();
        }
    }
    app.clock.advance(Duration::from_mins(2));
    app.meta.drive().await.unwrap();
    let other = app.token_of(&id.parse().unwrap(), entity::state::Role::Admin).await;
    let tokens = [app.token.clone(), other];
    for (n, (token, owed)) in tokens.iter().zip(&meta.owed).enumerate() {
        check(&app, &(n + 1).to_string(), token, (owed, campaigns[n].as_str())).await;
    }
    let left = database.count("SELECT count(*) FROM meta_event WHERE state <> 'processed'").await;
    assert_eq!(left, 0, "seed {seed}");
    app.close().await;
}

/// What these words come to.
pub(crate) fn state(words: &BTreeSet<&'static str>) -> &'static str {
    let best = WORDS[..4].iter().rev().find(|it| words.contains(*it)).copied();
    match best {
        None | Some("sent") if words.contains("failed") => "failed",
        best => best.unwrap_or("attached"),
    }
}

/// A campaign that is sent from a number, with its audience. Its path.
async fn begin(app: &App, number: &str, token: &str, owed: &Owed) -> String {
    let body = json!({ "name": "All", "sessionId": format!("meta_{number}") });
    let campaign = ask(app, token, Method::POST, "/api/campaigns", &body).await;
    let path = format!("/api/campaigns/{}", campaign.json()["data"]["id"].as_str().unwrap());
    let members = json!({ "members": owed.audience() });
    let added = ask(app, token, Method::POST, &format!("{path}/audience"), &members).await;
    assert_eq!(added.status, 200, "{}", added.text());
    path
}

/// Everything that was told is there, once, and nothing else.
async fn check(app: &App, number: &str, token: &str, (owed, campaign): (&Owed, &str)) {
    let session = format!("meta_{number}");
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/whatsapp/session/{session}/messages?limit=500{cursor}");
        let page = get(app, token, &path).await.json();
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(rows(&found), owed.rows());
    // Each was told of once.
    let (mut told, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/api/whatsapp/session/{session}/events/page?limit=500&after={after}");
        let page = get(app, token, &path).await.json();
        let data = page["data"].as_array().unwrap_or_else(|| panic!("{page:#}")).clone();
        let Some(last) = data.last() else { break };
        after = last["seq"].as_i64().unwrap_or_else(|| panic!("{last:#}"));
        told.extend(data);
    }
    let ids: Vec<_> = told
        .iter()
        .filter(|it| it["event"] == "message")
        .map(|it| it["data"]["message"]["id"].as_str().unwrap().to_owned())
        .collect();
    let once: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!((ids.len(), once), (owed.messages.len(), owed.messages.keys().cloned().collect()));
    // The levels never go down, and end where all that was told ends.
    let page = get(app, token, &format!("{campaign}/audience?limit=500")).await.json();
    let page = page["data"].as_array().unwrap();
    assert_eq!(page.len(), owed.statuses.len());
    for member in page {
        let words = &owed.statuses[member["messageId"].as_str().unwrap()];
        let state = state(words);
        assert_eq!(member["state"], state, "{words:?}");
        let acks: Vec<_> = told
            .iter()
            .filter(|it| {
                it["event"] == "message_ack" && it["data"]["message"]["id"] == member["messageId"]
            })
            .map(|it| it["data"]["ack"].as_i64().unwrap())
            .collect();
        let rank = |level: &i64| if *level < 0 { 15 } else { level * 10 };
        assert!(acks.is_sorted_by_key(rank), "{acks:?} of {words:?}");
        let last = acks.last().copied();
        let of = |state| {
            WORDS[..4]
                .iter()
                .position(|it| *it == state)
                .map_or(-1, |it| i64::try_from(it).unwrap() + 1)
        };
        assert_eq!(last, (state != "attached").then(|| of(state)), "{words:?}");
    }
    // The sums were written with each status, and counting anew finds the same.
    let sums = get(app, token, &format!("{campaign}/statistics")).await.json();
    assert_eq!(sums["data"], owed.sums());
    let recount = format!("{campaign}/recount");
    let count = ask(app, token, Method::POST, &recount, &json!({})).await.json()["data"].clone();
    assert_eq!((&count["drift"], &count["statistics"]), (&json!(false), &owed.sums()));
    let list = async |path: &str| {
        let page = get(app, token, path).await.json();
        page["data"].as_array().unwrap().clone()
    };
    let (people, talks) =
        (list("/api/contacts?limit=500").await, list("/api/conversations?limit=500").await);
    assert_eq!(called(&people, &talks), owed.people());
}
