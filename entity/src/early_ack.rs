//! An acknowledgement that a client elsewhere has told of before the message that it is of: it waits for that.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::SessionKey};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "early_ack")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_key: SessionKey,
    /// WhatsApp's id of the message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub wa_id: String,
    /// The highest level that was told: -1 error, 0 not left yet, 1 sent, 2 delivered, 3 read, 4 played.
    pub level: i16,
    /// The conversation, as the acknowledgement names it; empty where it does not.
    pub chat: String,
    pub acknowledged_by: String,
    pub error: Option<String>,
    pub occurred_at: UnixMillis,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
