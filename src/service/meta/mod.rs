//! Numbers at Meta's Cloud API: set up by their organizations, challenged and told of by Meta.
//!
//! - `input.rs`: what an account may be like. `accounts.rs`: an organization's accounts. `plan.rs`: what one is to become.
//! - `challenge.rs`: Meta asks whether an address is ours. `ingest.rs`: Meta tells something. Neither shows a token:
//!   what a request proves is in it (`proof.rs`). `trial.rs`: which secrets it is tried with, `apps.rs`: where it names nobody;
//!   `judge.rs`: trying them. `posted.rs`: what is
//!   kept of it; `routing.rs`: whose each change is; `strays.rs`: nobody's, which is somebody's by now. `threads.rs`: where what is long is hashed and read.
//! - `processing/`: what was told is carried out; `crowd.rs`: while many post, less of it at a time. `log.rs`: what was told, for its owner; and having it done again.
//!   `figures.rs`: how much of it there was. `silence.rs`: accounts of which nothing is told any more.
//! - `sending/`: what goes out, and that something was read.
//!
//! # Whose a number is
//!
//! What Meta tells is believed by the app's secret that signs it. So an account may be pointed at a number by whoever
//! shows the secret of the app; by an operator without, for the app of the whole installation. Of one app, a
//! number is one account's. Several organizations may claim a number with several apps: each is told what its own app signs.
//! What an app signs of a number that nobody has set up is told to an organization only if it has the business account, or if it
//! alone has the app; else to the operator's.

mod accounts;
mod apps;
mod challenge;
mod crowd;
mod figures;
mod ingest;
mod input;
mod judge;
mod log;
mod plan;
mod posted;
mod processing;
mod proof;
mod routing;
mod sending;
mod silence;
mod strays;
mod threads;
mod trial;
mod turn;

use std::{sync::Arc, time::Duration};

use entity::{id::OrganizationId, meta::account};
use tokio::sync::OnceCell;

use self::{
    apps::Apps, crowd::Crowd, figures::Figures, judge::Judge, strays::InHand, threads::Threads,
};
use super::{Error, Thing, text};
use crate::{
    graph::{self, Graph},
    store::{Patience, Store},
};

pub use self::{
    accounts::{Overview, Upserted},
    figures::Counted,
    ingest::{Door, Place},
    input::{AccountInput, DEFAULT_PATH, limits},
    log::{Detail, Listing, Reprocessed},
    processing::Processor,
    sending::{OUTCOME_UNKNOWN, Outgoing, REASONS, Read, Sender, Taken, What, sending_limits},
    silence::Watch,
};
pub use crate::{
    graph::Error as GraphError,
    meta::{Signature, paired},
    store::meta::{AccountFilter, LogFilter, MOST_ACCOUNTS, Open, Wanted},
};

/// What the operator decides about Meta's webhooks.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A verify token that is good for the whole installation.
    pub default_verify_token: Option<Open>,
    /// The secret of the app of accounts that have none of their own.
    pub default_secret: Option<Open>,
    /// Where Meta reaches us, without a slash at its end: `https://gateway.example.com`.
    pub public_url: Option<String>,
    /// Take events of verified accounts only.
    pub require_verified: bool,
    /// How Meta is asked.
    pub graph: graph::Options,
    /// How long a busy account may be told of nothing before its owner is told so; zero for never.
    pub silent_after: Duration,
}

/// Why something of Meta's was not taken. It is told as little as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the verify token is not one that is taken here")]
    Challenge,
    /// On an address that many share.
    #[error("the body is not signed by the app of any account that it names")]
    Signature,
    /// On an account's own address.
    #[error("the body is not signed by the account's app")]
    OwnSignature,
    #[error("the account takes no events")]
    Disabled,
}

/// Accounts at Meta, and what Meta has told of them.
#[derive(Clone, Debug)]
pub struct Meta {
    store: Store,
    options: Arc<Options>,
    /// The organization that an installation begins with.
    home: Arc<OnceCell<OrganizationId>>,
    figures: Arc<Figures>,
    crowd: Crowd,
    apps: Apps,
    judge: Judge,
    threads: Threads,
    graph: Graph,
    in_hand: InHand,
}

impl Meta {
    pub fn new(store: Store, options: Options) -> Self {
        let graph = Graph::new(options.graph.clone());
        let threads = Threads::default();
        Self {
            store,
            options: options.into(),
            home: Arc::default(),
            figures: Arc::default(),
            crowd: Crowd::default(),
            apps: Apps::default(),
            judge: Judge::new(threads.clone()),
            threads,
            graph,
            in_hand: InHand::default(),
        }
    }

    /// What asks Meta.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What was done since the start.
    pub fn figures(&self) -> Counted {
        self.figures.counted()
    }

    /// The address that Meta is to call for an account, if it is known how it reaches us.
    pub fn callback_url(&self, path: &str) -> Option<String> {
        if path.starts_with('/') {
            self.options.public_url.as_ref().map(|base| format!("{base}{path}"))
        } else {
            Some(path.to_owned())
        }
    }

    /// What an account lacks to be complete, by the names that the API has for it.
    pub fn missing(&self, row: &account::Model) -> Vec<&'static str> {
        let has_secret = row.app_secret.is_some() || self.options.default_secret.is_some();
        [
            ("wabaId", row.waba_id.is_some()),
            ("appId", row.app_id.is_some()),
            ("appSecret", has_secret),
            ("accessToken", row.access_token.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| (!is_there).then_some(name))
        .collect()
    }

    /// The organization that the installation began with: the operator's.
    async fn home(&self) -> Result<&OrganizationId, Error> {
        let found = self
            .home
            .get_or_try_init(async || {
                self.store.organizations().ensure_default().await.map(|row| row.id)
            })
            .await?;
        Ok(found)
    }

    /// A keyed hash of a secret that is looked up before it is known whose it is. The key is the first
    /// organization's, which is always there.
    async fn print(&self, purpose: &str, secret: &str) -> Result<String, Error> {
        let home = self.home().await?;
        let sealer = self.store.sealer(home, Patience::Fail).await?;
        Ok(text::hex(&sealer.sign(purpose, secret.as_bytes())))
    }

    async fn verify_hash(&self, token: &str) -> Result<String, Error> {
        self.print("meta_account.verify_hash", token).await
    }

    async fn app_print(&self, secret: Option<&Open>) -> Result<String, Error> {
        match secret {
            Some(secret) => self.print("meta_account.app_print", secret.expose()).await,
            None => Ok(String::new()),
        }
    }
}

const NOT_FOUND: Error = Error::NotFound(Thing::MetaAccount);
