//! What is another value in one configuration than in another.

use serde_json::Value;

use super::Config;

/// The keys that a running daemon takes over.
const LIVE: [&str; 2] = ["log.level", "log.filter"];
const LIVE_SECTION: &str = "limits.";

/// The keys whose values differ, with their sections, those that a running daemon takes over apart from
/// those that wait for its next start. Secrets are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Taken over at once.
    pub live: Vec<String>,
    /// Taken over at the next start.
    pub later: Vec<String>,
}

impl Changes {
    /// From one to the other.
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut keys = Vec::new();
        collect("", &value(before), &value(after), &mut keys);
        let is_live = |key: &String| LIVE.contains(&key.as_str()) || key.starts_with(LIVE_SECTION);
        let (live, later) = keys.into_iter().partition(is_live);
        Self { live, later }
    }
}

fn value(config: &Config) -> Value {
    // Only a path that is no text could fail, and such a path cannot be configured.
    serde_json::to_value(config).unwrap_or_default()
}

fn collect(path: &str, before: &Value, after: &Value, keys: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&key, value, after.get(name).unwrap_or(&Value::Null), keys);
            }
        }
        _ if before == after => {}
        _ => keys.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Level, Rate, Unit};

    #[test]
    fn what_differs_is_named_and_told_apart_by_when_it_counts() {
        let before = Config::default();
        assert_eq!(Changes::between(&before, &before), Changes::default());
        let mut after = before.clone();
        after.log.level = Level::Debug;
        after.limits.per_token = Rate::Of { requests: 1, per: Unit::Hour };
        after.http.listen.set_port(1);
        after.http.tls_key = Some("/key".into());
        after.state_dir = "/elsewhere".into();
        let mut changes = Changes::between(&before, &after);
        changes.later.sort();
        changes.live.sort();
        assert_eq!(changes.live, ["limits.per_token", "log.level"]);
        assert_eq!(changes.later, ["http.listen", "http.tls_key", "state_dir"]);
    }
}
