//! Organizations.

use serde_json::{Value, json};

use super::{AT, page, success};
use crate::{
    http::{
        api::{List, Success, organizations::OrganizationView},
        operation::{Field, Operation, Tag, label, number, operation, text},
    },
    service::organizations::{LONGEST_NAME, MOST_SESSIONS},
};

fn example() -> Value {
    json!({
        "id": "org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "clientId": 7, "name": "Toko Budi",
        "maxSessions": 20, "createdAt": AT,
    })
}

fn name() -> Field {
    label("name", "What people call it.").lengths(1..=LONGEST_NAME).example("Toko Budi")
}

fn max_sessions() -> Field {
    number(
        "maxSessions",
        0..=MOST_SESSIONS,
        "How many sessions it may have; `null` for any number.",
    )
    .example(20)
}

pub(in crate::http::api) fn create() -> Operation {
    operation("createOrganization", Tag::Organizations, "Make an organization")
        .about("It has no token yet: make one with `POST /api/tokens` and `X-Organization`.")
        .body([name().required(), max_sessions()])
        .idempotent()
        .answers::<Success<OrganizationView>>(201, "The organization.", success(&example()))
        .says("Location", "Where it is.")
        .answers::<Success<OrganizationView>>(
            200,
            "The organization that an earlier request with this key has made.",
            success(&example()),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
}

pub(in crate::http::api) fn list() -> Operation {
    operation("listOrganizations", Tag::Organizations, "All organizations")
        .about("The newest first.")
        .query([
            text("name", "Only the organizations of this name.")
                .pattern("^[^\\u0000]*$")
                .example("Sale"),
            number("clientId", 1..=i64::MAX, "Only the organization of this number."),
        ])
        .paged()
        .answers::<List<OrganizationView>>(200, "A page of organizations.", page(&example()))
}

pub(in crate::http::api) fn show() -> Operation {
    operation("getOrganization", Tag::Organizations, "One organization")
        .about("Another than the token's own is shown to operators alone.")
        .answers::<Success<OrganizationView>>(200, "The organization.", success(&example()))
}

pub(in crate::http::api) fn change() -> Operation {
    operation("changeOrganization", Tag::Organizations, "Change an organization")
        .body([name(), max_sessions()])
        .answers::<Success<OrganizationView>>(
            200,
            "The organization as it is then.",
            success(&example()),
        )
}
