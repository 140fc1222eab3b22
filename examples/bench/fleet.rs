//! Many sessions: a gateway that runs them all, or as many bare clients; each paired with a phone of
//! its own, and each with a contact of its own.

use std::{ops::Range, path::Path};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    bare,
    child::Child,
    failure::Failure,
    gateway_role::{self, Door, Stats},
    http::Http,
    simulator::Ask,
};

/// Pairings at the same time.
const SIDE_BY_SIDE: usize = 8;

/// The number of a session's phone.
pub(crate) fn account(session: usize) -> String {
    format!("1555{session:07}")
}

/// The number of the one contact that a session talks to.
pub(crate) fn contact(session: usize) -> String {
    format!("1556{session:07}")
}

/// What the gateway calls a session.
fn name(session: usize) -> String {
    format!("bench-{session}")
}

/// Starts a simulated WhatsApp; returns it, and where it is.
pub(crate) async fn simulator() -> Result<(Child, String), Failure> {
    let simulator = Child::spawn("role-simulator", [])?;
    let url = simulator.ask(&Ask::Url).await?;
    Ok((simulator, url))
}

/// Insists that nobody broke the protocol.
pub(crate) async fn no_violations(simulator: &Child) -> Result<(), Failure> {
    let violations: Vec<String> = simulator.ask(&Ask::Violations).await?;
    match violations.first() {
        None => Ok(()),
        Some(first) => {
            let count = violations.len();
            Err(Failure::wrong(format!("{count} protocol errors, the first: {first}")))
        }
    }
}

/// One of the two that are compared.
#[derive(Debug)]
pub(crate) enum Party {
    Gateway { child: Child, http: Http },
    Bare(Child),
}

impl Party {
    /// Starts the gateway on the state in a directory.
    pub(crate) async fn gateway(
        directory: &Path,
        whatsapp: &str,
        dial_rate: u32,
    ) -> Result<Self, Failure> {
        let arguments = gateway_role::Arguments {
            database: None,
            state_dir: directory.join("state"),
            whatsapp: whatsapp.to_owned(),
            dial_rate,
        };
        let child = Child::spawn("role-gateway", arguments.to_line())?;
        let door: Door = child.ask(&gateway_role::Ask::Door).await?;
        let http = Http::new(door.address, &door.token)?;
        Ok(Self::Gateway { child, http })
    }

    /// Starts the bare clients' process; there are none in it yet.
    pub(crate) async fn bare(whatsapp: &str) -> Result<Self, Failure> {
        let arguments = bare::Arguments { whatsapp: whatsapp.to_owned() };
        let child = Child::spawn("role-bare", arguments.to_line())?;
        // It answers: it is up, and can be measured.
        let _none: u64 = child.ask(&bare::Ask::Received).await?;
        Ok(Self::Bare(child))
    }

    pub(crate) fn child(&self) -> &Child {
        match self {
            Self::Gateway { child, .. } | Self::Bare(child) => child,
        }
    }

    /// Makes the sessions and pairs each by its QR code.
    pub(crate) async fn pair(
        &self,
        simulator: &Child,
        sessions: Range<usize>,
    ) -> Result<(), Failure> {
        stream::iter(sessions.map(Ok::<_, Failure>))
            .try_for_each_concurrent(SIDE_BY_SIDE, |session| self.pair_one(simulator, session))
            .await
    }

    async fn pair_one(&self, simulator: &Child, session: usize) -> Result<(), Failure> {
        match self {
            Self::Gateway { http, .. } => {
                let name = name(session);
                http.post("/api/whatsapp/session", &json!({ "sessionId": name })).await?;
                let path = format!("/api/whatsapp/session/{name}/qr.json?wait=60");
                let answer = http.get(&path).await?;
                let qr = answer.pointer("/data/qr").and_then(Value::as_str).map(ToOwned::to_owned);
                let qr = qr.ok_or_else(|| Failure::wrong("there is no QR code"))?;
                let _device: u16 = simulator.ask(&Ask::Scan { session, qr }).await?;
                wait_ready(http, &name).await
            }
            Self::Bare(child) => {
                let qr: Option<String> = child.ask(&bare::Ask::Pair { session }).await?;
                let qr = qr.ok_or_else(|| Failure::wrong("there is no QR code"))?;
                let _device: u16 = simulator.ask(&Ask::Scan { session, qr }).await?;
                child.ask(&bare::Ask::Connected { session }).await
            }
        }
    }

    /// Has each session and its contact exchange a message, so that what follows is a conversation
    /// and not a series of first messages.
    pub(crate) async fn greet(&self, simulator: &Child, sessions: usize) -> Result<(), Failure> {
        stream::iter((0..sessions).map(Ok::<_, Failure>))
            .try_for_each_concurrent(SIDE_BY_SIDE, async |session| {
                let greeting = Ask::Write { session, text: "good morning".to_owned() };
                let () = simulator.ask(&greeting).await?;
                let text = "good morning to you".to_owned();
                self.send(session, &text).await?;
                simulator.ask(&Ask::Read { session, text }).await
            })
            .await
    }

    async fn send(&self, session: usize, text: &str) -> Result<(), Failure> {
        let to = contact(session);
        match self {
            Self::Gateway { http, .. } => {
                let path = format!("/api/whatsapp/session/{}/messages", name(session));
                http.post(&path, &json!({ "to": to, "text": text })).await.map(drop)
            }
            Self::Bare(child) => {
                let (to, text) = (format!("{to}@s.whatsapp.net"), text.to_owned());
                child.ask(&bare::Ask::Send { session, to, text }).await
            }
        }
    }

    /// Waits until every session of the gateway is connected, by what the API says.
    pub(crate) async fn connected(&self, sessions: usize) -> Result<(), Failure> {
        let Self::Gateway { http, .. } = self else { return Ok(()) };
        stream::iter((0..sessions).map(name))
            .map(Ok::<_, Failure>)
            .try_for_each_concurrent(SIDE_BY_SIDE, async |name| {
                let path = format!("/api/whatsapp/session/status/{name}");
                let status = http.get(&path).await?;
                if status.pointer("/data/isConnected") == Some(&json!(true)) {
                    return Ok(());
                }
                wait_ready(http, &name).await
            })
            .await
    }

    /// What the gateway's writer has done.
    pub(crate) async fn stats(&self) -> Result<Option<Stats>, Failure> {
        match self {
            Self::Gateway { child, .. } => child.ask(&gateway_role::Ask::Stats).await.map(Some),
            Self::Bare(_) => Ok(None),
        }
    }

    /// Stops what runs in the process, in good order; the process stays.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        match self {
            Self::Gateway { child, .. } => child.ask(&gateway_role::Ask::Stop).await,
            Self::Bare(child) => child.ask(&bare::Ask::Stop).await,
        }
    }
}

/// Waits until a session's feed ends with it being connected.
async fn wait_ready(http: &Http, name: &str) -> Result<(), Failure> {
    let (mut after, mut quiet) = (0, 0);
    loop {
        let path =
            format!("/api/whatsapp/session/{name}/events/page?after={after}&limit=1000&wait=60");
        let page = http.get(&path).await?;
        let events = page["data"].as_array().map_or(&[][..], Vec::as_slice);
        let state = events.iter().rev().find(|event| {
            matches!(event["event"].as_str(), Some("ready" | "change_state" | "disconnected"))
        });
        if state.is_some_and(|state| state["event"] == "ready") {
            return Ok(());
        }
        after = page["cursor"].as_i64().unwrap_or(after);
        if !events.is_empty() {
            quiet = 0;
            continue;
        }
        // Its turn may come late.
        quiet += 1;
        if quiet > 10 {
            return Err(Failure::wrong(format!("{name} is not connected after ten minutes")));
        }
    }
}
