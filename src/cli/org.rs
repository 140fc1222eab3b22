//! `wagate org`: the tenants, at the machine itself.

use std::process::ExitCode;

use entity::organization;
use serde_json::json;

use super::tenants::{Failure, Tenants, columns, json as shown, most_sessions, when, with_tenants};
use crate::{
    config::Config,
    http::OrganizationView,
    service::{
        organizations::{Changes, Filter, NewOrganization},
        page::Page,
        sessions::Change,
    },
};

/// What `wagate org` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Make an organization
    Create {
        /// What people call it
        name: String,
        /// At most so many sessions
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..=MOST))]
        max_sessions: Option<i64>,
    },
    /// List the organizations, the oldest first
    List,
    /// Show an organization
    Show {
        /// Its id, or its number
        organization: String,
    },
    /// Change an organization
    Change {
        /// Its id, or its number
        organization: String,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
        /// At most so many sessions
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..=MOST))]
        max_sessions: Option<i64>,
        /// As many sessions as it likes
        #[arg(long, conflicts_with = "max_sessions")]
        unlimited: bool,
    },
}

const MOST: i64 = crate::service::organizations::MOST_SESSIONS;

/// What came of it.
enum Outcome {
    Listed(Vec<organization::Model>),
    One(organization::Model),
}

/// Does what was asked of the tenants.
pub(super) fn run(config: &Config, options: Options) -> ExitCode {
    let Options { command, json } = options;
    with_tenants(config, async |tenants: &Tenants| {
        Ok(match act(tenants, command).await? {
            Outcome::Listed(rows) if json => {
                let views = rows.into_iter().map(OrganizationView::from).collect::<Vec<_>>();
                shown(&json!(views))
            }
            Outcome::Listed(rows) => table(&rows),
            Outcome::One(row) if json => shown(&json!(OrganizationView::from(row))),
            Outcome::One(row) => table(&[row]),
        })
    })
}

async fn act(tenants: &Tenants, command: Command) -> Result<Outcome, Failure> {
    let Tenants { organizations, operator, .. } = tenants;
    let one = match command {
        Command::List => {
            let all =
                organizations.list(operator, &Filter::default(), Page::all()).await?.organizations;
            return Ok(Outcome::Listed(all));
        }
        Command::Create { name, max_sessions } => {
            let new = NewOrganization { name, max_sessions };
            organizations.create(operator, new, None).await?.made
        }
        Command::Change { organization, name, max_sessions, unlimited } => {
            let caller = tenants.inside(&organization).await?;
            let max_sessions = match max_sessions {
                Some(most) => Change::To(most),
                None if unlimited => Change::Clear,
                None => Change::Keep,
            };
            let changes = Changes { name, max_sessions };
            organizations.change(&caller, &caller.organization_id, changes).await?
        }
        Command::Show { organization } => {
            let caller = tenants.inside(&organization).await?;
            organizations.find(&caller, &caller.organization_id).await?
        }
    };
    Ok(Outcome::One(one))
}

fn table(rows: &[organization::Model]) -> String {
    let mut lines =
        vec![["NUMBER", "ID", "NAME", "MAX SESSIONS", "MADE"].map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let id = row.id.to_string();
        let number = row.client_id.to_string();
        vec![number, id, row.name.clone(), most_sessions(row), when(Some(row.created_at))]
    }));
    columns(&lines)
}
