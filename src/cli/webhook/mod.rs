//! `wagate webhook`: what whoever writes a receiver needs. Neither command opens the database.
//!
//! - `verify.rs`: whether a request that was kept is signed;
//! - `listen.rs`: what happens, line by line, from a daemon that runs; `feed.rs`: reading it over HTTP;
//!   `forward.rs`: passing it on to a receiver on the developer's machine;
//! - `secret.rs`: secrets and tokens, from anywhere but the command line.

mod feed;
mod forward;
mod listen;
mod secret;
mod verify;

use std::process::ExitCode;

use super::{USAGE, output::complain, runtime};
use crate::config::{self, Config};

/// What `wagate webhook` is told.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Tell whether a request is signed with a secret: 0 if so, 1 if not, 2 if its time is too far from now
    Verify(verify::Options),
    /// Print what happens as lines of JSON, from a daemon that runs, until it is interrupted
    Listen(Box<listen::Options>),
}

/// Does it. The configuration says where the daemon is; without one that can be read, options must.
pub(super) fn run(loaded: Result<Config, config::Error>, command: Command) -> ExitCode {
    match command {
        Command::Verify(options) => verify::run(&options),
        Command::Listen(options) => {
            let config = match loaded {
                Ok(config) => Some(config),
                Err(_) if options.needs_no_configuration() => None,
                Err(error) => {
                    complain(&error);
                    return ExitCode::from(USAGE);
                }
            };
            let outcome = match runtime::build() {
                Ok(runtime) => {
                    let code = runtime.block_on(Box::pin(listen::run(config.as_ref(), *options)));
                    // A read of standard input that nobody ends is not waited for.
                    runtime.shutdown_background();
                    code
                }
                Err(error) => Err(listen::Error::from(error)),
            };
            match outcome {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    if error.is_usage() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
                }
            }
        }
    }
}
