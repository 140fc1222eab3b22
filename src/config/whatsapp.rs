//! `[whatsapp]`: how sessions reach WhatsApp.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    rule::{Rule, Ruled},
    shape,
};
use crate::SIMULATOR;

/// The WhatsApp clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatsApp {
    /// The WhatsApp Web version to say we are, as in `2.3000.1023456789`. Without it WhatsApp is
    /// asked for the current one, once a day and whenever it refuses the one it gave. While nobody answers, a session says what
    /// it said last.
    #[serde(with = "version")]
    #[schemars(with = "shape::Version")]
    pub version: Option<(u32, u32, u32)>,
    /// The server to dial instead of WhatsApp's, as in `ws://127.0.0.1:7000/ws/chat`. Only a build
    /// with the `simulator` feature accepts it: such a build does not check who answers.
    pub url: Option<String>,
    /// What a phone shows in its list of linked devices.
    pub device_name: String,
    /// How often a session that waits to be paired is given a fresh series of QR codes (six, worth
    /// some 160 seconds) before it is left alone. Restarts are counted in: a series that one cuts off is shown once more.
    pub max_qr_rounds: u32,
    /// Sessions that may be dialling at the same time.
    pub dial_concurrency: u32,
    /// Dials begun per second, over all sessions: WhatsApp limits what comes from one address.
    pub dial_rate_per_second: u32,
    /// How long after another client has taken a session's connection over it is dialled once more.
    /// Without it such a session stays as it is until somebody starts it: two clients that take the
    /// connection from each other never end.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub replaced_retry_after: Option<Duration>,
    /// What to do when a session that belongs to one account is linked to another one.
    pub on_other_account: OnOtherAccount,
    /// How long all sessions together may take to disconnect in good order when the daemon stops.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub shutdown_grace: Duration,
}

/// What to do when a session that belongs to one account is linked to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOtherAccount {
    /// Unlink the new device again: a customer's history and receivers get nobody else's messages.
    Refuse,
    /// Go on with the new account; an event and the session's status say so.
    Flag,
}

impl Default for WhatsApp {
    fn default() -> Self {
        Self {
            version: None,
            url: None,
            device_name: "wagate".to_owned(),
            max_qr_rounds: 3,
            dial_concurrency: 16,
            dial_rate_per_second: 10,
            replaced_retry_after: None,
            on_other_account: OnOtherAccount::Refuse,
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

impl Ruled for WhatsApp {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "whatsapp.url",
            must: "this build talks to WhatsApp only; another server needs the `simulator` \
                   feature, which is for tests",
            holds: |it| SIMULATOR || it.url.is_none(),
        },
        Rule {
            key: "whatsapp.url",
            must: "expected ws://host:port/path",
            holds: |it| it.url.as_deref().is_none_or(is_socket),
        },
        Rule {
            key: "whatsapp.device_name",
            must: "must have 1 to 50 characters",
            holds: |it| is_short(&it.device_name),
        },
        Rule {
            key: "whatsapp.max_qr_rounds",
            must: "must be between 1 and 10000",
            holds: |it| (1..=10_000).contains(&it.max_qr_rounds),
        },
        Rule {
            key: "whatsapp.dial_concurrency",
            must: "must be between 1 and 10000",
            holds: |it| (1..=10_000).contains(&it.dial_concurrency),
        },
        Rule {
            key: "whatsapp.dial_rate_per_second",
            must: "must be between 1 and 10000",
            holds: |it| (1..=10_000).contains(&it.dial_rate_per_second),
        },
        Rule {
            key: "whatsapp.replaced_retry_after",
            must: "must be at least a minute",
            holds: |it| it.replaced_retry_after.is_none_or(|after| after >= Duration::from_mins(1)),
        },
    ];
}

fn is_socket(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host())
}

/// WhatsApp cuts longer names; control characters would end up on a phone's screen.
fn is_short(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= 50 && !name.contains(char::is_control)
}

/// A version of WhatsApp Web as text: three numbers and the dots between them.
mod version {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        version: &Option<(u32, u32, u32)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        version
            .map(|(major, minor, build)| format!("{major}.{minor}.{build}"))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<(u32, u32, u32)>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let mut numbers = text.split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(build)), None) => {
                Ok(Some((major, minor, build)))
            }
            _ => Err(D::Error::custom("expected three numbers, as in 2.3000.1023456789")),
        }
    }
}
