//! Endpoints that are asked for under an idempotency key: made once, however often it is asked.

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId},
    webhook::{endpoint, state::EndpointState},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use super::Webhooks;
use crate::store::{
    Error, Made, Patience,
    idempotency::{self, Claimed, Key},
};

/// What an earlier request with this key came to; none when there was none: the key is `row`'s then.
pub(super) async fn made_before(
    txn: &DatabaseTransaction,
    row: &endpoint::Model,
    key: &Key,
    now: UnixMillis,
) -> Result<Option<Made<endpoint::Model>>, DbErr> {
    let owner = &row.organization_id;
    Ok(match idempotency::claim(txn, owner, key, row.id.as_str(), now).await? {
        Claimed::Free => None,
        Claimed::Reused => Some(Made::KeyReused),
        Claimed::Made { resource_id } => {
            let made = endpoint::Entity::find()
                .filter(endpoint::COLUMN.organization_id.eq(owner.clone()))
                .filter(endpoint::COLUMN.id.eq(resource_id))
                .filter(endpoint::Column::State.ne(EndpointState::Deleted))
                .one(txn)
                .await?;
            Some(made.map_or(Made::KeyReused, Made::Before))
        }
    })
}

impl Webhooks {
    /// Lets a key stand for an endpoint that was there before it was asked for.
    pub async fn keep_key(
        &self,
        organization: &OrganizationId,
        id: &EndpointId,
        key: Key,
    ) -> Result<Made<()>, Error> {
        let now = self.store.clock().now();
        let (lane, organization, id) = (organization.to_string(), organization.clone(), id.clone());
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, id, key) = (organization.clone(), id.clone(), key.clone());
                Box::pin(async move {
                    let claimed =
                        idempotency::claim(txn, &organization, &key, id.as_str(), now).await?;
                    Ok(match claimed {
                        Claimed::Free => Made::New(()),
                        Claimed::Made { resource_id } if resource_id == id.as_str() => {
                            Made::Before(())
                        }
                        Claimed::Made { .. } | Claimed::Reused => Made::KeyReused,
                    })
                })
            })
            .await
    }
}
