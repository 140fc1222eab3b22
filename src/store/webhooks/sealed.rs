//! The secrets of endpoints, sealed and open.

use std::collections::BTreeMap;

use entity::{
    id::{EndpointId, SecretId},
    webhook::{endpoint, secret},
};

use crate::{
    vault::{Column, OpenError, Part, Sealer},
    webhook::SigningSecret,
};

const HEADERS: Column = Column::new("webhook_endpoint", "headers");
const SECRET: Column = Column::new("webhook_secret", "secret");

/// Seals the headers of an endpoint; none if there are none.
pub(super) fn seal_headers(
    sealer: &Sealer,
    endpoint: &EndpointId,
    headers: &BTreeMap<String, String>,
) -> Option<Vec<u8>> {
    // Strings only: nothing here can fail to be written.
    let json = serde_json::to_vec(headers).unwrap_or_default();
    (!headers.is_empty()).then(|| sealer.seal(HEADERS, &[Part::from(endpoint.as_str())], &json))
}

/// The headers of an endpoint.
pub(super) fn open_headers(
    keys: &Sealer,
    row: &endpoint::Model,
) -> Result<BTreeMap<String, String>, OpenError> {
    let Some(sealed) = &row.headers else { return Ok(BTreeMap::new()) };
    let json = keys.open(HEADERS, &[Part::from(row.id.as_str())], sealed)?;
    serde_json::from_slice(&json).map_err(|_| OpenError::Altered)
}

pub(super) fn seal_secret(sealer: &Sealer, id: &SecretId, secret: &SigningSecret) -> Vec<u8> {
    sealer.seal(SECRET, &[Part::from(id.as_str())], secret.as_bytes())
}

pub(super) fn open_secret(
    sealer: &Sealer,
    row: &secret::Model,
) -> Result<SigningSecret, OpenError> {
    let bytes = sealer.open(SECRET, &[Part::from(row.id.as_str())], &row.secret)?;
    Ok(SigningSecret::from_bytes(bytes))
}
