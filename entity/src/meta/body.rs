//! What Meta has posted, as it came: all of one request that is one organization's.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{MetaBodyId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta_body")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MetaBodyId,
    #[sea_orm(unique_key = "organization_hash")]
    pub organization_id: OrganizationId,
    /// SHA-256 of the whole request's body, in hexadecimal: Meta sends the same bytes again.
    #[sea_orm(unique_key = "organization_hash")]
    pub sha256: String,
    /// Sealed. The request's body, unless parts of it were others': what is left of it then.
    pub body: Vec<u8>,
    /// Bytes of `body` in clear.
    pub size: i32,
    /// Parts were others', and are not in it.
    pub is_part: bool,
    /// What it was signed by, as the header had it.
    pub signature: String,
    pub received_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
