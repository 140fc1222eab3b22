//! `wagate session`: what there is, at the machine itself. A running daemon is not asked.

use std::process::ExitCode;

use serde_json::json;

use super::tenants::{FIRST, Tenants, columns, json as shown, when, with_tenants, word};
use crate::{
    config::Config,
    http::ListedSession,
    service::{
        page::Page,
        sessions::{Filter, Migrated, StatusView, list},
    },
};

/// What `wagate session` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
    /// The organization, by its id or its number
    #[arg(long, global = true, value_name = "ORGANIZATION", default_value = FIRST)]
    org: String,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// List the organization's sessions, the oldest first
    List {
        /// Those as well that have handed over to another one
        #[arg(long)]
        migrated: bool,
    },
}

/// Says what there is.
pub(super) fn run(config: &Config, options: Options) -> ExitCode {
    let Options { command: Command::List { migrated }, org, json } = options;
    with_tenants(config, async |tenants: &Tenants| {
        let caller = tenants.inside(&org).await?;
        let migrated = if migrated { Migrated::With } else { Migrated::Without };
        let filter = Filter { migrated, ..Filter::default() };
        let listed = list(&tenants.store, &caller, &filter, &Page::all()).await?.sessions;
        Ok(if json {
            shown(&json!(listed.into_iter().map(ListedSession::from).collect::<Vec<_>>()))
        } else {
            table(&listed)
        })
    })
}

fn table(rows: &[StatusView]) -> String {
    let head = ["SESSION", "STATUS", "NUMBER", "WANTED", "SINCE", "LAST DISCONNECT"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        vec![
            row.session_id.to_string(),
            word(row.status),
            or_dash(row.phone_number.as_deref()),
            word(row.desired_state),
            when(Some(row.since)),
            or_dash(row.last_disconnect.as_ref().map(|last| last.reason.as_str())),
        ]
    }));
    columns(&lines)
}
