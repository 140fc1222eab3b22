//! One change of a configuration or a credential. Written with the change, and never changed.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{AuditId, OrganizationId, TokenId},
    kind::AuditAction,
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditId,
    /// Whose configuration it is.
    pub organization_id: OrganizationId,
    pub action: AuditAction,
    /// The id of what was changed.
    pub target: String,
    /// What it was changed to, as a JSON object. Never a secret.
    pub detail: String,
    /// Who changed it. An operator's token may belong to another organization.
    pub token_id: Option<TokenId>,
    /// From where, as an IP address.
    pub address: Option<String>,
    pub at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
