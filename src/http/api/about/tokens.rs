//! Tokens.

use serde_json::{Value, json};

use super::{AT, page, success};
use crate::{
    http::{
        api::{
            List, Success,
            tokens::{NewTokenView, TokenView},
        },
        code::Code,
        operation::{Operation, Tag, label, operation, overlap, time, word},
    },
    service::tokens::LONGEST_LABEL,
};

fn example() -> Value {
    json!({
        "id": "tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V", "role": "manager", "label": "dashboard",
        "createdAt": AT, "expiresAt": "2030-01-31T00:00:00.000Z", "revokedAt": null, "lastUsedAt": null,
    })
}

fn with_secret(secret: Option<&str>) -> Value {
    let mut token = example();
    token["secret"] = json!(secret);
    success(&token)
}

pub(in crate::http::api) fn create() -> Operation {
    operation("createToken", Tag::Tokens, "Make a token")
        .about("For the caller's organization, with at most the caller's role. The secret is in this answer and never again.")
        .body([
            word("role", &["viewer", "manager", "admin", "operator"], "What its holder may do.")
                .required()
                .example("manager"),
            label("label", "What people call it.").lengths(0..=LONGEST_LABEL).example("dashboard"),
            time("expiresAt", "From when on it is no longer good; never, if it is not given.")
                .example("2030-01-31T00:00:00Z"),
        ])
        .idempotent()
        .answers::<Success<NewTokenView>>(
            201,
            "The token, with its secret.",
            with_secret(Some("wag_4nDk0…")),
        )
        .says("Location", "Where it is.")
        .answers::<Success<NewTokenView>>(
            200,
            "The token that an earlier request with this key has made, without its secret.",
            with_secret(None),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        // A role above the caller's own.
        .refuses([Code::Forbidden])
}

pub(in crate::http::api) fn list() -> Operation {
    operation("listTokens", Tag::Tokens, "The organization's tokens")
        .about("Those up to the caller's role, the oldest first, revoked ones too.")
        .query([
            word("role", &["viewer", "manager", "admin", "operator"], "Only tokens of this role."),
            word("state", &["active", "expired", "revoked"], "Only tokens in this state."),
        ])
        .paged()
        .answers::<List<TokenView>>(200, "A page of tokens.", page(&example()))
}

pub(in crate::http::api) fn show() -> Operation {
    operation("getToken", Tag::Tokens, "One token").answers::<Success<TokenView>>(
        200,
        "The token.",
        success(&example()),
    )
}

pub(in crate::http::api) fn revoke() -> Operation {
    operation("revokeToken", Tag::Tokens, "Revoke a token")
        .about("At once and for good; open streams of its holder end. Asked for twice, it is the same.")
        .answers::<Success<TokenView>>(200, "The token, revoked.", success(&example()))
}

pub(in crate::http::api) fn rotate() -> Operation {
    operation("rotateToken", Tag::Tokens, "Put another token in the place of one")
        .about(
            "The new one has the role, label and end of the old one. Its secret is in this answer and never again. The old one expires \
             when the overlap is over, so that whoever has it has time to learn the new one, and whoever loses the answer can ask again; \
             without overlap it is revoked at once, as a secret that has leaked should be.",
        )
        .body([overlap("overlapSeconds", "For how long the old one is good.")])
        .idempotent()
        .answers::<Success<NewTokenView>>(
            201,
            "The new token, with its secret.",
            with_secret(Some("wag_4nDk0…")),
        )
        .says("Location", "Where it is.")
        .answers::<Success<NewTokenView>>(
            200,
            "The token that an earlier request with this key has made, without its secret.",
            with_secret(None),
        )
        .says("Location", "Where it is.")
        .says("Idempotency-Replayed", "`true`")
        .refuses([Code::TokenEnded])
}
