//! One phone number of an organization at Meta's Cloud API.

use sea_orm::entity::prelude::*;

use super::state::MetaStatus;
use crate::{
    UnixMillis,
    id::{MetaAccountId, OrganizationId, SessionKey},
};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "meta_account")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MetaAccountId,
    #[sea_orm(unique_key = "organization_number")]
    pub organization_id: OrganizationId,
    pub label: Option<String>,
    /// Meta's id of the number, which events name. Digits.
    #[sea_orm(unique_key = "organization_number")]
    #[sea_orm(unique_key = "app_number")]
    pub phone_number_id: String,
    /// Meta's id of the business account that the number is of. Digits.
    pub waba_id: Option<String>,
    /// The number itself, for people.
    pub display_phone_number: Option<String>,
    pub app_id: Option<String>,
    /// What events are signed with; sealed. None for the installation's.
    pub app_secret: Option<Vec<u8>>,
    /// A keyed hash of the app's secret, empty for the installation's: one app has a number once.
    #[sea_orm(unique_key = "app_number")]
    pub app_print: String,
    /// The secret before; sealed.
    pub previous_secret: Option<Vec<u8>>,
    /// Until when it is good.
    pub previous_until: Option<UnixMillis>,
    /// What the Graph API is called with; sealed.
    pub access_token: Option<Vec<u8>>,
    /// A keyed hash of what Meta shows in a challenge.
    pub verify_hash: String,
    /// The address, or its path, that Meta was told.
    pub callback_path: String,
    /// The last part of the path that is this account's alone.
    #[sea_orm(unique)]
    pub callback_key: String,
    pub status: MetaStatus,
    pub last_verified_at: Option<UnixMillis>,
    /// The session that its messages are kept under; none before the first.
    #[sea_orm(indexed)]
    pub session_key: Option<SessionKey>,
    /// When Meta told something last, if nothing came for so long that its owner was told so.
    pub silent_since: Option<UnixMillis>,
    /// Since when it has this number and app, if another organization had the number before. What is older is the other's.
    pub claimed_at: Option<UnixMillis>,
    /// Another number after every change.
    pub version: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl ActiveModelBehavior for ActiveModel {}
