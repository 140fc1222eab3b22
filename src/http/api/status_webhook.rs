//! `POST /api/whatsapp/status-webhook`: what became of a session, by what it is called where it runs.

use std::net::IpAddr;

use axum::{Extension, extract::State, http::HeaderMap, response::IntoResponse};

use super::{
    ok,
    receiver::{ReceiptView, secret_header},
};
use crate::{
    http::{
        body::Posted, client::Client, error::ApiError, fields::Parameters,
        idempotency::idempotency_key, limit::Meters,
    },
    service::{self, External},
};

#[tracing::instrument(name = "http.status_webhook.report", skip_all)]
pub(super) async fn report(
    State(external): State<External>,
    State(meters): State<Meters>,
    client: Option<Extension<Client>>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Posted,
) -> Result<impl IntoResponse, ApiError> {
    let client: Option<IpAddr> = client.map(|Extension(Client(address))| address);
    // People choose this key: guessing it must take long.
    meters.may_try(client)?;
    let admitted = external.may_report(secret_header(&headers));
    if matches!(admitted, Err(service::Error::Unauthenticated)) {
        meters.failed(client);
    }
    admitted?;
    parameters.finish()?;
    let key = idempotency_key(&headers)?;
    let receipt = external.report(&body.members()?, key.as_deref()).await?;
    Ok(ok(ReceiptView::from(receipt)))
}
