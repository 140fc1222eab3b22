//! `[meta]`: Meta's Cloud API, its webhooks and what is asked of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Invalid, SecretText, webhooks::Listed};

/// Webhooks of Meta's Cloud API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Meta {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        let is_base = |text: &String| {
            Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
            })
        };
        if self.public_url.as_ref().is_some_and(|text| !is_base(text)) {
            let wrong = "must be an http or https URL without a query";
            return Err(Invalid::new("meta.public_url", wrong));
        }
        for (key, secret) in [
            ("meta.default_verify_token", &self.default_verify_token),
            ("meta.default_webhook_secret", &self.default_webhook_secret),
        ] {
            let is_good = |text: &str| {
                (8..=256).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
            };
            if secret.as_ref().is_some_and(|secret| !is_good(secret.expose())) {
                return Err(Invalid::new(key, "must be 8 to 256 visible ASCII characters"));
            }
        }
        if !(1..=1024).contains(&self.concurrency) {
            return Err(Invalid::new("meta.concurrency", "must be between 1 and 1024"));
        }
        if !is_base(&self.graph_url) {
            let wrong = "must be an http or https URL without a query";
            return Err(Invalid::new("meta.graph_url", wrong));
        }
        let is_version = self.graph_version.strip_prefix('v').is_some_and(|rest| {
            rest.split_once('.').is_some_and(|(major, minor)| {
                let is_number = |it: &str| {
                    (1..=3).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_digit())
                };
                is_number(major) && is_number(minor)
            })
        });
        if !is_version {
            return Err(Invalid::new("meta.graph_version", "must be a version as in v24.0"));
        }
        let is_name = |name: &String| {
            let bare = name.strip_prefix('.').unwrap_or(name);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
            !bare.is_empty() && name.len() <= 253 && bare.bytes().all(fits)
        };
        if self.media_hosts.0.len() > 32 || !self.media_hosts.0.iter().all(is_name) {
            let wrong = "must be at most 32 names of hosts, without scheme and port";
            return Err(Invalid::new("meta.media_hosts", wrong));
        }
        let bounds = Duration::from_hours(1)..=Duration::from_hours(24 * 30);
        if !self.silent_after.is_zero() && !bounds.contains(&self.silent_after) {
            return Err(Invalid::new("meta.silent_after", "must be 0s, or between 1h and 30days"));
        }
        Ok(())
    }
}
