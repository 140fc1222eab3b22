//! The simulated WhatsApp, as a process that takes orders.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use wagate_simulator::{Options, ReceiptKind, SentMessage, Simulator};

use crate::{failure::Failure, fleet, role};

/// How long the other party may take for all that was sent to it.
const DEADLINE: Duration = Duration::from_mins(5);

/// What the simulator can be asked to do. Sessions go by number; see [`fleet::account`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Where it is.
    Url,
    /// Have a session's phone scan a code.
    Scan { session: usize, qr: String },
    /// Wait for the session's client to log in.
    LoggedIn { session: usize, times: usize },
    /// Have the session's contact write, and wait until the client has it.
    Write { session: usize, text: String },
    /// Wait until the contact has read a text.
    Read { session: usize, text: String },
    /// Have the contacts of so many sessions write so many texts each, and hold them back.
    Flood { sessions: usize, each: usize },
    /// Let go what was held back.
    Release,
    /// Wait until every client has confirmed everything.
    Drained,
    /// When the last logins were.
    Logins { last: usize },
    /// What it has to complain about.
    Violations,
}

/// First and last of some logins, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Logins {
    pub(crate) count: usize,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Is the simulator until there are no more orders.
pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options { deadline: Duration::from_mins(2), ..Options::default() };
    let simulator = Arc::new(Simulator::start(options).await?);
    role::serve(Arc::clone(&simulator), carry_out).await;
    simulator.stop().await;
    Ok(())
}

async fn carry_out(simulator: Arc<Simulator>, ask: Ask) -> Result<Value, Failure> {
    let account = |session: usize| simulator.phone(&fleet::account(session));
    let contact = |session: usize| simulator.contact(&fleet::contact(session));
    match ask {
        Ask::Url => Ok(json!(simulator.url())),
        Ask::Scan { session, qr } => {
            // The contact is there before the client can ask for it.
            contact(session)?;
            Ok(json!(account(session)?.scan(&qr).await?))
        }
        Ask::LoggedIn { session, times } => {
            account(session)?.wait_logged_in(times).await?;
            Ok(Value::Null)
        }
        Ask::Write { session, text } => {
            let contact = contact(session)?;
            let id = contact.send_text(&fleet::account(session), &text).await?;
            contact.wait_for_receipt(&id, ReceiptKind::Delivered).await?;
            Ok(Value::Null)
        }
        Ask::Read { session, text } => {
            let wanted = |read: &SentMessage| read.text.as_deref() == Some(text.as_str());
            contact(session)?.wait_for_received(wanted).await?;
            Ok(Value::Null)
        }
        Ask::Flood { sessions, each } => {
            let floods = (0..sessions).map(|session| {
                let simulator = Arc::clone(&simulator);
                async move {
                    let contact = simulator.contact(&fleet::contact(session))?;
                    contact.send_many(&fleet::account(session), "flood", each).await
                }
            });
            simulator.hold();
            try_join_all(floods).await?;
            Ok(Value::Null)
        }
        Ask::Release => {
            simulator.release();
            Ok(Value::Null)
        }
        Ask::Drained => drained(&simulator).await,
        Ask::Logins { last } => {
            let mut at: Vec<u64> = simulator.all_logins().iter().map(|login| login.at).collect();
            at.sort_unstable();
            let at = &at[at.len().saturating_sub(last)..];
            let (first, last) = (at.first().copied(), at.last().copied());
            let logins = Logins {
                count: at.len(),
                first: first.unwrap_or_default(),
                last: last.unwrap_or_default(),
            };
            Ok(json!(logins))
        }
        Ask::Violations => {
            let violations = simulator.violations();
            Ok(json!(violations.iter().map(ToString::to_string).collect::<Vec<_>>()))
        }
    }
}

/// Looks every few milliseconds: being told of each receipt would cost more than the receipts do.
async fn drained(simulator: &Simulator) -> Result<Value, Failure> {
    let end = Instant::now() + DEADLINE;
    loop {
        let left = simulator.info().unacknowledged;
        if left == 0 {
            return Ok(Value::Null);
        }
        if Instant::now() > end {
            return Err(Failure::wrong(format!("{left} stanzas are not confirmed")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
