//! `[log]`: what is told, and in which form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Directive;

use super::rule::{Rule, Ruled};

/// What is logged, and how. Always on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// One line for people, or one JSON object a line for programs.
    pub format: Format,
    /// How much wagate tells of itself.
    pub level: Level,
    /// More directives, separated by commas, as in `wagate::http=debug,sqlx=info`. What is not
    /// wagate is limited to errors unless it is named here; the WhatsApp client then logs phone
    /// numbers and stanzas.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// The least important kind of line that is still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing at all.
    Off,
    /// What someone must look at.
    Error,
    /// What someone may want to look at.
    Warn,
    /// What the daemon does, in outline.
    Info,
    /// What it does, in detail.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The word a filter directive uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Human, level: Level::Info, filter: String::new() }
    }
}

impl Log {
    /// The directives of [`Self::filter`].
    pub fn directives(&self) -> impl Iterator<Item = &str> {
        self.filter.split(',').map(str::trim).filter(|directive| !directive.is_empty())
    }
}

impl Ruled for Log {
    const RULES: &'static [Rule<Self>] = &[Rule {
        key: "log.filter",
        must: "must be directives of the form target=level, with commas between them",
        holds: |it| it.directives().all(|directive| directive.parse::<Directive>().is_ok()),
    }];
}
