//! What `wagate audit`, `wagate org`, `wagate session` and `wagate token` share: the database, opened beside a daemon
//! that may run, and what is said of it.
//!
//! The services are the daemon's own, so the rules are the same and the audit log has every change, by
//! nobody's token and from no address, with the name that the system has for who did it: whoever can read the database is
//! its operator.

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use entity::{UnixMillis, organization, state::Role};
use serde::Serialize;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::{
    output::{complain, say},
    person, runtime,
};
use crate::{
    clock::Clock,
    config::Config,
    daemon,
    service::{self, Audit, Organizations, Principal, Tokens},
    store::{Store, connect, keys},
    vault::{Vault, source},
};

/// The `client_id` of the organization that a new installation begins with.
pub(super) const FIRST: &str = "1";

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no database at {}: start the daemon once", .0.display())]
    NoDatabase(PathBuf),
    #[error("cannot use the master key")]
    MasterKey(#[from] source::Error),
    #[error("cannot read the database's keys")]
    Keys(#[from] keys::RekeyError),
    #[error("cannot open the database")]
    Open(#[from] connect::OpenError),
    #[error("the database has no organization: start the daemon once")]
    NotSetUp,
    #[error("{}", sentence(.0))]
    Refused(service::Error),
}

impl From<service::Error> for Failure {
    fn from(error: service::Error) -> Self {
        Self::Refused(error)
    }
}

fn sentence(error: &service::Error) -> String {
    let service::Error::Invalid(errors) = error else { return error.to_string() };
    let faults =
        errors.iter().map(|it| format!("{}: {}", it.pointer.trim_start_matches('/'), it.detail));
    faults.collect::<Vec<_>>().join("; ")
}

/// The tenants of a database.
pub(super) struct Tenants {
    pub(super) organizations: Organizations,
    pub(super) tokens: Tokens,
    pub(super) audit: Audit,
    pub(super) store: Store,
    /// Who asks, in the first organization.
    pub(super) operator: Principal,
}

impl Tenants {
    /// The operator in the organization with this id or number.
    pub(super) async fn inside(&self, named: &str) -> Result<Principal, Failure> {
        Ok(self.organizations.act_in(self.operator.clone(), named).await?)
    }
}

/// Opens the database, does `work`, and says what came of it.
pub(super) fn with_tenants<F>(config: &Config, work: F) -> ExitCode
where
    F: AsyncFnOnce(&Tenants) -> Result<String, Failure>,
{
    let outcome = match runtime::build() {
        Ok(runtime) => runtime.block_on(Box::pin(run(config, work))).map_err(Into::into),
        Err(error) => Err(Box::<dyn Error>::from(error)),
    };
    match outcome {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run<F>(config: &Config, work: F) -> Result<String, Failure>
where
    F: AsyncFnOnce(&Tenants) -> Result<String, Failure>,
{
    let tracker = TaskTracker::new();
    let store = open(config, &tracker).await?;
    let outcome = async {
        let first = store.organizations().find_by_client_id(1).await;
        let first = first.map_err(service::Error::from)?.ok_or(Failure::NotSetUp)?;
        let tenants = Tenants {
            organizations: Organizations::new(store.clone()),
            tokens: Tokens::new(store.clone()),
            audit: Audit::new(store.clone()),
            store: store.clone(),
            operator: Principal::at_the_machine(first.id, person::user()),
        };
        work(&tenants).await
    };
    let outcome = outcome.await;
    store.close().await;
    tracker.close();
    tracker.wait().await;
    outcome
}

/// Opens the database as it is: nothing is made and nothing is migrated.
async fn open(config: &Config, tracker: &TaskTracker) -> Result<Store, Failure> {
    let url = config.database.url_in(&config.state_dir);
    if let Some(file) = url.sqlite_file()
        && !file.exists()
    {
        return Err(Failure::NoDatabase(file));
    }
    let options = connect::Options {
        migrate: false,
        lanes: 1,
        readers: 1,
        ..daemon::store_options(config, &url)
    };
    let source = daemon::master_key(&config.encryption, &config.state_dir)?;
    let wrapped = keys::list(&options).await?;
    let master = source.find(true, |key| key.opens(&wrapped))?;
    let vault = Arc::new(Vault::new(master, Some(source)));
    Ok(Store::open(options, vault, Clock::system(), tracker).await?)
}

/// A value for programs, on lines of its own.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Rows for people, in columns.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len))
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A point in time for people and programs; a dash for none.
pub(super) fn when(at: Option<UnixMillis>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| crate::event::payload::rfc3339(at).as_str().to_owned())
}

/// A role, by its word.
pub(super) fn role(word: &str) -> Result<Role, String> {
    serde_json::from_value(word.into())
        .map_err(|_| "expected viewer, manager, admin or operator".to_owned())
}

/// The word that a role, or a state, is written with.
pub(super) fn word(of: impl Serialize) -> String {
    serde_json::to_value(of).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

/// How many sessions an organization may have, for people.
pub(super) fn most_sessions(row: &organization::Model) -> String {
    row.max_sessions.map_or_else(|| "-".to_owned(), |most| most.to_string())
}
