//! A plan of faults: what, whom, when, and for how long.

use serde::{Deserialize, Serialize};

use super::{Fault, Lasting, Scope};

/// Faults in the order of their time.
///
/// A script knows no clock: it is played against tokio's by
/// [`Simulator::play`](crate::Simulator::play), or driven step by step by whoever
/// [stages](crate::Simulator::stage) it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What happens; the order does not matter.
    pub steps: Vec<Step>,
}

/// One fault of a script.
///
/// As JSON: `{"after": 1500, "fault": "drop", "scope": {"account": "15550001111"}, "lasting":
/// {"millis": 500}}`, with the fault's own fields beside its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds since the beginning of the script.
    pub after: u64,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// For whom.
    #[serde(default)]
    pub scope: Scope,
    /// For how long; a time is one of the script's own clock.
    #[serde(default)]
    pub lasting: Lasting,
}

impl Script {
    /// One more step.
    #[must_use]
    pub fn then(mut self, after: u64, fault: Fault, scope: Scope, lasting: Lasting) -> Self {
        self.steps.push(Step { after, fault, scope, lasting });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_flat_object() {
        let text = r#"{"steps": [{"after": 5, "fault": "stream_error", "code": 503,
            "scope": {"account": "1"}, "lasting": {"millis": 7}}, {"after": 6, "fault": "drop"}]}"#;
        let script: Script = serde_json::from_str(text).unwrap();
        let error = Fault::StreamError { code: Some(503), child: None, stays_open: false };
        let account = Scope::Account("1".to_owned());
        let expected = Script::default().then(5, error, account, Lasting::Millis(7)).then(
            6,
            Fault::Drop,
            Scope::Everyone,
            Lasting::Once,
        );
        assert_eq!(script, expected);
        let again: Script = serde_json::from_str(&serde_json::to_string(&script).unwrap()).unwrap();
        assert_eq!(again, script);
    }
}
