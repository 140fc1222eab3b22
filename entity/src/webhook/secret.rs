//! A secret that requests to an endpoint are signed with. Several may be live at a time.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{EndpointId, SecretId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_secret")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SecretId,
    pub endpoint_id: EndpointId,
    /// The key's bytes; sealed.
    pub secret: Vec<u8>,
    pub created_at: UnixMillis,
    /// None for the newest.
    pub expires_at: Option<UnixMillis>,
}

impl ActiveModelBehavior for ActiveModel {}
