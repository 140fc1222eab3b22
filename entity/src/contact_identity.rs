//! One of the things that somebody is called by. In an organization it is one person's.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{ContactId, OrganizationId},
    state::IdentityKind,
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "contact_identity")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: IdentityKind,
    #[sea_orm(primary_key, auto_increment = false)]
    pub value: String,
    pub contact_id: ContactId,
    pub created_at: UnixMillis,
    /// Of a user id: the business account that was told it. Meta calls nobody by two of them at one business. (They are of a
    /// portfolio, which may have several accounts; which of them are of one is not known here.)
    pub waba_id: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
