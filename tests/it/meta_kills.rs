//! Meta posts to a daemon that is killed, by `kill -9`: under its posts, and while it carries out what they told. What it has
//! answered with 200 is never told again; what it has not, or what was lost of its answers, is.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, seq::SliceRandom as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wagate::meta::Signature;
use wagate_simulator::{Options, Simulator};

use crate::{
    database::on_each,
    meta::{SECRET, SHARED, complete},
    meta_storm::{Owed, Simulated, called, rows},
    process::{Installation, Process},
};

/// How often it is killed, and how many of its answers are lost.
const KILLS: usize = 6;
const LOST: usize = 12;

/// Asks as an operator, for an organization if it is not his own.
async fn ask(
    daemon: &Process,
    organization: Option<&str>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Value {
    let mut request = daemon.request(method, path);
    if let Some(id) = organization {
        request = request.header("x-organization", id);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.unwrap()
}

/// Posts a body as Meta does. Whether it was answered with 200.
async fn post(daemon: &Process, body: &str) -> bool {
    let signature = Signature::of(SECRET.as_bytes(), body.as_bytes()).to_string();
    let request = daemon
        .request(Method::POST, SHARED)
        .header("content-type", "application/json")
        .header("x-hub-signature-256", signature)
        .body(body.to_owned());
    request.send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

/// Posts a body, and kills the daemon before it has answered so many other requests: under the post, or after it.
async fn post_and_kill(daemon: &Process, body: &str, requests: usize) -> bool {
    let posted = post(daemon, body);
    tokio::pin!(posted);
    let others = async {
        for _ in 0..requests {
            daemon.ask(Method::GET, "/livez", None).await;
        }
    };
    tokio::pin!(others);
    let (mut answered, mut is_time) = (None, false);
    while !is_time {
        tokio::select! {
            it = &mut posted, if answered.is_none() => answered = Some(it),
            () = &mut others => is_time = true,
        }
    }
    daemon.signal("-KILL");
    match answered {
        Some(answered) => answered,
        None => posted.await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_under_meta_s_posts_has_all_it_took_once() {
    on_each(async |database| {
        let whatsapp = Simulator::start(Options::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let installation = Installation::new(directory.path(), database.server_url(), &whatsapp);
        let mut daemon = installation.start();
        let made = ask(
            &daemon,
            None,
            Method::POST,
            "/api/organizations",
            Some(&json!({ "name": "other" })),
        )
        .await;
        let other = made["data"]["id"].as_str().unwrap().to_owned();
        let owners = [(None, "1"), (Some(other.as_str()), "2")];
        for (owner, number) in owners {
            let account = complete(number, "77", SECRET);
            ask(&daemon, owner, Method::POST, "/api/meta/accounts", Some(&account)).await;
        }
        let mut meta = Simulated::new(9);
        // The audience is there before anything is told, and is changed by each status that comes.
        let mut campaigns = Vec::new();
        for ((owner, number), owed) in owners.into_iter().zip(&meta.owed) {
            campaigns.push(begin(&daemon, owner, &format!("meta_{number}"), owed).await);
        }
        // One is told when all others are carried out.
        let last = meta.bodies[1].clone();
        let mut left: Vec<usize> = (0..meta.bodies.len()).filter(|n| *n != 1).collect();
        left.shuffle(&mut meta.rng);
        // The largest is under way when it is killed first.
        let largest = left.iter().position(|n| *n == 0).unwrap();
        let end = left.len() - 1;
        left.swap(largest, end);
        let (mut kills, mut unanswered) = (0, 0);
        while let Some(n) = left.pop() {
            let body = meta.bodies[n].clone();
            let mut is_told = if kills < KILLS {
                kills += 1;
                let requests = meta.rng.random_range(0..30);
                let is_told = post_and_kill(&daemon, &body, requests).await;
                daemon.kill();
                daemon = installation.start();
                is_told
            } else {
                post(&daemon, &body).await
            };
            if is_told && unanswered < LOST && meta.rng.random_bool(0.3) {
                (unanswered, is_told) = (unanswered + 1, false);
            }
            if !is_told {
                let place = meta.rng.random_range(0..=left.len());
                left.insert(place, n);
            }
        }
        assert_eq!(kills, KILLS);
        for (owner, _) in owners {
            carried_out(&daemon, owner).await;
        }
        // Killed while it carries out what it has taken, and nobody posts anything.
        assert!(post(&daemon, &last).await);
        let waiting = "/api/meta/events?state=waiting&limit=1";
        let waiting = ask(&daemon, None, Method::GET, waiting, None).await;
        assert_ne!(waiting["data"], json!([]), "all is carried out already");
        daemon.kill();
        daemon = installation.start();
        for (n, (owner, number)) in owners.into_iter().enumerate() {
            carried_out(&daemon, owner).await;
            let told = (&meta.owed[n], campaigns[n].as_str());
            check(&daemon, owner, &format!("meta_{number}"), told).await;
        }
        daemon.terminate().await;
    })
    .await;
}

/// Waits until nothing of an organization's waits to be carried out.
async fn carried_out(daemon: &Process, owner: Option<&str>) {
    loop {
        let waiting =
            ask(daemon, owner, Method::GET, "/api/meta/events?processed=false&limit=1", None).await;
        let Some(event) = waiting["data"].get(0) else { return };
        assert_eq!(event["state"], "waiting", "{event:#}");
        // Answered when something has happened, or in a second.
        ask(daemon, owner, Method::GET, "/api/whatsapp/events/page?after=1000000&wait=1", None)
            .await;
    }
}

/// All pages of a list.
async fn all(daemon: &Process, owner: Option<&str>, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            ask(daemon, owner, Method::GET, &format!("{path}?limit=500{cursor}"), None).await;
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// A campaign that is sent from a number, with its audience. Its path.
async fn begin(daemon: &Process, owner: Option<&str>, session: &str, owed: &Owed) -> String {
    let campaign = json!({ "name": "All", "sessionId": session });
    let campaign = ask(daemon, owner, Method::POST, "/api/campaigns", Some(&campaign)).await;
    let path = format!("/api/campaigns/{}", campaign["data"]["id"].as_str().unwrap());
    let members = json!({ "members": owed.audience() });
    ask(daemon, owner, Method::POST, &format!("{path}/audience"), Some(&members)).await;
    path
}

/// Everything that was told is there, once, and nothing else.
async fn check(
    daemon: &Process,
    owner: Option<&str>,
    session: &str,
    (owed, campaign): (&Owed, &str),
) {
    let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    let path = format!("/api/whatsapp/session/{session}");
    let kept = all(daemon, owner, &format!("{path}/messages")).await;
    assert_eq!(rows(&kept), owed.rows());
    // Each was told of once.
    let (mut told, mut after) = (Vec::new(), 0);
    loop {
        let page = format!("{path}/events/page?limit=500&after={after}");
        let page = ask(daemon, owner, Method::GET, &page, None).await["data"].clone();
        let Some(last) = page.as_array().unwrap().last() else { break };
        after = last["seq"].as_i64().unwrap();
        let messages = page.as_array().unwrap().iter().filter(|it| it["event"] == "message");
        told.extend(messages.map(|it| text(&it["data"]["message"], "id")));
    }
    let once: BTreeSet<_> = told.iter().collect();
    assert_eq!((told.len(), once), (owed.messages.len(), owed.messages.keys().collect()));
    // And every message that went out has come as far as it was told.
    let states = all(daemon, owner, &format!("{campaign}/audience")).await;
    let states = states.iter().map(|it| (text(it, "messageId"), text(it, "state")));
    assert_eq!(states.collect::<BTreeMap<_, _>>(), owed.states());
    // The sums were written with each status, and counting anew finds the same.
    let sums = ask(daemon, owner, Method::GET, &format!("{campaign}/statistics"), None).await;
    assert_eq!(sums["data"], owed.sums());
    let recount = format!("{campaign}/recount");
    let count = ask(daemon, owner, Method::POST, &recount, Some(&json!({}))).await["data"].clone();
    assert_eq!((&count["drift"], &count["statistics"]), (&json!(false), &owed.sums()));
    let people = all(daemon, owner, "/api/contacts").await;
    let talks = all(daemon, owner, "/api/conversations").await;
    assert_eq!(called(&people, &talks), owed.people());
}
