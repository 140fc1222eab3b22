//! Why a message waits or has failed where Meta has said nothing: what stands in its `error` then, and in the event that tells of it.
//! Where Meta has, it is Meta's code in digits.

/// Whether it was sent is not known.
pub const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// It waits, or has waited in vain: nobody answers at Meta's address.
pub(super) const UNREACHABLE: &str = "meta_unreachable";
/// Its account was disabled when its turn came.
pub(super) const DISABLED: &str = "account_disabled";
/// Its account had no access token any more.
pub(super) const NO_TOKEN: &str = "no_access_token";
/// Its account was deleted, or has another number now.
pub(super) const ACCOUNT_GONE: &str = "account_changed";
/// What was to be sent cannot be opened.
pub(super) const UNREADABLE: &str = "not_readable";

/// All of them: what is said of sending names each.
pub const REASONS: [&str; 6] =
    [OUTCOME_UNKNOWN, UNREACHABLE, DISABLED, NO_TOKEN, ACCOUNT_GONE, UNREADABLE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_guide_says_what_each_reason_means() {
        let guide = include_str!("../../../../docs/operations.md");
        for reason in REASONS {
            assert!(guide.contains(&format!("| `{reason}` |")), "{reason}");
        }
    }
}
