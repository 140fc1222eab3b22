//! `[external]`: sessions that run elsewhere, and what their clients post.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    SecretText,
    rule::{Rule, Ruled},
};

/// Sessions that run elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// What whoever reports a status to the status webhook must show, in the header `webhook-secret-key` or
    /// `x-webhook-secret`. Also read from `WEBHOOK_SECRET_KEY`. A manager's token in its place is let in as well, whether a key
    /// is set or not, and reports of its own organization alone.
    pub webhook_secret_key: Option<SecretText>,
    /// Whether anybody may report a status where no key is set. Without either nobody may but who shows a manager's token.
    pub allow_open: bool,
    /// Whether a session that is not there is made when its first event is posted with a token.
    pub auto_create: bool,
    /// The organization whose sessions are reported of with `webhook_secret_key`, or by anybody where that is allowed: its number
    /// (`client_id`). 0: whichever organization was the first to call a session so, which is for organizations that trust
    /// each other. A manager's token in the key's place reports of its own organization in any case.
    pub report_organization: u32,
}

impl Default for External {
    fn default() -> Self {
        Self {
            webhook_secret_key: None,
            allow_open: false,
            auto_create: false,
            report_organization: 1,
        }
    }
}

impl Ruled for External {
    const RULES: &'static [Rule<Self>] = &[Rule {
        key: "external.webhook_secret_key",
        must: "must have 1 to 256 visible ASCII characters",
        holds: |it| it.webhook_secret_key.as_ref().is_none_or(|key| is_good(key.expose())),
    }];
}

/// What is in no header cannot be shown.
fn is_good(key: &str) -> bool {
    let is_visible = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (1..=256).contains(&key.len()) && is_visible && key.trim() == key
}
