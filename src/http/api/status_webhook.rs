//! `POST /api/whatsapp/status-webhook`: what became of a session, by what it is called where it runs.
//!
//! People choose its key, so guessing it must take long: from where too much was shown that opens nothing, only who has
//! shown the key from there before is listened to, as with tokens. So a neighbour's wrong tries cost nobody his
//! reports, and from an address that never had the key it is not tried more often than `failed_authentications` says.

use std::net::IpAddr;

use axum::{
    Extension,
    extract::{Request, State},
    response::IntoResponse,
};

use super::{
    ok,
    receiver::{Desk, Lane, ReceiptView, counted, secret_header},
};
use crate::{
    http::{
        body::Posted, client::Client, error::ApiError, fields::Parameters,
        idempotency::idempotency_key,
    },
    service::{External, external::Called},
};

#[tracing::instrument(name = "http.status_webhook.report", skip_all)]
pub(super) async fn report(
    State(external): State<External>,
    State(desk): State<Desk>,
    client: Option<Extension<Client>>,
    parameters: Parameters,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let client: Option<IpAddr> = client.map(|Extension(Client(address))| address);
    let Desk { meters, posts, limits } = desk;
    if !posts.knows(&Lane::Reports, client) {
        meters.may_try(client)?;
    }
    counted(&meters, client, external.may_report(secret_header(request.headers())))?;
    let key = idempotency_key(request.headers());
    let body = if external.is_open() {
        // Whoever it is. All are alike, and none has proved anything.
        let place = posts.enter(Lane::Reports.with_share(), client, false).await?;
        place.read(Posted::read(request, &limits)).await?
    } else {
        posts.was_good(Lane::Reports, client, None);
        Posted::read(request, &limits).await?
    };
    parameters.finish()?;
    let key = key?;
    let receipt = external.report(&body.members()?, key.map(Called::Key)).await?;
    Ok(ok(ReceiptView::from(receipt)))
}
