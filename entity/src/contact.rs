//! Somebody who writes to an organization, or is written to.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{ContactId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "contact")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ContactId,
    pub organization_id: OrganizationId,
    /// What they call themselves, as it was last seen.
    pub name: Option<String>,
    /// What they are called by at WhatsApp in place of a number: `@realsheenanelson`.
    pub username: Option<String>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
