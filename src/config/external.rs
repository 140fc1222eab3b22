//! `[external]`: sessions that run elsewhere, and what their clients post.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    SecretText,
    rule::{Rule, Ruled},
};

/// Sessions that run elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
