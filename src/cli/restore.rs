//! `wagate restore`: a copy becomes the database, while no daemon runs.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{
    output::{complain, say},
    progress::Progress,
    runtime,
    tenants::json as shown,
};
use crate::{
    config::{AfterRestore, Config},
    daemon, restore,
    state_dir::{self, StateDir},
    store::{backup::Stage, restore::Content},
    vault::source,
};

/// What `wagate restore` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// The copy, as `wagate backup` has made it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("stop the daemon first")]
    Running(#[source] state_dir::Error),
    #[error(
        "{} belongs to another user: restore as that user, or the daemon cannot read what is restored \
         (runuser -u USER -- wagate restore …)",
        .0.display()
    )]
    Owner(PathBuf),
    #[error("cannot use the state directory")]
    StateDir(#[source] state_dir::Error),
    #[error("cannot use the master key")]
    MasterKey(#[from] source::Error),
    #[error(transparent)]
    Restore(#[from] restore::Error),
    #[error("cannot set up the process")]
    Process(#[from] std::io::Error),
}

/// Restores, and says what the daemon will do with it.
pub(super) fn run(config: &Config, options: &Options) -> ExitCode {
    let progress = Progress::new(options.json);
    let restored = runtime::build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(restore(config, &options.file, &progress)));
    drop(progress);
    let content = match restored {
        Ok(content) => content,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let database = config.database.url_in(&config.state_dir);
    let held = config.database.after_restore == AfterRestore::Hold;
    let linked = content.linked;
    if options.json {
        let report = json!({
            "database": database.to_string(),
            "linkedDevices": linked,
            "held": held,
        });
        say(&shown(&report));
    } else {
        say(&format!("{} is restored to {database}.\n", options.file.display()));
        say(&next(linked, held));
    }
    ExitCode::SUCCESS
}

fn next(linked: u64, held: bool) -> String {
    let devices = match linked {
        0 => return "No device in it is linked: start the daemon.\n".to_owned(),
        1 => "1 linked device is".to_owned(),
        more => format!("{more} linked devices are"),
    };
    if held {
        format!(
            "{devices} in it. The daemon flags their sessions as restored, and connects none before \
             somebody starts it: see to it first that the original is not used any more.\n"
        )
    } else {
        format!(
            "{devices} in it. The daemon flags their sessions as restored and connects them at its \
             start (database.after_restore): see to it first that the original is not used any more.\n"
        )
    }
}

async fn restore(config: &Config, copy: &Path, progress: &Progress) -> Result<Content, Failure> {
    let directory = &config.state_dir;
    let is_ours = |owner: std::fs::Metadata| owner.uid() == rustix::process::geteuid().as_raw();
    if std::fs::metadata(directory).is_ok_and(|owner| !is_ours(owner)) {
        return Err(Failure::Owner(directory.clone()));
    }
    // Held to the end, so that no daemon starts meanwhile.
    let state = StateDir::open(directory).map_err(|error| match error {
        state_dir::Error::InUse(_) => Failure::Running(error),
        other => Failure::StateDir(other),
    })?;
    let url = config.database.url_in(state.path());
    let source = daemon::master_key(&config.encryption, state.path())?;
    // What cannot be read is said now, and not taken for a key that does not fit.
    source.read()?;
    let fits = |content: &Content| {
        let opens = source.peek(|key| key.opens(&content.keys));
        content.keys.is_empty() || opens.is_ok_and(|key| key.is_some())
    };
    let options = daemon::store_options(config, &url);
    let told = |stage: Stage<'_>| progress.stage(stage);
    Ok(restore::run(&url, &options, copy, fits, &told).await?)
}
