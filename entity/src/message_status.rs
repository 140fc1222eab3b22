//! A status that a message which went out has reached, as Meta told it: once, whether the message is known or not.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message_status")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_key: SessionKey,
    /// Meta's id of the message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub wa_id: String,
    /// Meta's word.
    #[sea_orm(primary_key, auto_increment = false)]
    pub status: String,
    /// Which member of a group; empty for a person's.
    #[sea_orm(primary_key, auto_increment = false)]
    pub participant: String,
    pub organization_id: OrganizationId,
    /// -1 failed, 1 sent, 2 delivered, 3 read, 4 played; 0 for a word that is not known.
    pub level: i16,
    pub occurred_at: UnixMillis,
    /// Meta's code of why it failed.
    pub error: Option<String>,
    /// What it costs, as Meta has written it: JSON.
    pub pricing: Option<String>,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
