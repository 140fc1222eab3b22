//! `wagate run`: the daemon, from the first signal handler to the last closed connection.

use std::{process::ExitCode, sync::Arc};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{
    USAGE, VERSION,
    output::{Chain, complain, say},
    runtime,
};
use crate::{
    SIMULATOR,
    clock::Clock,
    config::Config,
    daemon::{Daemon, StartError},
    lifecycle::{self, Signals, Stop},
    telemetry,
};

/// Runs the daemon until it is asked to stop. `read` says which configuration it was given.
pub(super) fn run(config: Config, read: &str) -> ExitCode {
    if let Err(error) = telemetry::init(&config.log) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    tracing::info!(config.file = read, "Starting wagate {VERSION}");
    if SIMULATOR {
        tracing::warn!("This build does not check who answers as WhatsApp: it is for tests only");
    }
    let outcome = runtime::build().map_err(StartError::Process).and_then(|runtime| {
        let outcome = runtime.block_on(serve(config));
        // What is left now had its time; a blocking call must not keep the process from ending.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Unclean) => ExitCode::FAILURE,
        Err(error) => {
            // In the form the operator chose for the log, and nowhere else.
            tracing::error!("Cannot start: {}", Chain(&error));
            if error.is_configuration() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// How a daemon that had started came to its end.
enum Ended {
    /// Asked to, with everything finished.
    Clean,
    /// Unasked, or before everything was finished.
    Unclean,
}

/// From the first signal handler to the last closed connection.
async fn serve(config: Config) -> Result<Ended, StartError> {
    let stop = Stop::new();
    let signals = Signals::install().map_err(StartError::Process)?;
    let tracker = TaskTracker::new();
    let reload = Arc::new(Notify::new());
    let signals = signals.forward_to(stop.clone(), Arc::clone(&reload));
    tracker.spawn(signals.instrument(tracing::info_span!("signals")));
    tracker.spawn(lifecycle::feed_watchdog());

    // Dropped half-way by a wish to stop: what a start has begun survives a kill at any point.
    let daemon = tokio::select! {
        daemon = Daemon::start(config, Clock::system()) => daemon?,
        () = stop.soft.cancelled() => return Ok(Ended::Clean),
    };
    say(&daemon.welcome());
    let status = format!("Listening on {}", daemon.address());
    lifecycle::notify_ready(&status);

    let asked = loop {
        tokio::select! {
            () = stop.soft.cancelled() => break true,
            // A part that the daemon cannot do without is gone. systemd starts us again.
            () = daemon.failed() => break false,
            () = reload.notified() => {
                lifecycle::notify_reloading();
                daemon.reload().await;
                lifecycle::notify_ready(&status);
            }
        }
    };
    lifecycle::notify_stopping();
    let clean = tokio::select! {
        clean = daemon.shutdown() => clean,
        () = stop.hard.cancelled() => false,
    };
    Ok(if asked && clean { Ended::Clean } else { Ended::Unclean })
}
