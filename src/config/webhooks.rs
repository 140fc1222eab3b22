//! `[webhooks]`: how tenants' endpoints are called, and which may be.

use std::{fmt, str::FromStr, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// Outbound webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Requests under way at a time, over all endpoints.
    pub concurrency: u32,
    /// Refuse endpoints that are not `https://`.
    pub require_https: bool,
    /// Networks that may be called although they are not the public internet.
    pub allow_cidrs: Listed<IpNet>,
    /// Networks that may not be called, whatever they are.
    pub deny_cidrs: Listed<IpNet>,
    /// Ports that may be called; none for any.
    pub ports: Listed<u16>,
    /// How long a delivery is tried, unless its endpoint wants less.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub max_age: Duration,
    /// How long an endpoint must fail without one success to be disabled.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub disable_after: Duration,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            concurrency: 256,
            require_https: true,
            allow_cidrs: Listed(Vec::new()),
            deny_cidrs: Listed(Vec::new()),
            ports: Listed(vec![443, 80, 8443, 8080]),
            max_age: 3 * DAY,
            disable_after: 5 * DAY,
        }
    }
}

impl Ruled for Webhooks {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "webhooks.concurrency",
            must: "must be between 1 and 10000",
            holds: |it| (1..=10_000).contains(&it.concurrency),
        },
        Rule {
            key: "webhooks.max_age",
            must: "must be between 1m and 30days",
            holds: |it| (Duration::from_mins(1)..=30 * DAY).contains(&it.max_age),
        },
        Rule {
            key: "webhooks.disable_after",
            must: "must be an hour or longer",
            holds: |it| it.disable_after >= Duration::from_hours(1),
        },
    ];
}

/// A list, written as one text with commas: so it can stand in a variable, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T>(pub Vec<T>);

impl<T: fmt::Display> Serialize for Listed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        serializer.serialize_str(&words.join(", "))
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let parsed = words.map(|word| {
            word.parse().map_err(|_| de::Error::custom("one of the list's items is malformed"))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}
