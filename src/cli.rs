//! The command line: what was asked for, and the exit code it ends with.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::runtime::{self, Runtime};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    SIMULATOR,
    clock::Clock,
    config::{self, Config, Flag, Loaded, Sources},
    daemon::{Daemon, StartError},
    lifecycle::{self, Signals, Stop},
    telemetry,
};

/// `EX_USAGE` of sysexits: the command line or the configuration is wrong, and nothing was opened.
const USAGE: u8 = 64;

/// Threads for calls that block: pairing by code hashes in one, DNS look-ups and files take the
/// others. Few, so that the number of threads does not follow the number of sessions.
const BLOCKING_THREADS: usize = 16;

/// What `--version` says; a build that may talk to the simulator does not hide it.
const VERSION: &str = if SIMULATOR {
    concat!(env!("CARGO_PKG_VERSION"), " (simulator)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// WhatsApp session gateway: many linked devices, one daemon, one database, HTTP.
#[derive(Debug, Parser)]
#[command(name = "wagate", version = VERSION)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    overrides: Overrides,
}

/// What to do.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run,
    /// Tell whether the configuration is usable, without opening anything
    CheckConfig,
}

/// Settings that win over the environment and the file.
#[derive(Debug, clap::Args)]
struct Overrides {
    /// Configuration file [default: wagate.toml, else /etc/wagate/wagate.toml, if there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the database, the operator's token and the lock are
    #[arg(long, global = true, value_name = "DIRECTORY")]
    state_dir: Option<String>,
    /// off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// human or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Overrides {
    fn into_sources(self) -> Sources {
        let flags = [
            ("--listen", "http.listen", self.listen),
            ("--state-dir", "state_dir", self.state_dir),
            ("--log-level", "log.level", self.log_level),
            ("--log-format", "log.format", self.log_format),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name, key, value: value? }))
            .collect();
        Sources::of_process(self.config, flags)
    }
}

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked_or_wrong) => {
            // `--help` and `--version` arrive here too, and are no mistakes. If nobody reads, so be it.
            asked_or_wrong.print().ok();
            let mistake = asked_or_wrong.use_stderr();
            return if mistake { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let Loaded { config, file } = match config::load(&cli.overrides.into_sources()) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    let read = file.map_or("no file".to_owned(), |path| path.display().to_string());
    match cli.command.unwrap_or(Command::Run) {
        Command::CheckConfig => {
            say(&format!("The configuration is usable ({read}).\n"));
            ExitCode::SUCCESS
        }
        Command::Run => run(config, &read),
    }
}

fn run(config: Config, read: &str) -> ExitCode {
    if let Err(error) = telemetry::init(&config.log) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    tracing::info!(config.file = read, "Starting wagate {VERSION}");
    if SIMULATOR {
        tracing::warn!("This build does not check who answers as WhatsApp: it is for tests only");
    }
    let outcome = build_runtime().map_err(StartError::Process).and_then(|runtime| {
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
            ExitCode::FAILURE
        }
    }
}

fn build_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("wagate")
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
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
    tracker.spawn(signals.forward_to(stop.clone()).instrument(tracing::info_span!("signals")));

    // Dropped half-way by a wish to stop: what a start has begun survives a kill at any point.
    let daemon = tokio::select! {
        daemon = Daemon::start(config, Clock::system()) => daemon?,
        () = stop.soft.cancelled() => return Ok(Ended::Clean),
    };
    say(&daemon.welcome());
    lifecycle::notify_ready(&format!("Listening on {}", daemon.address()));

    let asked = tokio::select! {
        () = stop.soft.cancelled() => true,
        // A part that the daemon cannot do without is gone. systemd starts us again.
        () = daemon.failed() => false,
    };
    lifecycle::notify_stopping();
    let clean = tokio::select! {
        clean = daemon.shutdown() => clean,
        () = stop.hard.cancelled() => false,
    };
    Ok(if asked && clean { Ended::Clean } else { Ended::Unclean })
}

/// Standard output is for what was asked for, not for the log. The one place that writes there.
fn say(text: &str) {
    // A closed pipe is the reader's choice.
    io::stdout().write_all(text.as_bytes()).ok();
}

/// One line on standard error, for mistakes from before there is a log.
fn complain(error: &dyn Error) {
    eprintln!("wagate: {}", Chain(error));
}

/// An error and what caused it, in one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for line in ["wagate --listen :1 check-config", "wagate check-config --listen :1"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(cli.command, Some(Command::CheckConfig)));
            let flags = cli.overrides.into_sources().flags;
            assert_eq!(flags.len(), 1);
            assert_eq!((flags[0].key, flags[0].value.as_str()), ("http.listen", ":1"));
        }
    }

    #[test]
    fn an_error_and_its_causes_are_one_line() {
        let io = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let error = StartError::Process(io);
        assert_eq!(Chain(&error).to_string(), format!("{error}: address in use"));
    }
}
