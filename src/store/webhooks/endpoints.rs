//! A tenant's endpoints, to be looked at and to be called.

use std::{collections::BTreeMap, sync::Arc};

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId},
    organization,
    webhook::{
        endpoint, gap, health, secret,
        state::{EndpointState, Format},
    },
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Webhooks, sealed};
use crate::{
    store::{Error, Patience},
    webhook::SigningSecret,
};

/// All that calling an endpoint takes. Its secrets are open.
#[derive(Clone, Debug)]
pub struct Target {
    pub row: endpoint::Model,
    pub headers: BTreeMap<String, String>,
    /// With when each ceases to be one; the newest first.
    pub secrets: Vec<(SigningSecret, Option<UnixMillis>)>,
    /// Its organization's number.
    pub client_id: i64,
    /// Its URL as it is kept: by it is known whether it is elsewhere by now.
    pub kept_url: Arc<str>,
}

/// Which endpoints are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointFilter {
    pub state: Option<EndpointState>,
    pub format: Option<Format>,
}

impl Webhooks {
    /// Looks an endpoint up that is not deleted.
    pub async fn find(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
    ) -> Result<Option<endpoint::Model>, Error> {
        let found = endpoint::Entity::find_by_id(id.clone())
            .filter(endpoint::COLUMN.organization_id.eq(organization.clone()))
            .filter(endpoint::Column::State.ne(EndpointState::Deleted))
            .one(self.store.reader())
            .await?;
        self.opened_if(found).await
    }

    /// An organization's endpoints after this one, the oldest first.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        filter: EndpointFilter,
        after: Option<&EndpointId>,
        limit: u64,
    ) -> Result<Vec<endpoint::Model>, Error> {
        let mut query = endpoint::Entity::find()
            .filter(endpoint::COLUMN.organization_id.eq(organization.clone()))
            .filter(endpoint::Column::State.ne(EndpointState::Deleted))
            .order_by_asc(endpoint::COLUMN.id)
            .limit(limit);
        if let Some(state) = filter.state {
            query = query.filter(endpoint::Column::State.eq(state));
        }
        if let Some(format) = filter.format {
            query = query.filter(endpoint::Column::Format.eq(format));
        }
        if let Some(after) = after {
            query = query.filter(endpoint::COLUMN.id.gt(after.clone()));
        }
        let mut rows = query.all(self.store.reader()).await?;
        for row in &mut rows {
            *row = self.opened(row.clone()).await?;
        }
        Ok(rows)
    }

    /// What is remembered of how endpoints answer. One that was never called is missing.
    pub async fn healths(&self, ids: &[EndpointId]) -> Result<Vec<health::Model>, Error> {
        let rows = health::Entity::find()
            .filter(health::COLUMN.endpoint_id.is_in(ids.iter().cloned()))
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// The times during which an endpoint was owed nothing, the newest first.
    pub async fn gaps(&self, id: &EndpointId) -> Result<Vec<gap::Model>, Error> {
        let rows = gap::Entity::find()
            .filter(gap::COLUMN.endpoint_id.eq(id.clone()))
            .order_by_desc(gap::COLUMN.id)
            .limit(20)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// The secrets that requests to an endpoint are signed with, the newest first.
    pub(super) async fn secrets(&self, id: &EndpointId) -> Result<Vec<secret::Model>, Error> {
        let rows = secret::Entity::find()
            .filter(secret::COLUMN.endpoint_id.eq(id.clone()))
            .order_by_desc(secret::COLUMN.id)
            .all(self.store.reader())
            .await?;
        Ok(rows)
    }

    /// All that calling an endpoint takes; none if it is not there any more.
    pub async fn target(&self, id: &EndpointId) -> Result<Option<Target>, Error> {
        let found = endpoint::Entity::find_by_id(id.clone()).one(self.store.reader()).await?;
        let Some(row) = found else { return Ok(None) };
        let organization = self.store.organizations().find(&row.organization_id).await?;
        let Some(organization::Model { client_id, .. }) = organization else { return Ok(None) };
        let sealer = self.store.sealer(&row.organization_id, Patience::Fail).await?;
        let unreadable = |error: &crate::vault::OpenError| {
            tracing::error!(
                error = error as &dyn std::error::Error,
                webhook.endpoint = %row.id,
                "A secret of a webhook endpoint does not open"
            );
        };
        let Ok(headers) = sealed::open_headers(&sealer, &row).inspect_err(unreadable) else {
            return Ok(None);
        };
        let mut secrets = Vec::new();
        for sealed in self.secrets(id).await? {
            match sealed::open_secret(&sealer, &sealed).inspect_err(unreadable) {
                Ok(secret) => secrets.push((secret, sealed.expires_at)),
                Err(_) => return Ok(None),
            }
        }
        let kept_url = row.url.as_str().into();
        let row = self.opened(row).await?;
        Ok(Some(Target { row, headers, secrets, client_id, kept_url }))
    }
}
