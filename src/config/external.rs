//! `[external]`: sessions that run elsewhere, and what their clients post.

use serde::{Deserialize, Serialize};

use super::{Invalid, SecretText};

/// Sessions that run elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// What whoever reports a status to the status webhook must show, in the header `webhook-secret-key` or
    /// `x-webhook-secret`. Also read from `WEBHOOK_SECRET_KEY`.
    pub webhook_secret_key: Option<SecretText>,
    /// Whether anybody may report a status where no key is set. Without either nobody may.
    pub allow_open: bool,
    /// Whether a session that is not there is made when its first event is posted with a token.
    pub auto_create: bool,
}

impl External {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        let key = self.webhook_secret_key.as_ref().map(SecretText::expose);
        // What is in no header cannot be shown.
        let is_good = |key: &str| {
            (1..=256).contains(&key.len()) && key.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        if key.is_some_and(|key| !is_good(key) || key.trim() != key) {
            return Err(Invalid::new(
                "external.webhook_secret_key",
                "must have 1 to 256 visible ASCII characters",
            ));
        }
        Ok(())
    }
}
