//! A bearer token. The secret itself is nowhere: only its hash is kept.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    state::Role,
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TokenId,
    /// Whose it is; an operator's token belongs to the organization that it acts in by default.
    pub organization_id: OrganizationId,
    pub role: Role,
    /// SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, so it needs no salt.
    #[sea_orm(unique)]
    pub secret_hash: String,
    pub label: String,
    pub created_at: UnixMillis,
    pub expires_at: Option<UnixMillis>,
    pub revoked_at: Option<UnixMillis>,
    /// To the minute, as not every use is written down.
    pub last_used_at: Option<UnixMillis>,
    /// When another one first took its place and left it some time: `expires_at` is the end of that from then on.
    pub replaced_at: Option<UnixMillis>,
    /// When it would end if no other had; never, if there is no time. Only of one that was replaced.
    pub own_expires_at: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
