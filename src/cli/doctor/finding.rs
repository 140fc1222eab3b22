//! What a check says.

use std::fmt;

use serde::Serialize;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    Configuration,
    StateDir,
    OperatorToken,
    Disk,
    Listen,
    Certificate,
    Database,
    Schema,
    MasterKey,
    Descriptors,
    #[serde(rename = "whatsapp")]
    WhatsApp,
    Clock,
    Meta,
    Traces,
    Webhooks,
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::StateDir => "state directory",
            Self::OperatorToken => "operator's token",
            Self::Disk => "disk",
            Self::Listen => "listener",
            Self::Certificate => "certificate",
            Self::Database => "database",
            Self::Schema => "schema",
            Self::MasterKey => "master key",
            Self::Descriptors => "descriptors",
            Self::WhatsApp => "WhatsApp",
            Self::Clock => "clock",
            Self::Meta => "Meta",
            Self::Traces => "traces",
            Self::Webhooks => "webhooks",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// It works, and will not always.
    Warning,
    /// A start fails, or what is started cannot do its work.
    Fault,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// One check's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) verdict: Verdict,
    /// What is so. Shows no secret.
    pub(super) says: String,
    /// What to do about it, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: Check, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, says: says.into(), fix: None }
    }

    pub(super) fn warning(check: Check, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, ..Self::ok(check, says) }
    }

    pub(super) fn fault(check: Check, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fault, ..Self::ok(check, says) }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<17} {}", self.verdict.word(), self.check.name(), self.says)?;
        match &self.fix {
            Some(fix) => write!(f, "\n{:>26} {fix}", "→"),
            None => Ok(()),
        }
    }
}
