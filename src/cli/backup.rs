//! `wagate backup`: copies the database, whether the daemon runs or not.

use std::{path::Path, process::ExitCode};

use super::{
    output::{complain, say},
    runtime,
};
use crate::{backup, config::Config};

/// Copies the database into a new file.
pub(super) fn backup(config: &Config, target: &Path) -> ExitCode {
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    // As the daemon finds it, but for that no directory is made: what is not there has no copy.
    let url = config.database.url_in(&config.state_dir);
    match runtime.block_on(backup::run(&url, target)) {
        Ok(()) => {
            say(&format!("The database is copied to {}.\n", target.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
