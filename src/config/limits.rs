//! `[limits]`: how often anybody may ask.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::rule::{Rule, Ruled};

/// Limits of requests. What is not said to be of all daemons together, each counts for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests of one token, of all daemons together that share the database: each gives its part, whatever the others are
    /// asked.
    pub per_token: Rate,
    /// Requests of one token at once, after a pause; shared like the rate, but each daemon gives one at least.
    pub per_token_burst: u32,
    /// Requests from one address, of whatever token; of IPv6, from one network of 64 bits. Daemons share it as they share a
    /// token's.
    pub per_address: Rate,
    /// Requests from one address at once, after a pause; shared likewise.
    pub per_address_burst: u32,
    /// What one address may show that opens nothing: tokens, signatures and secrets together, verify tokens of Meta's, and keys
    /// of the status webhook, each kind for itself. Where there was more, the next one that is wrong is told to wait; of a
    /// verify token or a key, which people choose, so is one that is right.
    pub failed_authentications: Rate,
    /// What opens nothing, from one address at once, after a pause.
    pub failed_authentications_burst: u32,
    /// Streams and long polls of one token at a time, of the 2,048 of a daemon.
    pub streams_per_token: u32,
    /// Streams and long polls of all of an organization's tokens at a time, of the 2,048 of a daemon; an
    /// operator's do not count.
    pub streams_per_organization: u32,
}

/// So many in each so long, as in `50/s`, `600/min`, `100/h`; or `off`, for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Off,
    Of { requests: u32, per: Unit },
}

/// In what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    /// How long it is.
    pub const fn duration(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
        }
    }
}

/// The text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a rate, as in 50/s, 600/min, 100/h, or off")]
pub struct ParseRateError;

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let (requests, unit) = text.split_once('/').ok_or(ParseRateError)?;
        let units = [Unit::Second, Unit::Minute, Unit::Hour];
        let per = units.into_iter().find(|it| it.word() == unit).ok_or(ParseRateError)?;
        match requests.parse() {
            Ok(requests) if requests > 0 => Ok(Self::Of { requests, per }),
            _ => Err(ParseRateError),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Of { requests, per } => write!(f, "{requests}/{}", per.word()),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_token: Rate::Of { requests: 100, per: Unit::Second },
            per_token_burst: 400,
            per_address: Rate::Of { requests: 200, per: Unit::Second },
            per_address_burst: 800,
            failed_authentications: Rate::Of { requests: 20, per: Unit::Minute },
            failed_authentications_burst: 20,
            streams_per_token: 256,
            streams_per_organization: 512,
        }
    }
}

impl Limits {
    /// Nobody is limited.
    pub fn off() -> Self {
        Self {
            per_token: Rate::Off,
            per_address: Rate::Off,
            failed_authentications: Rate::Off,
            ..Self::default()
        }
    }
}

impl Ruled for Limits {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "limits.per_token_burst",
            must: "must be between 1 and 1000000",
            holds: |it| (1..=1_000_000).contains(&it.per_token_burst),
        },
        Rule {
            key: "limits.per_address_burst",
            must: "must be between 1 and 1000000",
            holds: |it| (1..=1_000_000).contains(&it.per_address_burst),
        },
        Rule {
            key: "limits.failed_authentications_burst",
            must: "must be between 1 and 1000000",
            holds: |it| (1..=1_000_000).contains(&it.failed_authentications_burst),
        },
        Rule {
            key: "limits.streams_per_token",
            must: "must be between 1 and 2048",
            holds: |it| (1..=2048).contains(&it.streams_per_token),
        },
        Rule {
            key: "limits.streams_per_organization",
            must: "must be between 1 and 2048",
            holds: |it| (1..=2048).contains(&it.streams_per_organization),
        },
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["50/s", "600/min", "1/h", "off"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for wrong in ["", "50", "0/s", "-1/s", "50/day", "50 / s", "5.5/s", "on"] {
            assert_eq!(wrong.parse::<Rate>(), Err(ParseRateError), "{wrong}");
        }
    }
}
