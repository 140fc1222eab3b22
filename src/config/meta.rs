//! `[meta]`: webhooks of Meta's Cloud API.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Invalid, SecretText};

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
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            public_url: None,
            default_verify_token: None,
            default_webhook_secret: None,
            require_verified: false,
            concurrency: 64,
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
        Ok(())
    }
}
