//! `wagate backup`: copies the database, whether the daemon runs or not.

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use super::{
    output::{complain, say},
    progress::Progress,
    runtime,
    tenants::json as shown,
};
use crate::{backup, config::Config};

/// What `wagate backup` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// The file to make; it must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Copies the database into a new file.
pub(super) fn run(config: &Config, Options { file: target, json }: &Options) -> ExitCode {
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    // As the daemon finds it, but for that no directory is made: what is not there has no copy.
    let url = config.database.url_in(&config.state_dir);
    let progress = Progress::new(*json);
    let copied = runtime.block_on(backup::run(&url, target, &|stage| progress.stage(stage)));
    drop(progress);
    match copied {
        Ok(()) => {
            if *json {
                let bytes = target.metadata().map(|it| it.len()).ok();
                let file = target.display().to_string();
                say(&shown(&json!({ "file": file, "bytes": bytes })));
            } else {
                say(&format!("The database is copied to {}.\n", target.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
