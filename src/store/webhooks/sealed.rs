//! The secrets of endpoints, sealed and open.

use std::collections::BTreeMap;

use entity::{
    id::{EndpointId, OrganizationId, SecretId},
    webhook::{endpoint, secret},
};

use super::Webhooks;
use crate::{
    store::{Error, Patience},
    vault::{Column, OpenError, Part, Sealer},
    webhook::SigningSecret,
};

/// Also in the notices that are of an endpoint: the same sealed text.
const URL: Column = Column::new("webhook_endpoint", "url");
const HEADERS: Column = Column::new("webhook_endpoint", "headers");
const SECRET: Column = Column::new("webhook_secret", "secret");

/// Seals where an endpoint is: its path may be all that keeps others from calling it.
pub(in crate::store) fn seal_url(sealer: &Sealer, endpoint: &EndpointId, url: &str) -> String {
    sealer.seal_text(URL, &[Part::from(endpoint.as_str())], url)
}

/// Whether that is sealed.
pub(in crate::store) fn is_url_sealed(sealer: &Sealer, row: &endpoint::Model) -> bool {
    sealer.open_text(URL, &[Part::from(row.id.as_str())], &row.url).is_ok()
}

/// Where an endpoint is. Nowhere, if that does not open: a list must not stop at a row that somebody has damaged.
pub(in crate::store) fn open_url(sealer: &Sealer, endpoint: &EndpointId, stored: &str) -> String {
    match sealer.open_text(URL, &[Part::from(endpoint.as_str())], stored) {
        Ok(url) => url,
        // Of before it was sealed; or of one that is deleted, and empty.
        Err(OpenError::NotSealed) => stored.to_owned(),
        Err(err) => {
            tracing::error!(
                error = &err as &dyn std::error::Error,
                webhook.endpoint = %endpoint,
                "The address of a webhook endpoint does not open"
            );
            String::new()
        }
    }
}

/// Opens where the endpoint is that a notice tells of, in its payload.
pub(in crate::store) fn open_notice(sealer: &Sealer, payload: &mut String) {
    let Ok(mut data) = serde_json::from_str::<serde_json::Value>(payload) else { return };
    let id = data.get("endpointId").and_then(|id| id.as_str()?.parse::<EndpointId>().ok());
    let url = data.get("url").and_then(|url| Some(url.as_str()?.to_owned()));
    if let (Some(id), Some(url)) = (id, url) {
        data["url"] = open_url(sealer, &id, &url).into();
        *payload = data.to_string();
    }
}

/// Seals where the endpoint is, in the payload of a notice of before that was sealed. False if there is nothing to seal.
pub(in crate::store) fn seal_old_notice(sealer: &Sealer, payload: &mut String) -> bool {
    let Ok(mut data) = serde_json::from_str::<serde_json::Value>(payload) else { return false };
    let id = data.get("endpointId").and_then(|id| id.as_str()?.parse::<EndpointId>().ok());
    let url = data.get("url").and_then(|url| Some(url.as_str()?.to_owned()));
    let (Some(id), Some(url)) = (id, url) else { return false };
    if url.is_empty() || sealer.open_text(URL, &[Part::from(id.as_str())], &url).is_ok() {
        return false;
    }
    data["url"] = seal_url(sealer, &id, &url).into();
    *payload = data.to_string();
    true
}

impl Webhooks {
    /// The secrets of an endpoint, each with what its owner can tell it by: none of one that does not open.
    pub async fn known_secrets(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
    ) -> Result<Vec<(secret::Model, Option<String>)>, Error> {
        let sealer = self.store.sealer(organization, Patience::Fail).await?;
        let rows = self.secrets(id).await?;
        let told = |row: secret::Model| {
            let fingerprint = open_secret(&sealer, &row).ok().map(|it| it.fingerprint());
            (row, fingerprint)
        };
        Ok(rows.into_iter().map(told).collect())
    }

    /// An endpoint as its owner knows it.
    pub(super) async fn opened(&self, mut row: endpoint::Model) -> Result<endpoint::Model, Error> {
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        row.url = open_url(&sealer, &row.id, &row.url);
        Ok(row)
    }

    /// The same for one that may not be there.
    pub(super) async fn opened_if(
        &self,
        row: Option<endpoint::Model>,
    ) -> Result<Option<endpoint::Model>, Error> {
        match row {
            Some(row) => Ok(Some(self.opened(row).await?)),
            None => Ok(None),
        }
    }
}

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
