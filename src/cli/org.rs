//! `wagate org`: the tenants, at the machine itself.

use std::process::ExitCode;

use entity::organization;
use serde_json::{Value, json};

use super::tenants::{Failure, Tenants, columns, json as shown, most_sessions, when, with_tenants};
use crate::{
    config::Config,
    service::{
        organizations::{Changes, NewOrganization},
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

/// Does what was asked of the tenants.
pub(super) fn run(config: &Config, options: Options) -> ExitCode {
    let Options { command, json } = options;
    with_tenants(config, async |tenants: &Tenants| match command {
        Command::List => {
            let page = Page::all();
            let rows = tenants.organizations.list(&tenants.operator, page).await?.organizations;
            Ok(if json {
                shown(&rows.iter().map(view).collect::<Vec<_>>().into())
            } else {
                table(&rows)
            })
        }
        command => {
            let row = one(tenants, command).await?;
            Ok(if json { shown(&view(&row)) } else { table(&[row]) })
        }
    })
}

async fn one(tenants: &Tenants, command: Command) -> Result<organization::Model, Failure> {
    let Tenants { organizations, operator, .. } = tenants;
    match command {
        Command::Create { name, max_sessions } => {
            let new = NewOrganization { name, max_sessions };
            Ok(organizations.create(operator, new, None).await?.made)
        }
        Command::Change { organization, name, max_sessions, unlimited } => {
            let caller = tenants.inside(&organization).await?;
            let max_sessions = match max_sessions {
                Some(most) => Change::To(most),
                None if unlimited => Change::Clear,
                None => Change::Keep,
            };
            let changes = Changes { name, max_sessions };
            Ok(organizations.change(&caller, &caller.organization_id, changes).await?)
        }
        Command::Show { organization } => {
            let caller = tenants.inside(&organization).await?;
            Ok(organizations.find(&caller, &caller.organization_id).await?)
        }
        Command::List => unreachable!("a list is not one"),
    }
}

/// As the API shows it.
fn view(row: &organization::Model) -> Value {
    json!({
        "id": row.id,
        "clientId": row.client_id,
        "name": row.name,
        "maxSessions": row.max_sessions,
        "createdAt": when(Some(row.created_at)),
    })
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
