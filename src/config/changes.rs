//! What is another value in one configuration than in another.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Config, DatabaseUrl, SecretText};

/// The keys that a running daemon takes over.
const LIVE: [&str; 2] = ["log.level", "log.filter"];
const LIVE_SECTION: &str = "limits.";

/// What a secret is.
type Hidden = for<'a> fn(&'a Config) -> Option<&'a str>;

/// The keys of which not all is shown.
const SECRETS: [(&str, Hidden); 6] = [
    ("database.url", |it| it.database.url.as_ref().map(DatabaseUrl::expose)),
    ("encryption.master_key", |it| it.encryption.master_key.as_ref().map(SecretText::expose)),
    ("external.webhook_secret_key", |it| {
        it.external.webhook_secret_key.as_ref().map(SecretText::expose)
    }),
    ("meta.default_verify_token", |it| {
        it.meta.default_verify_token.as_ref().map(SecretText::expose)
    }),
    ("meta.default_webhook_secret", |it| {
        it.meta.default_webhook_secret.as_ref().map(SecretText::expose)
    }),
    ("traces.headers", |it| it.traces.headers.as_ref().map(SecretText::expose)),
];

/// The keys whose values differ, with their sections, those that a running daemon takes over apart from
/// those that wait for its next start. Of a secret it is told that it differs, and nothing else.
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
        // What is not shown looks the same there, whatever it is.
        for (key, hidden) in SECRETS {
            if hidden(before) != hidden(after) && !keys.iter().any(|it| it == key) {
                keys.push(key.to_owned());
            }
        }
        let (live, later) = keys.into_iter().partition(|key| is_live(key));
        Self { live, later }
    }
}

/// Whether a running daemon takes it over.
pub(super) fn is_live(key: &str) -> bool {
    LIVE.contains(&key) || key.starts_with(LIVE_SECTION)
}

/// What `seal` makes of each value, by key: for what is to be remembered of a configuration. Secrets are among them.
pub fn sealed(
    config: &Config,
    mut seal: impl FnMut(&str, &str) -> String,
) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, each: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&key, value, each);
                }
            }
            value => each(path, value),
        }
    }
    let mut all = BTreeMap::new();
    walk("", &value(config), &mut |key, value| {
        all.insert(key.to_owned(), seal(key, &value.to_string()));
    });
    for (key, hidden) in SECRETS {
        // None is as it is shown, and no text.
        if let Some(hidden) = hidden(config) {
            all.insert(key.to_owned(), seal(key, hidden));
        }
    }
    all
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

    /// A configuration with every secret there is.
    fn with_secrets(secret: &str) -> Config {
        let mut config = Config::default();
        let text = || Some(secret.to_owned().into());
        config.encryption.master_key = text();
        config.external.webhook_secret_key = text();
        config.traces.headers = text();
        (config.meta.default_verify_token, config.meta.default_webhook_secret) = (text(), text());
        let url = format!("postgres://wagate:{secret}@localhost/wagate");
        config.database.url = Some(url.parse().unwrap());
        config
    }

    #[test]
    fn of_a_secret_it_is_told_that_it_is_another_one() {
        let (before, after) = (with_secrets("one"), with_secrets("other"));
        assert_eq!(Changes::between(&before, &before), Changes::default());
        let mut keys: Vec<_> = SECRETS.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        let sorted = |changes: Changes| {
            let mut later = changes.later;
            later.sort();
            assert_eq!(changes.live, Vec::<String>::new());
            later
        };
        assert_eq!(sorted(Changes::between(&before, &after)), keys);
        // One that was not there is told once.
        assert_eq!(sorted(Changes::between(&Config::default(), &after)), keys);
    }

    #[test]
    fn what_is_remembered_of_a_configuration_tells_every_value_apart() {
        let seal = |config: &Config| sealed(config, |key, value| format!("{key}={value}"));
        let before = seal(&with_secrets("one"));
        assert_eq!(before, seal(&with_secrets("one")));
        let other = seal(&with_secrets("other"));
        let differ: Vec<_> = before.iter().filter(|(key, it)| other[*key] != **it).collect();
        assert_eq!(differ.len(), SECRETS.len(), "{differ:?}");
        let mut after = Config::default();
        let default = seal(&after);
        after.log.level = Level::Debug;
        let differ: Vec<_> =
            seal(&after).into_iter().filter(|(key, it)| default[key] != *it).collect();
        assert_eq!(differ, [("log.level".to_owned(), "log.level=\"debug\"".to_owned())]);
    }

    #[test]
    fn every_key_of_which_not_all_is_shown_is_compared() {
        fn hidden(path: &str, value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        let key =
                            if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        hidden(&key, value, found);
                    }
                }
                Value::String(text) if text.contains('…') => found.push(path.to_owned()),
                _ => {}
            }
        }
        let mut found = vec!["database.url".to_owned()];
        hidden("", &value(&with_secrets("one")), &mut found);
        found.sort();
        found.dedup();
        let mut keys: Vec<_> = SECRETS.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(found, keys);
        // A new one must be set above: there are as many texts of this kind as these.
        assert_eq!(format!("{:?}", with_secrets("one")).matches("SecretText(").count(), 5);
    }
}
