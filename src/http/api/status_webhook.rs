//! `POST /api/whatsapp/status-webhook`: what became of a session, by what it is called where it runs.
//!
//! The operator's key names no organization: by it a report is of whoever has named the session first. Where organizations
//! do not trust each other with that, each shows a token of its own in the key's place, and reports of its own
//! sessions alone, whatever others call theirs.
//!
//! People choose the key, so guessing it must take long: from where too much was shown that opens nothing, only who has
//! shown the key from there before is listened to, as with tokens. So a neighbour's wrong tries cost nobody his
//! reports, and from an address that never had the key it is not tried more often than `failed_authentications` says.

use std::net::IpAddr;

use axum::{
    Extension,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use entity::state::Role;

use super::{
    ok,
    receiver::{Desk, Lane, ReceiptView, counted, secret_header},
};
use crate::{
    http::{
        body::Posted, client::Client, error::ApiError, fields::Parameters,
        idempotency::idempotency_key,
    },
    service::{External, Principal, Tokens, external::Called},
};

#[tracing::instrument(name = "http.status_webhook.report", skip_all)]
pub(super) async fn report(
    State(external): State<External>,
    State(tokens): State<Tokens>,
    State(desk): State<Desk>,
    client: Option<Extension<Client>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, ApiError> {
    let client: Option<IpAddr> = client.map(|Extension(Client(address))| address);
    let key = idempotency_key(request.headers());
    let shown = secret_header(request.headers()).map(ToOwned::to_owned);
    let token = shown.as_deref().filter(|it| Tokens::is_written_so(it) && !external.is_key(it));
    let mut told = None;
    let (organization, body) = if let Some(token) = token {
        let caller = holder(&tokens, &desk, token, client).await?;
        told = caller.token_id.as_ref().and_then(|token| desk.meters.of_token(token));
        if let Some((told, mut refused)) = told.as_ref().and_then(|it| Some((it, it.refused()?))) {
            told.write(refused.headers_mut());
            return Ok(refused);
        }
        (Some(caller.organization_id), Posted::read(request, &desk.limits).await?)
    } else {
        (None, body_by_key(&external, &desk, shown.as_deref(), client, request).await?)
    };
    parameters.finish()?;
    let key = key?.map(Called::Key);
    let receipt = external.report(organization.as_ref(), &body.members()?, key).await?;
    let mut response = ok(ReceiptView::from(receipt)).into_response();
    if let Some(told) = told {
        told.write(response.headers_mut());
    }
    Ok(response)
}

/// Whose token is shown in the key's place: it is tried as often as any other.
async fn holder(
    tokens: &Tokens,
    desk: &Desk,
    token: &str,
    client: Option<IpAddr>,
) -> Result<Principal, ApiError> {
    if !tokens.has_opened(token) {
        desk.meters.may_try(client)?;
    }
    let caller = counted(&desk.meters, client, tokens.authenticate(token).await)?;
    caller.require(Role::Manager)?;
    Ok(caller)
}

/// The body of who shows the operator's key, or anybody's where that is allowed.
async fn body_by_key(
    external: &External,
    Desk { meters, posts, limits }: &Desk,
    shown: Option<&str>,
    client: Option<IpAddr>,
    request: Request,
) -> Result<Posted, ApiError> {
    if !posts.knows(&Lane::Reports, client) {
        meters.may_try(client)?;
    }
    counted(meters, client, external.may_report(shown))?;
    if external.is_open() {
        // Whoever it is. All are alike, and none has proved anything.
        let place = posts.enter(Lane::Reports.with_share(), client, false).await?;
        place.read(Posted::read(request, limits)).await
    } else {
        posts.was_good(Lane::Reports, client, None);
        Posted::read(request, limits).await
    }
}
