//! What an `Idempotency-Key` made, so that a repeated request makes nothing new.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::OrganizationId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// SHA-256 of the request, in hexadecimal: the same key with another request is refused.
    pub fingerprint: String,
    /// The id of what was made.
    pub resource_id: String,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
