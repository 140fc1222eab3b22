//! Meta's no: its codes, and which of them pass.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

/// The longest that Meta can have us wait.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// What Meta says when it does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Meta's code; the status where there is none.
    pub code: i64,
    pub subcode: Option<i64>,
    /// What Meta's support asks for.
    pub trace: Option<String>,
    /// When Meta wants to be asked again.
    pub after: Option<Duration>,
    /// Meta says itself that it passes.
    is_transient: bool,
}

/// What a refusal holds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What was asked, and what stands behind it in its conversation.
    Conversation,
    /// All that the account asks.
    Account,
}

impl Refusal {
    pub(super) fn read(error: &Value, status: u16, after: Option<Duration>) -> Self {
        let trace = error["fbtrace_id"]
            .as_str()
            .filter(|it| it.len() <= 128 && it.bytes().all(|byte| byte.is_ascii_graphic()));
        Self {
            status,
            code: error["code"].as_i64().unwrap_or(i64::from(status)),
            subcode: error["error_subcode"].as_i64(),
            trace: trace.map(str::to_owned),
            after,
            is_transient: error["is_transient"].as_bool() == Some(true),
        }
    }

    /// One that says nothing but its status.
    pub(super) fn unnamed(status: u16, after: Option<Duration>) -> Self {
        let code = i64::from(status);
        Self { status, code, subcode: None, trace: None, after, is_transient: false }
    }

    /// The same may be taken later.
    pub const fn is_passing(&self) -> bool {
        match self.code {
            // The token is dead, or may not; what was asked is wrong; they have not written for a day.
            0 | 3 | 10 | 100 | 190 | 200..=299 | 131_026 | 131_047 => false,
            // Too much: of the app, of the business account, of the number, to this person. And Meta's own trouble.
            4 | 80_007 | 130_429 | 131_056 | 1 | 2 | 131_000 | 131_016 | 131_057 | 133_004 => true,
            _ => self.is_transient || self.status == 429 || self.status >= 500,
        }
    }

    /// What waits meanwhile.
    pub const fn scope(&self) -> Scope {
        let is_of_account = matches!(self.code, 4 | 80_007 | 130_429 | 131_057 | 133_004);
        // A limit that says nothing more is taken for the wider one.
        if is_of_account || (self.status == 429 && self.code != 131_056) {
            Scope::Account
        } else {
            Scope::Conversation
        }
    }

    /// Meta does not know the token any more.
    pub const fn is_of_token(&self) -> bool {
        matches!(self.code, 0 | 190) || self.status == 401
    }

    /// Meta has not what was asked for, or not any more.
    pub const fn is_of_absence(&self) -> bool {
        matches!((self.code, self.subcode), (100, Some(33)) | (131_052, _))
            || self.status == 404
            || self.status == 410
    }
}

/// When to come back, by the header of that name.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: u16, error: &Value) -> Refusal {
        Refusal::read(error, status, None)
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (status, code) in [
            (400, 4),
            (400, 80_007),
            (400, 130_429),
            (400, 131_056),
            (500, 131_000),
            (429, 9_999),
            (503, 7),
        ] {
            assert!(refusal(status, &json!({ "code": code })).is_passing(), "{status} {code}");
        }
        for (status, code) in [
            (401, 190),
            (400, 100),
            (500, 100),
            (400, 131_047),
            (400, 131_026),
            (403, 10),
            (400, 132_001),
        ] {
            assert!(!refusal(status, &json!({ "code": code })).is_passing(), "{status} {code}");
        }
        assert!(refusal(400, &json!({ "code": 5, "is_transient": true })).is_passing());
        assert!(!Refusal::unnamed(413, None).is_passing());
        assert!(Refusal::unnamed(429, None).is_passing());
    }

    #[test]
    fn a_limit_of_the_number_holds_up_all_and_one_of_a_pair_only_that() {
        let scope = |code: i64| refusal(400, &json!({ "code": code })).scope();
        assert_eq!((scope(130_429), scope(80_007)), (Scope::Account, Scope::Account));
        assert_eq!((scope(131_056), scope(131_000)), (Scope::Conversation, Scope::Conversation));
    }

    #[test]
    fn what_meta_s_support_asks_for_is_kept_and_its_sentence_is_not() {
        let error = json!({
            "message": "(#131047) +1 555 0100", "code": 131_047, "error_subcode": 7, "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn",
        });
        let refusal = refusal(400, &error);
        assert_eq!(
            (refusal.subcode, refusal.trace.as_deref()),
            (Some(7), Some("Az8or2yhqkZfEZ-_4Qn"))
        );
        assert!(!format!("{refusal:?}").contains("555"));
    }
}
