//! A tenant.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::OrganizationId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organization")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OrganizationId,
    /// The small integer that webhook payloads carry.
    #[sea_orm(unique)]
    pub client_id: i64,
    pub name: String,
    /// Sequence number of the organization's newest event. Events take theirs from here inside
    /// their own transaction, so a reader never sees a number before a smaller one.
    pub last_seq: i64,
    /// The highest sequence number that retention has deleted: whoever resumes before it has missed
    /// something.
    pub retired_seq: i64,
    /// Another number after every change of the organization's webhook endpoints; 0 while it has never
    /// had one. Read with the sequence number, so that what is known of them costs no query.
    pub webhook_version: i64,
    pub created_at: UnixMillis,
    /// At most so many sessions; as many as it likes when there is no number.
    pub max_sessions: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
