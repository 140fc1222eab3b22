//! Closed sets of Meta's webhooks, stored as readable text.

use crate::words;

words!(
    /// How far Meta's word is taken for an account.
    MetaStatus {
        /// Meta has not shown the account's verify token, or not the newest one.
        Unverified = "unverified",
        /// Meta has shown the verify token.
        Verified = "verified",
        /// Its owner's decision: neither a challenge nor an event is taken.
        Disabled = "disabled",
    }
);
