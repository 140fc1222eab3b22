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

words!(
    /// How far something that Meta told is.
    MetaEventState {
        /// It is to be carried out, for the first time or again.
        Waiting = "waiting",
        /// What follows from it is in the database.
        Processed = "processed",
        /// It could not be carried out, and is not tried any more by itself.
        Failed = "failed",
    }
);
