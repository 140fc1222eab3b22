//! The audit log.

use entity::kind::AuditAction;
use sea_orm::Iterable as _;
use serde_json::json;

use super::{AT, page};
use crate::http::{
    api::{List, audit::EntryView},
    operation::{Operation, Tag, operation, text, time, word},
};

/// What ids of tokens look like.
const TOKEN: &str = "^tok_[0-9A-HJKMNP-TV-Z]{26}$";

const ABOUT: &str = "Changes of configuration and credentials in the organization, the newest first. No secret is ever in it. A session is deleted in \
                     two steps: `session_deletion_asked` when somebody asks for it, and `session_deleted`, by the same, when it is gone. A token that is \
                     rotated is `token_created` with what it `replaces`, and of the old one `token_rotated` while it is good for a while yet, or \
                     `token_revoked`.\n\nWhat is done at the command line of the machine itself has neither token nor address; `detail.by` says so, \
                     with the `user` of the system who did it (of `sudo`, who called that). What is about the daemon and all its tenants is in \
                     the first organization's log: `token_created` of the token in `operator.token`, `master_key_rotated` with the names of the new \
                     key and of the one before, and `configuration_changed` with the keys whose values are others than they were, and never the values; \
                     its target is the daemon's name.";

pub(in crate::http::api) fn list() -> Operation {
    let actions: Vec<_> =
        AuditAction::iter().filter_map(|action| serde_json::to_value(action).ok()).collect();
    let actions: Vec<_> = actions.iter().filter_map(|action| action.as_str()).collect();
    let entry = json!({
        "id": "aud_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "at": AT, "action": "token_created",
        "target": "tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "detail": { "role": "viewer" },
        "tokenId": "tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3W", "address": "192.0.2.7",
    });
    operation("listAuditEntries", Tag::Audit, "Who changed what")
        .about(ABOUT)
        .query([
            word("action", &actions, "Only entries of this action."),
            text("target", "Only entries about what has this id.")
                .pattern("^[^\\u0000]*$")
                .example("tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
            text("tokenId", "Only what was done with this token.")
                .pattern(TOKEN)
                .example("tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V"),
            time("since", "Only entries from this time on."),
            time("until", "Only entries before this time."),
        ])
        .paged()
        .answers::<List<EntryView>>(200, "A page of entries.", page(&entry))
}
