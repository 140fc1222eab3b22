//! The simulated WhatsApp, and the daemons that are started beside it, one after another.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use wagate::{clock::Clock, config::Config, daemon::Daemon};
use wagate_simulator::{Options, ReceiptPolicy, Simulator, control};

use crate::{Arguments, failure::Failure, gateway, http::Http};

/// Whose phone scans, and who writes to it.
pub(crate) const OWNER: &str = "15550001111";
pub(crate) const FRIEND: &str = "15550002222";

/// Everything that outlives one run of the daemon.
pub(crate) struct World {
    simulator: Simulator,
    /// Where the simulator's control API answers.
    control: SocketAddr,
    config: Config,
    /// Removed when it is dropped, unless the directory was chosen by the caller.
    _temporary: Option<TempDir>,
}

impl World {
    pub(crate) async fn create(arguments: &Arguments) -> Result<Self, Failure> {
        let simulator = Simulator::start(Options::default()).await?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let control = control::serve(&simulator, arguments.control.unwrap_or(any)).await?;
        simulator.phone(OWNER)?.set_name("Olive Owner");
        let friend = simulator.contact(FRIEND)?;
        friend.set_name("Fred Friend");
        friend.set_receipts(ReceiptPolicy::Read);
        let (state_dir, temporary) = place(arguments.state_dir.as_deref())?;
        let mut config = gateway::config(&state_dir, &simulator.url());
        if let Some(listen) = arguments.listen {
            config.http.listen = listen;
        }
        Ok(Self { simulator, control, config, _temporary: temporary })
    }

    /// Starts the daemon on the state the last one left, and makes a client of its API.
    pub(crate) async fn start_daemon(&self) -> Result<(Daemon, Http), Failure> {
        let daemon = Daemon::start(self.config.clone(), Clock::system()).await?;
        let token = std::fs::read_to_string(daemon.operator_token_path())?;
        let http = Http::new(daemon.address(), &token)?;
        Ok((daemon, http))
    }

    pub(crate) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    pub(crate) fn control(&self) -> SocketAddr {
        self.control
    }

    pub(crate) async fn end(self) {
        self.simulator.stop().await;
    }
}

fn place(chosen: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Failure> {
    if let Some(chosen) = chosen {
        return Ok((chosen.to_owned(), None));
    }
    let temporary = tempfile::Builder::new().prefix("wagate-sandbox-").tempdir()?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}
