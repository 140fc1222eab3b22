//! The gateway, as a process that takes orders. Sessions are its HTTP API's affair.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use wagate::{clock::Clock, config::WhatsApp, daemon::Daemon};

use crate::{failure::Failure, gateway, role};

/// How the gateway is started.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where its state is
    pub(crate) state_dir: PathBuf,
    /// The server to dial
    pub(crate) whatsapp: String,
    /// Dials per second
    pub(crate) dial_rate: u32,
    /// Its database; without one, SQLite in its state
    pub(crate) database: Option<String>,
}

impl Arguments {
    /// The same, for the command line.
    pub(crate) fn to_line(&self) -> Vec<OsString> {
        let needed = [
            self.state_dir.clone().into(),
            self.whatsapp.clone().into(),
            self.dial_rate.to_string().into(),
        ];
        needed.into_iter().chain(self.database.clone().map(OsString::from)).collect()
    }
}

/// What it can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Where it listens, and the token.
    Door,
    /// What its writer has done.
    Stats,
    /// Stop in good order.
    Stop,
}

/// How to reach the gateway.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Door {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) token: String,
}

/// What the writer has done since the gateway was started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) commits: u64,
    pub(crate) units: u64,
    pub(crate) events: u64,
    pub(crate) retries: u64,
}

/// Is the gateway until there are no more orders.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut config = gateway::config(&arguments.state_dir, &arguments.whatsapp);
    if let Some(url) = &arguments.database {
        config.database.url =
            Some(url.parse().map_err(|_| Failure::wrong("no URL of a database"))?);
    }
    let usual = WhatsApp::default();
    // Who lifts the limit may dial as many at once as he likes: a simulator takes offence at nothing.
    let lifted = arguments.dial_rate > usual.dial_rate_per_second;
    config.whatsapp = WhatsApp {
        dial_rate_per_second: arguments.dial_rate,
        dial_concurrency: if lifted { 64 } else { usual.dial_concurrency },
        ..config.whatsapp
    };
    let daemon = Daemon::start(config, Clock::system()).await?;
    role::serve(Arc::new(Mutex::new(Some(daemon))), carry_out).await;
    Ok(())
}

async fn carry_out(running: Arc<Mutex<Option<Daemon>>>, ask: Ask) -> Result<Value, Failure> {
    let mut running = running.lock().await;
    let daemon = running.as_ref().ok_or_else(|| Failure::wrong("it was stopped"))?;
    match ask {
        Ask::Door => {
            let token = std::fs::read_to_string(daemon.operator_token_path())?;
            Ok(json!(Door { address: daemon.address(), token }))
        }
        Ask::Stats => {
            let stats = daemon.store().writer().stats();
            Ok(json!(Stats {
                commits: stats.groups,
                units: stats.units,
                events: stats.events,
                retries: stats.retries,
            }))
        }
        Ask::Stop => {
            let clean = match running.take() {
                Some(daemon) => daemon.shutdown().await.is_clean(),
                None => true,
            };
            if clean {
                Ok(Value::Null)
            } else {
                Err(Failure::wrong("it did not stop in good order"))
            }
        }
    }
}
