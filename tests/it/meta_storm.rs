//! A simulated Meta that batches, reorders, repeats and retries, while whoever carries it out dies between any two steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};

use crate::{
    database::{Database, on_each},
    http_app::App,
    meta::{SECRET, SHARED, ask, complete, deliver, get, set_up, tenant},
};

const WORDS: [&str; 5] = ["sent", "delivered", "read", "played", "failed"];

/// What one organization was told, as it should be found.
#[derive(Default)]
pub(crate) struct Owed {
    /// Text by id of the message.
    pub(crate) messages: BTreeMap<String, String>,
    pub(crate) statuses: BTreeMap<String, BTreeSet<&'static str>>,
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
        let mut size = 1000;
        while !left.is_empty() {
            let (batch, rest) = left.split_at(size.min(left.len()));
            meta.bodies.push(Self::body(batch));
            (left, size) = (rest, meta.rng.random_range(1..120));
        }
        meta
    }

    /// One message or one status, of one organization, which is remembered.
    fn change(&mut self, n: usize) -> Value {
        let whose = self.rng.random_range(0..2);
        let owed = &mut self.owed[whose];
        let mut value = json!({ "metadata": { "phone_number_id": (whose + 1).to_string() } });
        if self.rng.random_bool(0.5) {
            let id = format!("wamid.in.{n}");
            let text = format!("ä {n} of {whose}");
            value["messages"] = json!([{
                "from": format!("165055500{:02}", n % 17), "id": id, "timestamp": "1799999000",
                "type": "text", "text": { "body": text },
            }]);
            owed.messages.insert(id, text);
        } else {
            let id = format!("wamid.out.{}", self.rng.random_range(0..90));
            let word = WORDS[self.rng.random_range(0..WORDS.len())];
            value["statuses"] = json!([{
                "id": id, "status": word, "timestamp": "1799999001",
                "recipient_id": format!("165055500{:02}", n % 17),
            }]);
            owed.statuses.entry(id).or_default().insert(word);
        }
        json!({ "field": "messages", "value": value })
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
    for (number, token, owed) in
        [("1", app.token.clone(), &meta.owed[0]), ("2", other, &meta.owed[1])]
    {
        check(&app, number, &token, owed).await;
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

/// Everything that was told is there, once, and nothing else.
async fn check(app: &App, number: &str, token: &str, owed: &Owed) {
    let session = format!("meta_{number}");
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/api/whatsapp/session/{session}/messages?limit=500{cursor}");
        let page = get(app, token, &path).await.json();
        for row in page["data"].as_array().unwrap() {
            let (id, body) = (row["waId"].as_str().unwrap(), row["body"].as_str().unwrap());
            assert!(found.insert(id.to_owned(), body.to_owned()).is_none(), "{id} is there twice");
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, owed.messages);
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
    let campaign = ask(
        app,
        token,
        reqwest::Method::POST,
        "/api/campaigns",
        &json!({ "name": "All", "sessionId": session }),
    )
    .await;
    let campaign = format!("/api/campaigns/{}", campaign.json()["data"]["id"].as_str().unwrap());
    let members: Vec<_> = owed
        .statuses
        .keys()
        .enumerate()
        .map(|(n, id)| json!({ "phoneNumber": format!("1650555{n:04}"), "messageId": id }))
        .collect();
    let added = ask(
        app,
        token,
        reqwest::Method::POST,
        &format!("{campaign}/audience"),
        &json!({ "members": members }),
    )
    .await;
    assert_eq!(added.status, 200, "{}", added.text());
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
}
