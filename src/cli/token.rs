//! `wagate token`: who may call, at the machine itself. A secret is printed once, and kept nowhere.

use std::{process::ExitCode, time::Duration};

use entity::{id::TokenId, state::Role, token};
use serde_json::{Value, json};

use super::tenants::{
    FIRST, Failure, Tenants, columns, json as shown, role, when, with_tenants, word,
};
use crate::{
    config::Config,
    http::TokenView,
    service::{Principal, page::Page, tokens::CreateToken, webhooks::LONGEST_OVERLAP},
};

/// What `wagate token` is told.
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
    /// Make a token, and print its secret
    Create {
        /// viewer, manager, admin, or operator
        #[arg(long, value_parser = role)]
        role: Role,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// When it ends, as in 30days; never without
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires_in: Option<Duration>,
    },
    /// List the organization's tokens, the oldest first, valid or not
    List,
    /// Show a token
    Show {
        /// Its id
        token: TokenId,
    },
    /// Refuse a token from now on
    Revoke {
        /// Its id
        token: TokenId,
    },
    /// Make another token in the place of one, print its secret, and refuse the old one from now on
    Rotate {
        /// The old one's id
        token: TokenId,
        /// For how long the old one is good beside it, as in 1h or 7days
        #[arg(long, value_name = "TIME", value_parser = overlap, default_value = "0s")]
        overlap: Duration,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text)
        .map_err(|_| "expected a time, as in 12h or 30days".to_owned())
}

fn overlap(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time > LONGEST_OVERLAP {
        return Err("must not be longer than 7 days".to_owned());
    }
    Ok(time)
}

/// What came of it.
enum Outcome {
    Listed(Vec<token::Model>),
    /// With its secret, where it was just made.
    One(token::Model, Option<String>),
}

/// Does what was asked of the tokens.
pub(super) fn run(config: &Config, options: Options) -> ExitCode {
    let Options { command, org, json } = options;
    with_tenants(config, async |tenants: &Tenants| {
        let caller = tenants.inside(&org).await?;
        Ok(match act(tenants, &caller, command).await? {
            Outcome::Listed(rows) if json => {
                shown(&rows.into_iter().map(|row| view(row, None)).collect::<Vec<_>>().into())
            }
            Outcome::Listed(rows) => table(&rows),
            Outcome::One(row, secret) if json => shown(&view(row, secret)),
            Outcome::One(row, secret) => {
                let secret = secret.map(|it| format!("\n{it}\n\nIt is shown this once.\n"));
                table(&[row]) + &secret.unwrap_or_default()
            }
        })
    })
}

async fn act(tenants: &Tenants, caller: &Principal, command: Command) -> Result<Outcome, Failure> {
    let tokens = &tenants.tokens;
    Ok(match command {
        Command::List => {
            Outcome::Listed(tokens.list(caller, (None, None), Page::all()).await?.tokens)
        }
        Command::Create { role, label, expires_in } => {
            let expires_at = expires_in.map(|time| tokens.clock().now() + time);
            make(tenants, caller, CreateToken { role, label, expires_at }).await?
        }
        Command::Show { token } => Outcome::One(tokens.find(caller, &token).await?, None),
        Command::Revoke { token } => Outcome::One(tokens.revoke(caller, &token).await?, None),
        Command::Rotate { token, overlap } => {
            let (rotated, secret) = tokens.rotate(caller, &token, overlap, None).await?;
            Outcome::One(rotated.made, secret)
        }
    })
}

async fn make(
    tenants: &Tenants,
    caller: &Principal,
    create: CreateToken,
) -> Result<Outcome, Failure> {
    let (created, secret) = tenants.tokens.create(caller, create, None).await?;
    Ok(Outcome::One(created.made, secret))
}

/// As the API shows it, and whose it is.
fn view(row: token::Model, secret: Option<String>) -> Value {
    let organization = row.organization_id.clone();
    let mut view = json!(TokenView::from(row));
    view["organizationId"] = json!(organization);
    if let Some(secret) = secret {
        view["secret"] = secret.into();
    }
    view
}

fn table(rows: &[token::Model]) -> String {
    let head = ["ID", "ROLE", "LABEL", "MADE", "EXPIRES", "REVOKED", "LAST USED"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        vec![
            row.id.to_string(),
            word(row.role),
            row.label.clone(),
            when(Some(row.created_at)),
            when(row.expires_at),
            when(row.revoked_at),
            when(row.last_used_at),
        ]
    }));
    columns(&lines)
}
