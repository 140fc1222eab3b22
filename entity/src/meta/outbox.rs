//! A message that is to be sent through Meta: here until it is known what became of it.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{MessageId, MetaAccountId, OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta_outbox")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: MessageId,
    pub organization_id: OrganizationId,
    pub account_id: MetaAccountId,
    /// Of one session and one chat, the earlier is sent first.
    pub session_key: SessionKey,
    /// The conversation's address when the message was taken.
    pub chat: String,
    /// How often Meta did not take it for the moment.
    pub attempts: i32,
    /// It is not sent before; at once when it is 0.
    pub next_at: UnixMillis,
    /// Of whoever has it in hand.
    pub claim: Option<i64>,
    /// The daemon that has it in hand.
    pub claimed_by: Option<String>,
    /// Until when nobody else takes it.
    pub lease_until: UnixMillis,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
