//! What the operator decides: one structure per section, and the loader that fills them.
//!
//! A value comes from a flag, else from the environment (`WAGATE_<SECTION>__<KEY>`), else from the
//! TOML file, else from the defaults written here. A key nobody knows is an error wherever it
//! stands: a typing mistake that silently leaves a default in force is the worst kind.
//!
//! Everything is checked before anything is opened, and a mistake is one line that names the key
//! and where it was set. That line never shows a text value: it might be a password.
//!
//! `rule.rs` has what values must be, each section its rules, and `reference.rs` makes the page for people of
//! all that.
//!
//! To add a key: a field with a doc comment and a default, a line in `examples/wagate.toml` (a test
//! compares the two), and, when not every value makes sense, a line in the section's `RULES`. What the page
//! says comes from these (`WAGATE_WRITE_DOCS=1 cargo test --workspace --test it documents`).

mod changes;
mod database;
mod encryption;
mod error;
mod external;
mod history;
mod http;
mod layers;
mod limits;
mod log;
mod media;
mod meta;
mod node;
mod reference;
mod retention;
mod rule;
mod shape;
mod traces;
mod webhooks;
mod whatsapp;

use std::path::PathBuf;

pub use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rule::{Rule, Ruled};
pub use self::{
    changes::{Changes, sealed},
    database::{AfterRestore, Database, DatabaseUrl},
    encryption::{Encryption, SecretText},
    error::Error,
    external::External,
    history::{History, Mode as HistoryMode},
    http::{ForwardedHeader, Http, Origin},
    layers::{Flag, Loaded, Sources, load},
    limits::{Limits, ParseRateError, Rate, Unit},
    log::{Format, Level, Log},
    media::Media,
    meta::Meta,
    node::Node,
    reference::page as reference,
    retention::{Keep, Retention},
    traces::Traces,
    webhooks::{Listed, Webhooks},
    whatsapp::{OnOtherAccount, WhatsApp},
};

/// Everything the operator can decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the daemon keeps what it must not lose: the database (unless it is elsewhere), the
    /// operator's token, the master key, the lock. Made with mode 0700 when absent.
    #[schemars(with = "shape::File")]
    pub state_dir: PathBuf,
    /// The HTTP listener.
    pub http: Http,
    /// How often anybody may ask.
    pub limits: Limits,
    /// The database.
    pub database: Database,
    /// The key under which secrets in the database are sealed.
    pub encryption: Encryption,
    /// This daemon among those that share its database.
    pub node: Node,
    /// How long what grows is kept.
    pub retention: Retention,
    /// Outbound webhooks.
    pub webhooks: Webhooks,
    /// Sessions that run elsewhere.
    pub external: External,
    /// Webhooks of Meta's Cloud API.
    pub meta: Meta,
    /// What is logged, and how.
    pub log: Log,
    /// Spans of requests, for a collector that speaks OTLP over HTTP.
    pub traces: Traces,
    /// The WhatsApp clients.
    pub whatsapp: WhatsApp,
    /// The past of newly paired accounts.
    pub history: History,
    /// Media that is downloaded.
    pub media: Media,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("wagate-data"),
            http: Http::default(),
            limits: Limits::default(),
            database: Database::default(),
            encryption: Encryption::default(),
            node: Node::default(),
            retention: Retention::default(),
            webhooks: Webhooks::default(),
            external: External::default(),
            meta: Meta::default(),
            log: Log::default(),
            traces: Traces::default(),
            whatsapp: WhatsApp::default(),
            history: History::default(),
            media: Media::default(),
        }
    }
}

impl Config {
    /// Checks what types cannot: ranges, and values that exclude one another.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.check()?;
        self.http.check()?;
        self.limits.check()?;
        self.database.check()?;
        self.node.check()?;
        self.retention.check()?;
        self.webhooks.check()?;
        self.external.check()?;
        self.meta.check()?;
        self.log.check()?;
        self.traces.check()?;
        self.whatsapp.check()?;
        self.history.check()?;
        self.media.check()
    }
}

impl Ruled for Config {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "state_dir",
            must: "must not be empty",
            holds: |it| !it.state_dir.as_os_str().is_empty(),
        },
        Rule {
            key: "retention.webhooks",
            must: "must not be shorter than webhooks.max_age: what is owed must be kept",
            holds: |it| it.retention.webhooks.is_at_least(it.webhooks.max_age),
        },
    ];
}

/// A value of the right type that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key, with its section.
    pub key: &'static str,
    /// What is wrong, without repeating the value.
    pub reason: String,
}

impl Invalid {
    fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
