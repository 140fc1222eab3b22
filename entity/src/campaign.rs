//! A bulk send, so far as it is known: its name, and the session that it is sent from.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{CampaignId, OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CampaignId,
    pub organization_id: OrganizationId,
    pub name: String,
    /// None when nobody has said from which, or it was deleted.
    pub session_key: Option<SessionKey>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
