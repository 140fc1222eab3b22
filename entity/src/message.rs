//! A message of a session's account, in or out.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{MessageId, OrganizationId, SessionKey},
    kind::MessageKind,
    state::{Direction, MessageStatus},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageId,
    pub organization_id: OrganizationId,
    #[sea_orm(unique_key = "session_dedupe")]
    pub session_key: SessionKey,
    /// Chat, sender and WhatsApp's id in one: the id alone is not unique.
    #[sea_orm(unique_key = "session_dedupe")]
    pub dedupe_key: String,
    /// WhatsApp's id of the message; for outbound ones chosen by us, before anything is sent.
    pub wa_id: String,
    /// Address of the conversation: a person's, a group's, a channel's.
    pub chat: String,
    /// Address of who wrote it.
    pub sender: String,
    /// Of one that was received, the account's address, as far as it was known. None of those of before there was this column.
    pub recipient: Option<String>,
    pub direction: Direction,
    pub kind: MessageKind,
    /// Text, caption, or what stands for it.
    pub body: Option<String>,
    /// Of one that came by Meta's Cloud API: what was chosen, ordered or shown in it, as JSON in Meta's words.
    pub interaction: Option<String>,
    /// For reactions, edits, revokes and replies: WhatsApp's id of the message meant.
    pub target_wa_id: Option<String>,
    /// The protobuf message as it came, for what we do not read (yet). Of a session that runs elsewhere, what its client
    /// says of the message's file, as JSON.
    pub raw: Option<Vec<u8>>,
    /// Where the phone has put its media when it was asked for it again: a path at WhatsApp's media hosts.
    pub media_path: Option<String>,
    pub push_name: Option<String>,
    /// When WhatsApp says that it was written.
    pub sent_at: UnixMillis,
    /// Delivered from the server's offline queue.
    pub offline: bool,
    /// Handed over by the phone after a pairing: nobody was told of it.
    pub history: bool,
    pub status: MessageStatus,
    /// Highest level reached: -1 error, 0 none, 1 sent, 2 delivered, 3 read, 4 played.
    pub ack: i16,
    /// Why it failed, or why it waits to be sent again, in a stable word: WhatsApp's code or one of ours.
    pub error: Option<String>,
    /// How often it was sent and WhatsApp did not take it, or did not say so.
    pub failed_attempts: i16,
    /// When WhatsApp first asked to have it later.
    pub put_off_since: Option<UnixMillis>,
    /// It is not sent again before; means nothing once it is not queued any more.
    pub next_attempt_at: Option<UnixMillis>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
