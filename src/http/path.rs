//! The variable parts of an address.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use entity::id::{
    CampaignId, ConversationId, DeliveryId, EndpointId, MessageId, MetaAccountId, MetaEventId,
    OrganizationId, ReplayId, SessionId, TokenId,
};

use super::{error::ApiError, problem::Problem};
use crate::service::{self, Thing};

/// `{sessionId}`
#[derive(Clone, Debug)]
pub(crate) struct SessionPath(pub(crate) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        parameter(parts, state, "sessionId").await?.parse().map(Self).map_err(
            |error: entity::id::ParseIdError| {
                Problem::invalid_field("sessionId", error.to_string()).into()
            },
        )
    }
}

/// An id that only we can have made: one that we cannot have made is one that is not there.
macro_rules! ours {
    ($($(#[$doc:meta])* $path:ident($id:ty): $parameter:literal, $thing:ident);* $(;)?) => {
        $($(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $path(pub(crate) $id);

        impl<S: Send + Sync> FromRequestParts<S> for $path {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                <$id>::from_str(&parameter(parts, state, $parameter).await?)
                    .map(Self)
                    .map_err(|_| service::Error::NotFound(Thing::$thing).into())
            }
        })*
    };
}

ours! {
    /// `{messageId}`
    MessagePath(MessageId): "messageId", Message;
    /// `{organizationId}`
    OrganizationPath(OrganizationId): "organizationId", Organization;
    /// `{tokenId}`
    TokenPath(TokenId): "tokenId", Token;
    /// `{webhookId}`
    EndpointPath(EndpointId): "webhookId", Webhook;
    /// `{replayId}`
    ReplayPath(ReplayId): "replayId", Replay;
    /// `{conversationId}`
    ConversationPath(ConversationId): "conversationId", Conversation;
    /// `{campaignId}`
    CampaignPath(CampaignId): "campaignId", Campaign;
    /// `{deliveryId}`
    DeliveryPath(DeliveryId): "deliveryId", Delivery;
    /// `{accountId}`
    MetaAccountPath(MetaAccountId): "accountId", MetaAccount;
    /// `{metaEventId}`
    MetaEventPath(MetaEventId): "metaEventId", MetaEvent;
}

pub(crate) async fn parameter<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &str,
) -> Result<String, ApiError> {
    // Fails when the address is not UTF-8 once its escapes are read.
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::invalid_field(name, "must be UTF-8"))?;
    let found = parameters.iter().find(|(key, _)| *key == name);
    Ok(found.map(|(_, value)| value.to_owned()).unwrap_or_default())
}
