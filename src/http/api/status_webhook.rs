//! `POST /api/whatsapp/status-webhook`: what became of a session, by what it is called where it runs.
//!
//! The operator's key names no organization: by it a report is of the one that is configured for that, or of whoever has
//! named the session first, if the operator wants that. Where organizations do not trust each other with that, each shows a token of its own in the key's place, and reports of its own
//! sessions alone, whatever others call theirs.
//!
//! People choose the key, so guessing it must take long: from where too many wrong keys were shown, only who has
//! shown the right one from there before is listened to. So a neighbour's wrong tries cost nobody his
//! reports, and from an address that never had the key it is not tried more often than `failed_authentications` says.

use std::net::IpAddr;

use axum::{
    Extension,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use entity::id::OrganizationId;

use super::{
    ok,
    receiver::{Desk, Lane, ReceiptView, secret_header},
};
use crate::{
    http::{
        auth,
        body::Posted,
        client::Client,
        error::ApiError,
        fields::Parameters,
        idempotency::idempotency_key,
        limit::{Guess, Told},
        route::Key,
    },
    service::{self, External, Principal, Tokens, external::Called},
};

#[tracing::instrument(name = "http.status_webhook.report", skip_all)]
pub(super) async fn report(
    State(external): State<External>,
    State(tokens): State<Tokens>,
    State(desk): State<Desk>,
    Extension(key): Extension<Key>,
    client: Option<Extension<Client>>,
    parameters: Parameters,
    request: Request,
) -> Response {
    let client: Option<IpAddr> = client.map(|Extension(Client(address))| address);
    let shown = secret_header(request.headers()).map(ToOwned::to_owned);
    let token = shown.as_deref().filter(|it| Tokens::is_written_so(it) && !external.is_key(it));
    let Some(token) = token else {
        let key = idempotency_key(request.headers());
        let body = body_by_key(&external, &desk, shown.as_deref(), client, request).await;
        return take(&external, None, parameters, key, body).await.into_response();
    };
    // In the key's place: it is tried as often as any other token, and counted like one.
    let caller = match auth::open(&tokens, &desk.meters, token, client).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let told = auth::meter(&desk.meters, &caller);
    let mut response = match told.as_ref().and_then(Told::refused) {
        Some(response) => response,
        None => match caller.require(key.role()) {
            Err(error) => ApiError::from(error).into_response(),
            Ok(()) => by_token(&external, &desk, caller, parameters, request).await.into_response(),
        },
    };
    if let Some(told) = told {
        told.write(response.headers_mut());
    }
    response
}

/// What a token's owner reports, of the organization that the token is of.
async fn by_token(
    external: &External,
    desk: &Desk,
    caller: Principal,
    parameters: Parameters,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = Posted::read(request, &desk.limits).await;
    take(external, Some(&caller.organization_id), parameters, key, body).await
}

/// Takes a report, once it is known whose it may be.
async fn take(
    external: &External,
    organization: Option<&OrganizationId>,
    parameters: Parameters,
    key: Result<Option<String>, ApiError>,
    body: Result<Posted, ApiError>,
) -> Result<Response, ApiError> {
    let body = body?;
    parameters.finish()?;
    let key = key?.map(Called::Key);
    let receipt = external.report(organization, &body.members()?, key).await?;
    Ok(ok(ReceiptView::from(receipt)).into_response())
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
        meters.may_try(Guess::ReportKey, client)?;
    }
    let may = external.may_report(shown);
    if matches!(may, Err(service::Error::Unauthenticated)) {
        meters.opened_nothing(Guess::ReportKey, client)?;
    }
    may?;
    if external.is_open() {
        // Whoever it is. All are alike, and none has proved anything.
        let place = posts.enter(Lane::Reports.with_share(), client, false).await?;
        place.read(Posted::read(request, limits)).await
    } else {
        posts.was_good(Lane::Reports, client, None);
        Posted::read(request, limits).await
    }
}
