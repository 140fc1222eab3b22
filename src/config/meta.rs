//! `[meta]`: Meta's Cloud API, its webhooks and what is asked of it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    SecretText,
    rule::{Rule, Ruled},
    shape,
    webhooks::Listed,
};

/// Webhooks of Meta's Cloud API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// How Meta reaches this daemon, as in `https://gateway.example.com`: for the addresses that are shown to
    /// organizations.
    pub public_url: Option<String>,
    /// A verify token that is taken on the shared addresses for no account in particular. Also from the
    /// variable `DEFAULT_WEBHOOK_VERIFY_TOKEN`.
    pub default_verify_token: Option<SecretText>,
    /// The secret of the installation's own app, for accounts that have none. Also from the variable
    /// `DEFAULT_WEBHOOK_SECRET`.
    pub default_webhook_secret: Option<SecretText>,
    /// Take events of verified accounts only.
    pub require_verified: bool,
    /// Bodies of Meta's that are in memory at a time, each of 4 MiB at most.
    pub concurrency: u32,
    /// Where the Graph API is.
    pub graph_url: String,
    /// The version of the Graph API that is asked.
    pub graph_version: String,
    /// More hosts that a file's address may name, besides Meta's own and that of `graph_url`: an account's access
    /// token is shown to them. A dot before a name stands for all names below it.
    pub media_hosts: Listed<String>,
    /// How long an account that was told of something every day may be told of nothing before its owner is
    /// told so; `0s` for never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub silent_after: Duration,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            public_url: None,
            default_verify_token: None,
            default_webhook_secret: None,
            require_verified: false,
            concurrency: 64,
            graph_url: "https://graph.facebook.com".to_owned(),
            graph_version: "v24.0".to_owned(),
            media_hosts: Listed(Vec::new()),
            silent_after: Duration::from_hours(24),
        }
    }
}

impl Ruled for Meta {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "meta.public_url",
            must: "must be an http or https URL without a query",
            holds: |it| it.public_url.as_deref().is_none_or(is_base),
        },
        Rule {
            key: "meta.default_verify_token",
            must: "must be 8 to 256 visible ASCII characters",
            holds: |it| it.default_verify_token.as_ref().is_none_or(is_good),
        },
        Rule {
            key: "meta.default_webhook_secret",
            must: "must be 8 to 256 visible ASCII characters",
            holds: |it| it.default_webhook_secret.as_ref().is_none_or(is_good),
        },
        Rule {
            key: "meta.concurrency",
            must: "must be between 1 and 1024",
            holds: |it| (1..=1024).contains(&it.concurrency),
        },
        Rule {
            key: "meta.graph_url",
            must: "must be an http or https URL without a query",
            holds: |it| is_base(&it.graph_url),
        },
        Rule {
            key: "meta.graph_version",
            must: "must be a version as in v24.0",
            holds: |it| is_version(&it.graph_version),
        },
        Rule {
            key: "meta.media_hosts",
            must: "must be at most 32 names of hosts, without scheme and port",
            holds: |it| {
                it.media_hosts.0.len() <= 32 && it.media_hosts.0.iter().all(|name| is_name(name))
            },
        },
        Rule {
            key: "meta.silent_after",
            must: "must be 0s, or between 1h and 30days",
            holds: |it| {
                let bounds = Duration::from_hours(1)..=Duration::from_hours(24 * 30);
                it.silent_after.is_zero() || bounds.contains(&it.silent_after)
            },
        },
    ];
}

fn is_base(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

fn is_good(secret: &SecretText) -> bool {
    let text = secret.expose();
    (8..=256).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

fn is_version(text: &str) -> bool {
    let is_number =
        |it: &str| (1..=3).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    numbers.is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

fn is_name(name: &str) -> bool {
    let bare = name.strip_prefix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    !bare.is_empty() && name.len() <= 253 && bare.bytes().all(fits)
}
