//! `wagate migrate status`: which steps of the schema a database has seen.

use std::{fmt, process::ExitCode};

use serde::Serialize;
use serde_json::json;

use super::{
    output::{complain, say},
    runtime,
};
use crate::{
    config::Config,
    daemon, state_dir,
    store::{
        connect::OpenError,
        look::{self, Manner},
        schema::State,
    },
};

/// What `wagate migrate` is told.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the steps of the schema, and whether the database has seen them; changes nothing
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// How a step stands to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Seen {
    Applied,
    Pending,
    /// A newer program's.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Step {
    name: String,
    seen: Seen,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = match self.seen {
            Seen::Applied => "applied",
            Seen::Pending => "pending",
            Seen::Unknown => "unknown",
        };
        write!(f, "{seen}  {}", self.name)
    }
}

/// Lists the steps. Ends with 1 unless the database has seen exactly those that this program knows.
pub(super) fn run(config: &Config, command: Command) -> ExitCode {
    let Command::Status { json } = command;
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let steps = match runtime.block_on(steps(config)) {
        Ok(steps) => steps,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    if json {
        say(&format!("{:#}\n", json!({ "steps": steps })));
    } else {
        for step in &steps {
            say(&format!("{step}\n"));
        }
    }
    let current = steps.iter().all(|step| step.seen == Seen::Applied);
    if current { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn steps(config: &Config) -> Result<Vec<Step>, OpenError> {
    let url = config.database.url_in(&config.state_dir);
    let manner = Manner { alone: !state_dir::is_held(&config.state_dir), ..Manner::default() };
    let seen = look::look(&daemon::store_options(config, &url), manner).await?;
    let known = look::steps();
    Ok(match seen.map(|seen| seen.schema) {
        None => compared(known, |_| Seen::Pending),
        Some(State::Current) => compared(known, |_| Seen::Applied),
        Some(State::Older(missing)) => compared(known, |name| {
            if missing.iter().any(|it| it == name) { Seen::Pending } else { Seen::Applied }
        }),
        // Which of ours it has seen does not matter any more: this program must not touch it.
        Some(State::Newer(newer)) => compared(newer, |_| Seen::Unknown),
    })
}

fn compared(names: Vec<String>, seen: impl Fn(&str) -> Seen) -> Vec<Step> {
    names.into_iter().map(|name| Step { seen: seen(&name), name }).collect()
}
