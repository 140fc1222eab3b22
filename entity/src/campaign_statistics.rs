//! How many of a campaign's audience have come how far: the sums of its members' rows.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{CampaignId, OrganizationId},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign_statistics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub campaign_id: CampaignId,
    pub organization_id: OrganizationId,
    pub audience: i64,
    /// Those whose message is known.
    pub attached: i64,
    /// Those whose message has come at least so far.
    pub sent: i64,
    pub delivered: i64,
    pub read: i64,
    pub played: i64,
    /// Those whose message has failed, and is not known to have been delivered.
    pub failed: i64,
    pub updated_at: UnixMillis,
    /// How often they were counted anew.
    pub recounts: i64,
}

impl ActiveModelBehavior for ActiveModel {}
