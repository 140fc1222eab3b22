//! A key that seals an organization's secrets, itself wrapped by the master key.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::OrganizationId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "data_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    /// Counts the organization's keys from 1; the highest seals.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub wrapped: Vec<u8>,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
