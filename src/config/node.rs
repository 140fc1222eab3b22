//! `[node]`: this daemon among those that share its database.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// This daemon among others. Means something on PostgreSQL only: a SQLite file has one daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What people call it: shown when it runs a session that another daemon was asked about.
    /// Without it, the machine's name.
    pub name: Option<String>,
    /// How long this daemon is taken to live without saying so: after a crash, others run its
    /// sessions this much later. It stops them itself after two thirds of it, when it is cut off
    /// from the database.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub lease: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, lease: Duration::from_secs(30) }
    }
}

/// The longest name that is taken.
const LONGEST_NAME: usize = 64;

impl Ruled for Node {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "node.name",
            must: "must have 1 to 64 printable characters",
            holds: |it| it.name.as_deref().is_none_or(is_printable),
        },
        Rule {
            key: "node.lease",
            must: "must be between 3 seconds and 10 minutes",
            holds: |it| (Duration::from_secs(3)..=Duration::from_mins(10)).contains(&it.lease),
        },
    ];
}

fn is_printable(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}
