//! All that a session and a contact, or a group, have written to each other.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{ContactId, ConversationId, OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "conversation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ConversationId,
    pub organization_id: OrganizationId,
    #[sea_orm(unique_key = "session_chat")]
    pub session_key: SessionKey,
    /// The address that its messages have. It stays when the contact comes to be called otherwise.
    #[sea_orm(unique_key = "session_chat")]
    pub chat: String,
    /// None of a group.
    pub contact_id: Option<ContactId>,
    /// When the newest message was written.
    pub last_message_at: UnixMillis,
    /// When they wrote last: a day from then on they can be answered in any words.
    pub last_inbound_at: Option<UnixMillis>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
