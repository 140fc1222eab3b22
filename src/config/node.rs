//! `[node]`: this daemon among those that share its database.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// This daemon among others. Means something on PostgreSQL only: a SQLite file has one daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What people call it: shown when it runs a session that another daemon was asked about.
    /// Without it, the machine's name.
    pub name: Option<String>,
    /// How long this daemon is taken to live without saying so: after a crash, others run its
    /// sessions this much later. It stops them itself after two thirds of it, when it is cut off
    /// from the database.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, lease: Duration::from_secs(30) }
    }
}

/// The longest name that is taken.
const LONGEST_NAME: usize = 64;

impl Node {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if let Some(name) = &self.name
            && (name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control))
        {
            return Err(Invalid::new("node.name", "must have 1 to 64 printable characters"));
        }
        if !(Duration::from_secs(3)..=Duration::from_mins(10)).contains(&self.lease) {
            return Err(Invalid::new("node.lease", "must be between 3 seconds and 10 minutes"));
        }
        Ok(())
    }
}
