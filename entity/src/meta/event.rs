//! One thing that Meta told: a message, a status, or whatever else.

use sea_orm::entity::prelude::*;

use super::state::MetaEventState;
use crate::{
    UnixMillis,
    id::{MetaAccountId, MetaBodyId, MetaEventId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MetaEventId,
    #[sea_orm(unique_key = "organization_dedup")]
    pub organization_id: OrganizationId,
    /// The number it is about. None if it is about no number, or about one that nobody has set up.
    pub account_id: Option<MetaAccountId>,
    pub body_id: MetaBodyId,
    /// Where in the body: entry, change and item, each counted from 0, as `0.2.17`.
    pub place: String,
    /// Meta's id of what it is about: a message's, a call's, else the entry's.
    pub object_id: Option<String>,
    /// What it is: `message`, `status`, …; the change's field for what has no other word.
    pub event_type: String,
    /// Of what kind within its type: `text`, `delivered`, …
    pub subtype: Option<String>,
    /// It names a number that nobody has set up.
    pub is_unrouted: bool,
    /// When Meta says that it happened.
    pub event_ts: UnixMillis,
    /// What makes a repetition recognisable as the same.
    #[sea_orm(unique_key = "organization_dedup")]
    pub dedup_key: String,
    /// What follows from it is in the database.
    pub processed: bool,
    pub processed_at: Option<UnixMillis>,
    pub state: MetaEventState,
    /// Of what has the same one, the earlier is carried out first: a conversation, as a hash.
    pub lane: String,
    /// How often it was tried in vain.
    pub attempts: i32,
    /// It is not tried before; at once when it is 0.
    pub next_at: UnixMillis,
    /// Of whoever has it in hand: what he does without it counts for nothing.
    pub claim: Option<i64>,
    /// The daemon that has it in hand.
    pub claimed_by: Option<String>,
    /// Until when nobody else takes it.
    pub lease_until: UnixMillis,
    /// Why the last try was in vain, in a stable word.
    pub error: Option<String>,
    /// How much of it is carried out, of what is so large that it is done in steps: messages, or people.
    pub progress: i32,
    pub created_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
