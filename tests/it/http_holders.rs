//! Who may ask what a session's secret or the operator's key opens: every such route, tried with every caller.
//!
//! The list comes from the router's own table, so a route that is added is tried, too.

use entity::state::Role;
use reqwest::Method;
use serde_json::{Value, json};
use wagate::{
    http::{self, Access, Key, Limits, Statement},
    service::Tokens,
    store::{audit::By, tokens::NewToken},
    webhook::{SigningSecret, sign},
};

use crate::{
    database::on_each,
    http_app::{Answer, App, STATUS_KEY, json as with_json},
    http_roles::{ROLES, nonsense},
};

/// An address of a route for holders, with this session in it.
fn held(route: &Statement, session: &str) -> String {
    let path = route.path.replace("{sessionId}", session);
    assert!(!path.contains('{'), "{path}: make such a thing in this test");
    path
}

/// Routes that take another key than a token, with every caller that there is.
#[tokio::test]
async fn every_route_for_holders_is_open_to_its_key_and_to_nobody_else_s() {
    on_each(async |database| {
        let app = App::start(database).await;
        let stranger = app.stranger(database).await;
        let secret_of = |made: &Value| made["secret"].as_str().unwrap().to_owned();
        app.external("by-token", json!({})).await;
        let ours = secret_of(&app.external("by-secret", json!({ "webhookAuth": "secret" })).await);
        let other = secret_of(&app.external("other", json!({ "webhookAuth": "secret" })).await);
        let signed =
            secret_of(&app.external("signed", json!({ "webhookAuth": "signature" })).await);
        let body = json!({ "sessionId": "theirs", "origin": "external", "webhookAuth": "secret" });
        let made = app.anonymous(Method::POST, "/api/whatsapp/session").bearer_auth(&stranger);
        let theirs = secret_of(&Answer::to(with_json(made, &body)).await.json()["data"]);
        let tokens = app.store.tokens();
        let revoked = app.token_of(&app.organization, Role::Operator).await;
        let caller = Tokens::new(app.store.clone()).authenticate(&revoked).await.unwrap();
        let id = caller.token_id.unwrap();
        assert!(tokens.revoke(&app.organization, &id, By::default()).await.unwrap());
        let expired = Tokens::new_secret();
        let new = NewToken {
            role: Role::Operator,
            secret_hash: Tokens::hash(&expired),
            label: "expired".to_owned(),
            expires_at: Some(app.clock.now()),
        };
        tokens.add(&app.organization, new).await.unwrap();
        let mut by_role = Vec::new();
        for role in ROLES {
            by_role.push((role, app.token_of(&app.organization, role).await));
        }

        let is_let_in = |answer: &Answer, route: &Statement| {
            let problem = answer.problem(400, "VALIDATION_FAILED");
            assert_eq!(problem["errors"][0]["pointer"], "/colour", "{route:?}");
        };
        let mut tried = 0;
        for route in http::routes(&Limits::default()) {
            let Access::Holder(key) = route.access else { continue };
            assert_eq!(key.role(), Role::Manager, "{route:?}");
            tried += 1;
            let ask = |session: &str| nonsense(&app, &route, &held(&route, session));
            // What opens nothing of this kind, whatever it is shown to.
            for session in ["by-token", "by-secret", "signed", "nobody"] {
                Answer::to(ask(session)).await.problem(401, "UNAUTHENTICATED");
                for token in [&revoked, &expired, &Tokens::new_secret()] {
                    let answer = Answer::to(ask(session).bearer_auth(token)).await;
                    answer.problem(401, "UNAUTHENTICATED");
                    // Not even beside what is good: a token that is shown is what is looked at.
                    if matches!(key, Key::Session(_)) {
                        let both =
                            ask(session).bearer_auth(token).header("x-webhook-secret", &ours);
                        Answer::to(both).await.problem(401, "UNAUTHENTICATED");
                    }
                }
                for secret in [&other, &theirs, &signed] {
                    let shown = ask(session).header("x-webhook-secret", secret);
                    Answer::to(shown).await.problem(401, "UNAUTHENTICATED");
                }
            }
            if matches!(key, Key::Status(_)) {
                for header in ["x-webhook-secret", "webhook-secret-key"] {
                    is_let_in(&Answer::to(ask("").header(header, STATUS_KEY)).await, &route);
                    let secret = ask("").header(header, &ours);
                    Answer::to(secret).await.problem(401, "UNAUTHENTICATED");
                }
                for (_, token) in &by_role {
                    let answer = Answer::to(ask("").bearer_auth(token)).await;
                    answer.problem(401, "UNAUTHENTICATED");
                }
                continue;
            }
            for (role, token) in &by_role {
                let answer = Answer::to(ask("by-token").bearer_auth(token)).await;
                if *role < key.role() {
                    assert_eq!(
                        answer.problem(403, "FORBIDDEN")["needs"],
                        json!(key.role()),
                        "{route:?}"
                    );
                    continue;
                }
                is_let_in(&answer, &route);
                for (session, code) in
                    [("by-secret", "WEBHOOK_AUTH_MISMATCH"), ("signed", "WEBHOOK_AUTH_MISMATCH")]
                {
                    Answer::to(ask(session).bearer_auth(token)).await.problem(409, code);
                }
                let none = Answer::to(ask("nobody").bearer_auth(token)).await;
                none.problem(404, "SESSION_NOT_FOUND");
            }
            for session in ["by-token", "by-secret", "signed"] {
                let answer = Answer::to(ask(session).bearer_auth(&stranger)).await;
                answer.problem(404, "SESSION_NOT_FOUND");
            }
            for header in ["x-webhook-secret", "webhook-secret-key"] {
                is_let_in(&Answer::to(ask("by-secret").header(header, &ours)).await, &route);
                // The key of the status webhook is none of a session's.
                let status = ask("by-secret").header(header, STATUS_KEY);
                Answer::to(status).await.problem(401, "UNAUTHENTICATED");
            }
            let secret = SigningSecret::parse(&signed).unwrap();
            let strange = SigningSecret::parse(&other).unwrap();
            let now = app.clock.now().as_secs();
            let sign_with = |secret: &SigningSecret| {
                ask("signed")
                    .header("webhook-id", "msg_1")
                    .header("webhook-timestamp", now.to_string())
                    .header("webhook-signature", sign([secret], "msg_1", now, b""))
            };
            is_let_in(&Answer::to(sign_with(&secret)).await, &route);
            Answer::to(sign_with(&strange)).await.problem(401, "UNAUTHENTICATED");
        }
        assert!(tried >= 4, "{tried}");
        app.close().await;
    })
    .await;
}
