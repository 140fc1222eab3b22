//! SIGHUP: what a running daemon reads again.

use std::sync::Arc;

use super::output::Chain;
use crate::{
    config::{self, Changes, Config, Loaded, Sources},
    daemon::Daemon,
    telemetry::Telemetry,
};

/// What is read again, and from where.
#[derive(Debug)]
pub(super) struct Reload {
    sources: Sources,
    /// What the daemon goes by.
    config: Config,
    telemetry: Arc<Telemetry>,
}

impl Reload {
    /// Of a daemon that goes by `config`, which came from `sources`.
    pub(super) fn new(sources: Sources, config: Config, telemetry: Arc<Telemetry>) -> Self {
        Self { sources, config, telemetry }
    }

    /// Reads the configuration and the certificate again, and has what can be taken over taken over. A
    /// configuration that is of no use changes nothing.
    pub(super) async fn run(&mut self, daemon: &Daemon) {
        match config::load(&self.sources) {
            Ok(Loaded { config, .. }) => self.take_over(daemon, config).await,
            Err(error) => tracing::error!(
                "The configuration is of no use, and the one before holds: {}",
                Chain(&error)
            ),
        }
        daemon.reload().await;
    }

    async fn take_over(&mut self, daemon: &Daemon, config: Config) {
        let Changes { live, later } = Changes::between(&self.config, &config);
        if !live.is_empty() {
            // First, so that the lines that follow are told as it was asked for.
            if let Err(error) = self.telemetry.reload(&config.log) {
                tracing::error!("The log stays as it was: {}", Chain(&error));
            }
            daemon.set_limits(&config);
            tracing::info!("Taken over: {}", live.join(", "));
        }
        if !later.is_empty() {
            tracing::warn!("Taken over at the next start only: {}", later.join(", "));
        }
        if live.is_empty() && later.is_empty() {
            tracing::info!("The configuration is the same as before");
        }
        self.config.limits = config.limits;
        self.config.log.level = config.log.level;
        self.config.log.filter = config.log.filter;
        daemon.goes_by(&self.config).await;
    }
}
