//! `wagate serve`: the daemon, from the first signal handler to the last closed connection.

use std::{process::ExitCode, sync::Arc};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{
    USAGE, VERSION,
    output::{Chain, complain, say},
    reload::Reload,
    runtime, sockets,
};
use crate::{
    SIMULATOR,
    clock::Clock,
    config::{Config, Sources},
    daemon::{Daemon, Listeners, StartError},
    lifecycle::{self, Signals, Stop},
    telemetry,
};

/// Runs the daemon until it is asked to stop. `config` came from `sources`, and `read` says which file of
/// them was read.
pub(super) fn run(config: Config, read: &str, sources: Sources) -> ExitCode {
    // Before there are threads: it takes variables out of the environment.
    let listeners = sockets::handed_over().map_err(StartError::HandedOver);
    let telemetry = match telemetry::init(&config) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(config.file = read, "Starting wagate {}", VERSION.as_str());
    if SIMULATOR {
        tracing::warn!("This build does not check who answers as WhatsApp: it is for tests only");
    }
    let telemetry = Arc::new(telemetry);
    let reload = Reload::new(sources, config.clone(), Arc::clone(&telemetry));
    let outcome = listeners.and_then(|listeners| {
        let runtime = runtime::build().map_err(StartError::Process)?;
        let outcome = runtime.block_on(serve(listeners, config, reload));
        // What is left now had its time; a blocking call must not keep the process from ending.
        runtime.shutdown_background();
        outcome
    });
    let code = match outcome {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(Ended::Unclean) => ExitCode::FAILURE,
        Err(error) => {
            // In the form the operator chose for the log, and nowhere else.
            tracing::error!("Cannot start: {}", Chain(&error));
            if error.is_configuration() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    };
    telemetry.close();
    code
}

/// How a daemon that had started came to its end.
enum Ended {
    /// Asked to, with everything finished.
    Clean,
    /// Unasked, or before everything was finished.
    Unclean,
}

/// From the first signal handler to the last closed connection.
async fn serve(
    listeners: Listeners,
    config: Config,
    mut reload: Reload,
) -> Result<Ended, StartError> {
    let stop = Stop::new();
    let signals = Signals::install().map_err(StartError::Process)?;
    let tracker = TaskTracker::new();
    let hung_up = Arc::new(Notify::new());
    let signals = signals.forward_to(stop.clone(), Arc::clone(&hung_up));
    tracker.spawn(signals.instrument(tracing::info_span!("signals")));

    // Dropped half-way by a wish to stop: what a start has begun survives a kill at any point.
    let daemon = tokio::select! {
        daemon = Daemon::start_on(listeners, config, Clock::system()) => daemon?,
        () = stop.soft.cancelled() => return Ok(Ended::Clean),
    };
    say(&daemon.welcome());
    let status = format!("Listening on {}", daemon.address());
    lifecycle::notify_ready(&status);
    // From here on systemd waits for it.
    let store = daemon.store().clone();
    let ping = move || {
        let store = store.clone();
        async move { store.lives().await }
    };
    tracker.spawn(lifecycle::feed_watchdog(ping).instrument(tracing::info_span!("watchdog")));

    let asked = loop {
        tokio::select! {
            () = stop.soft.cancelled() => break true,
            // A part that the daemon cannot do without is gone. systemd starts us again.
            () = daemon.failed() => break false,
            () = hung_up.notified() => {
                lifecycle::notify_reloading();
                reload.run(&daemon).await;
                lifecycle::notify_ready(&status);
            }
        }
    };
    lifecycle::notify_stopping();
    let clean = tokio::select! {
        stopped = daemon.shutdown() => stopped.is_clean(),
        () = stop.hard.cancelled() => false,
    };
    Ok(if asked && clean { Ended::Clean } else { Ended::Unclean })
}
