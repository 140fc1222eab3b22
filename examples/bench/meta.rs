//! Posts of Meta's: how many are acknowledged a second, and after how long.
//!
//! Each body is one text, signed, and different from all others. So many connections post at once, each its
//! next one when the last is answered; 200 means on disk, with `synchronous=FULL`.

use std::{
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
    failure::Failure,
    gateway_role::{Arguments, Ask, Door, Stats},
    http::{Http, accepted},
    machine,
    report::{Aim, Report, count},
};

/// Connections that post at a time.
const CONNECTIONS: usize = 128;

const SECRET: &str = "test_app_secret";
const NUMBER: &str = "106540352242922";
const WABA: &str = "102290129340398";
const PATH: &str = "/api/webhooks/whatsapp";

pub(crate) async fn run(size: &Size) -> Result<Report, Failure> {
    let posts = size.messages_or(30_000);
    let directory = size.directory()?;
    let syncs = machine::syncs_per_second(directory.path())?;
    let arguments = Arguments {
        state_dir: directory.path().join("state"),
        // Nobody dials.
        whatsapp: "ws://127.0.0.1:9/".to_owned(),
        dial_rate: 1,
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
    let cpu = gateway.usage()?.cpu.saturating_sub(cpu_before);
    let after: Stats = gateway.ask(&Ask::Stats).await?;
    // What was answered is there: the newest is.
    let log = http.get("/api/meta/events?limit=1").await?;
    if log["data"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::wrong("nothing of what was acknowledged is there"));
    }
    let () = gateway.ask(&Ask::Stop).await?;

    waits.sort_unstable();
    let at =
        |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)].as_secs_f64() * 1e3;
    let total = count(u64::try_from(posts).unwrap_or(u64::MAX));
    let commits = count((after.commits - before.commits).max(1));
    let mut report = Report::new(
        "meta",
        format!(
            "{posts} posts of one text each over {CONNECTIONS} connections, on SQLite with synchronous=FULL"
        ),
        "none",
    );
    let rate = total / took.as_secs_f64();
    report.figure("acknowledged posts per second", "", rate, None, Aim::AtLeast(2000.0));
    report.figure("post to 200, median", "ms", at(50), None, None);
    report.figure("post to 200, p99", "ms", at(99), None, Aim::AtMost(250.0));
    report.figure("CPU time per post", "us", cpu.as_secs_f64() * 1e6 / total, None, None);
    report.figure("posts per commit", "", total / commits, None, None);
    report.figure("syncs per second of this disk", "", syncs, None, None);
    report.note("Whoever posts does so on the same cores.");
    Ok(report)
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
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": WABA, "changes": [{
        "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": NUMBER },
            "contacts": [{ "profile": { "name": "Sheena Nelson" }, "wa_id": "16505551234" }],
            "messages": [{
                "from": "16505551234", "id": format!("wamid.{number}"), "timestamp": "1749416383", "type": "text",
                "text": { "body": "Does it come in another color?" },
            }],
        },
    }] }] })
    .to_string()
}
