//! `wagate audit`: who changed what in an organization, read at the machine itself.

use std::process::ExitCode;

use entity::{
    UnixMillis, audit,
    id::{AuditId, TokenId},
    kind::AuditAction,
};
use serde_json::json;

use super::tenants::{FIRST, Tenants, columns, json as shown, when, with_tenants, word};
use crate::{
    config::Config,
    http::{AuditEntryView, LONGEST_PAGE, USUAL_PAGE, cursor, moment, position},
    service::{
        audit::{Filter, Listing},
        page::{Page, Position},
    },
};

/// What `wagate audit` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
    /// The organization, by its id or its number
    #[arg(long, global = true, value_name = "ORGANIZATION", default_value = FIRST)]
    org: String,
    /// Answer in JSON, as the API does
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// List a page of the entries, the newest first
    List(List),
}

#[derive(Clone, Debug, clap::Args)]
struct List {
    /// Only entries of this action, as in `token_created`
    #[arg(long, value_parser = action)]
    action: Option<AuditAction>,
    /// Only entries about what has this id
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only what was done with this token
    #[arg(long, value_name = "ID")]
    token: Option<TokenId>,
    /// Only entries from this time on, as in 2025-01-20T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<UnixMillis>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<UnixMillis>,
    /// The most entries of the page
    #[arg(long, default_value_t = USUAL_PAGE, value_parser = clap::value_parser!(u64).range(1..=LONGEST_PAGE.unsigned_abs()))]
    limit: u64,
    /// Where the page begins, as the page before says
    #[arg(long, value_parser = position::<AuditId>)]
    cursor: Option<Position<AuditId>>,
}

fn action(word: &str) -> Result<AuditAction, String> {
    serde_json::from_value(word.into())
        .map_err(|_| "expected an action, as entries have it".to_owned())
}

/// Shows what was asked for.
pub(super) fn run(config: &Config, options: Options) -> ExitCode {
    let Options { command: Command::List(list), org, json } = options;
    with_tenants(config, async |tenants: &Tenants| {
        let caller = tenants.inside(&org).await?;
        let List { action, target, token, since, until, limit, cursor } = list;
        let filter = Filter { action, target, token_id: token, since, until };
        let page = Page { after: cursor, limit: Some(limit) };
        let listing = tenants.audit.list(&caller, &filter, page).await?;
        Ok(if json { document(listing) } else { table(&listing) })
    })
}

fn document(listing: Listing) -> String {
    let entries: Vec<_> = listing.entries.into_iter().map(AuditEntryView::from).collect();
    shown(&json!({ "data": entries, "nextCursor": listing.next.as_ref().map(cursor) }))
}

fn table(listing: &Listing) -> String {
    let mut lines =
        vec![["AT", "ACTION", "TARGET", "TOKEN", "FROM", "DETAIL"].map(str::to_owned).to_vec()];
    lines.extend(listing.entries.iter().map(row));
    let more = listing.next.as_ref().map(|next| format!("\nMore with --cursor {}\n", cursor(next)));
    columns(&lines) + &more.unwrap_or_default()
}

fn row(entry: &audit::Model) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        when(Some(entry.at)),
        word(entry.action),
        entry.target.clone(),
        entry.token_id.as_ref().map_or_else(dash, ToString::to_string),
        entry.address.clone().unwrap_or_else(dash),
        AuditEntryView::from(entry.clone()).detail.get().to_owned(),
    ]
}
