//! Posts of Meta's: how many are acknowledged a second, and after how long; and how many are carried out.
//!
//! Each body is one text, signed, and different from all others, from one of a thousand people. So many connections post at
//! once, each its next one when the last is answered; 200 means on disk, with `synchronous=FULL`. What was told is carried out
//! meanwhile, and it is waited for until all of it is.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use wagate::meta::Signature;

use crate::{
    Size,
    child::Child,
    databases,
    failure::Failure,
    gateway_role::{Arguments, Ask, Door, Stats},
    http::{Http, accepted},
    machine,
    report::{Aim, Report, count},
};

/// Connections that post at a time: as many bodies as an address that has signed well may have under way, by default.
const CONNECTIONS: usize = 32;

/// Whom the texts are from: each one's are carried out one after another.
const PEOPLE: usize = 1000;

/// How long it may take until all of it is carried out.
const DRAINED: Duration = Duration::from_mins(10);

const SECRET: &str = "test_app_secret";
const NUMBER: &str = "106540352242922";
const WABA: &str = "102290129340398";
const PATH: &str = "/api/webhooks/whatsapp";

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let posts = size.messages_or(30_000);
    let directory = size.directory()?;
    let mut report = Report::new(
        "meta",
        format!(
            "{posts} posts of one text each over {CONNECTIONS} connections, each on disk before its answer"
        ),
        "none",
    );
    let syncs = machine::syncs_per_second(directory.path())?;
    report.figure("syncs per second of this disk", "", syncs, None, None);
    let state = directory.path().join("sqlite");
    measure(&mut report, &SQLITE, state, None, posts).await?;
    match databases::cluster(size).await {
        Ok(cluster) => {
            databases::create(&cluster, &["meta"]).await?;
            let state = directory.path().join("postgres");
            measure(&mut report, &POSTGRES, state, Some(cluster.url("meta")), posts).await?;
        }
        Err(missing) => report.note(missing.to_string()),
    }
    report.note("Whoever posts does so on the same cores, and so does the database.");
    Ok(report)
}

/// What the figures of a database are called.
struct Names {
    rate: &'static str,
    median: &'static str,
    p99: &'static str,
    items: &'static str,
    cpu: &'static str,
    grouped: &'static str,
}

const SQLITE: Names = Names {
    rate: "SQLite: acknowledged posts per second",
    median: "SQLite: post to 200, median",
    p99: "SQLite: post to 200, p99",
    items: "SQLite: items carried out per second",
    cpu: "SQLite: CPU time per post, carried out",
    grouped: "SQLite: posts per commit while they came",
};

const POSTGRES: Names = Names {
    rate: "PostgreSQL: acknowledged posts per second",
    median: "PostgreSQL: post to 200, median",
    p99: "PostgreSQL: post to 200, p99",
    items: "PostgreSQL: items carried out per second",
    cpu: "PostgreSQL: CPU time per post, carried out, without the database's",
    grouped: "PostgreSQL: posts per commit while they came",
};

async fn measure(
    report: &mut Report,
    names: &Names,
    state_dir: PathBuf,
    database: Option<String>,
    posts: usize,
) -> Result<(), Failure> {
    let arguments = Arguments {
        state_dir,
        // Nobody dials.
        whatsapp: "ws://127.0.0.1:9/".to_owned(),
        dial_rate: 1,
        database,
    };
    let gateway = Child::spawn("role-gateway", arguments.to_line())?;
    let door: Door = gateway.ask(&Ask::Door).await?;
    let http = Http::new(door.address, &door.token)?;
    let account = json!({
        "phoneNumberId": NUMBER, "wabaId": WABA, "appId": "1", "appSecret": SECRET, "accessToken": "x",
    });
    let _made: Value = http.post("/api/meta/accounts", &account).await?;

    let before: Stats = gateway.ask(&Ask::Stats).await?;
    let cpu_before = gateway.usage()?.cpu;
    let begun = Instant::now();
    let mut waits = post_all(&format!("http://{}{PATH}", door.address), posts).await?;
    let took = begun.elapsed();
    let after: Stats = gateway.ask(&Ask::Stats).await?;
    // What was answered is there, and all of it is carried out in the end.
    drained(&http).await?;
    let carried_out = begun.elapsed();
    let cpu = gateway.usage()?.cpu.saturating_sub(cpu_before);
    let failed = http.get("/api/meta/events?limit=1&state=failed").await?;
    let done = http.get("/api/meta/events?limit=1&state=processed").await?;
    if !is_empty(&failed) || is_empty(&done) {
        return Err(Failure::wrong("not all of what was acknowledged was carried out"));
    }
    let () = gateway.ask(&Ask::Stop).await?;

    waits.sort_unstable();
    let at =
        |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)].as_secs_f64() * 1e3;
    let total = count(u64::try_from(posts).unwrap_or(u64::MAX));
    let commits = count((after.commits - before.commits).max(1));
    report.figure(names.rate, "", total / took.as_secs_f64(), None, Aim::AtLeast(2000.0));
    report.figure(names.median, "ms", at(50), None, None);
    report.figure(names.p99, "ms", at(99), None, Aim::AtMost(250.0));
    report.figure(names.items, "", total / carried_out.as_secs_f64(), None, None);
    report.figure(names.cpu, "us", cpu.as_secs_f64() * 1e6 / total, None, None);
    report.figure(names.grouped, "", total / commits, None, None);
    Ok(())
}

fn is_empty(page: &Value) -> bool {
    page["data"].as_array().is_none_or(Vec::is_empty)
}

/// Waits until nothing is left to be carried out.
async fn drained(http: &Http) -> Result<(), Failure> {
    let deadline = Instant::now() + DRAINED;
    while Instant::now() < deadline {
        if is_empty(&http.get("/api/meta/events?limit=1&state=waiting").await?) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(Failure::wrong("what was acknowledged is not carried out"))
}

/// Posts so many bodies, and answers how long each took.
async fn post_all(url: &str, posts: usize) -> Result<Vec<Duration>, Failure> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, url, next) = (client.clone(), url.to_owned(), next.clone());
        connections.spawn(async move {
            let mut waits = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= posts {
                    return Ok::<_, Failure>(waits);
                }
                let body = body(number);
                let signature = Signature::of(SECRET.as_bytes(), body.as_bytes()).to_string();
                let request = client.post(&url).header("x-hub-signature-256", signature).body(body);
                let begun = Instant::now();
                accepted(request).await?.bytes().await?;
                waits.push(begun.elapsed());
            }
        });
    }
    let mut waits = Vec::with_capacity(posts);
    while let Some(connection) = connections.join_next().await {
        waits.extend(connection.map_err(|error| Failure::wrong(error.to_string()))??);
    }
    Ok(waits)
}

fn body(number: usize) -> String {
    let from = format!("1650555{:04}", number % PEOPLE);
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": WABA, "changes": [{
        "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": NUMBER },
            "contacts": [{ "profile": { "name": "Sheena Nelson" }, "wa_id": from }],
            "messages": [{
                "from": from, "id": format!("wamid.{number}"), "timestamp": "1749416383", "type": "text",
                "text": { "body": "Does it come in another color?" },
            }],
        },
    }] }] })
    .to_string()
}
