//! What a lane of a writer has committed last.

use sea_orm::entity::prelude::*;

use crate::{UnixMillis, id::LaneId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "writer_lane")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: LaneId,
    /// Counts the groups that the lane has tried: written by the group itself.
    pub last_group: i64,
    pub written_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
