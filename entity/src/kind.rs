//! What kinds of things happen, and of what kind a message is.

use schemars::JsonSchema;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// What happened, by the names that streams and webhooks use.
///
/// Stored as text and part of the contract: a name is never reused for something else.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum EventKind {
    /// A pairing QR code, at each rotation.
    Qr,
    /// Pairing was accepted by the phone.
    Authenticated,
    /// Progress between pairing or login and `ready`.
    LoadingScreen,
    /// Connected and logged in.
    Ready,
    /// The connection changed without ending for good: dialling, lost, coming back.
    ChangeState,
    /// An end that will not mend by itself.
    Disconnected,
    /// WhatsApp refused the pairing, the credentials or the client.
    AuthFailure,
    /// A pairing code was given, to be typed on the phone.
    PairingCode,
    /// A try to pair did not come about.
    PairingFailed,
    /// WhatsApp asks for a passkey to complete the pairing.
    PasskeyRequested,
    /// The session belongs to another account than before.
    AccountChanged,
    /// A message to this account.
    Message,
    /// A message from this account: sent here, on the phone or on another linked device.
    MessageCreate,
    /// An outbound message came further.
    MessageAck,
    /// A message that could not be decrypted, so far.
    MessageCiphertext,
    /// A voice or video call.
    Call,
    /// Somebody came into a group.
    GroupJoin,
    /// Somebody left a group, or was removed from it.
    GroupLeave,
    /// A group was changed: its name, its picture, its settings.
    GroupUpdate,
    /// Something that a client which runs elsewhere, or Meta, has told, and that has no name here.
    Unknown,
}

/// What was changed of a configuration or a credential, in the audit log.
///
/// Stored as text and part of the contract: a name is never reused for something else.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum AuditAction {
    OrganizationCreated,
    OrganizationChanged,
    TokenCreated,
    TokenRevoked,
    // It is good for a while yet, beside the one in its place. Without that while it is revoked.
    TokenRotated,
    // What is about the daemon and all its tenants is in the first organization's log.
    MasterKeyRotated,
    ConfigurationChanged,
    SessionCreated,
    SessionChanged,
    SessionStarted,
    SessionStopped,
    SessionRestarted,
    SessionPairing,
    SessionLoggedOut,
    SessionMigrated,
    // Asked for, and done: between them its device is unlinked.
    SessionDeletionAsked,
    SessionDeleted,
    SessionSecretRotated,
    WebhookCreated,
    WebhookChanged,
    WebhookPaused,
    WebhookResumed,
    WebhookDisabled,
    WebhookDeleted,
    WebhookSecretRotated,
    WebhookReplayed,
    WebhookReplayCancelled,
    CampaignCreated,
    CampaignChanged,
    CampaignAudienceAdded,
    MetaAccountCreated,
    MetaAccountChanged,
    MetaAccountStatusSet,
    MetaAccountVerified,
    MetaVerifyTokenRotated,
    MetaAccountDeleted,
    MetaEventsReprocessed,
}

/// Of what kind a message is. What we do not know is kept raw, as `Unsupported`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum MessageKind {
    Text,
    Image,
    Video,
    Audio,
    Document,
    Sticker,
    Location,
    Contact,
    /// Words that Meta has approved, sent by their name.
    Template,
    Poll,
    PollVote,
    Reaction,
    Edit,
    Revoke,
    Unsupported,
}

impl MessageKind {
    /// Whether a message of this kind comes with a file.
    pub const fn has_media(self) -> bool {
        matches!(self, Self::Image | Self::Video | Self::Audio | Self::Document | Self::Sticker)
    }
}
