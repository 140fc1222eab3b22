//! One to whom a campaign goes, and how far their message has come.

use sea_orm::entity::prelude::*;

use crate::{
    UnixMillis,
    id::{AudienceId, CampaignId, OrganizationId, SessionKey},
    state::AudienceState,
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign_audience")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AudienceId,
    pub organization_id: OrganizationId,
    #[sea_orm(unique_key = "campaign_number")]
    pub campaign_id: CampaignId,
    /// Digits only, with country code.
    #[sea_orm(unique_key = "campaign_number")]
    pub phone_number: String,
    pub name: Option<String>,
    /// The session that their message was sent from; none before it is known.
    #[sea_orm(unique_key = "session_wa")]
    pub session_key: Option<SessionKey>,
    /// Meta's id of their message.
    #[sea_orm(unique_key = "session_wa")]
    pub wa_id: Option<String>,
    /// What follows from the next two, and from whether a message is known.
    pub state: AudienceState,
    /// The highest level reached: 0 none, 1 sent, 2 delivered, 3 read, 4 played.
    pub reached: i16,
    /// Meta has said that it failed.
    pub is_failed: bool,
    /// Meta's code of why.
    pub error: Option<String>,
    pub sent_at: Option<UnixMillis>,
    pub delivered_at: Option<UnixMillis>,
    pub read_at: Option<UnixMillis>,
    pub played_at: Option<UnixMillis>,
    pub failed_at: Option<UnixMillis>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
