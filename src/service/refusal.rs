//! What is not there and what stands in the way, as closed sets.

/// A kind of thing that callers ask for by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Session,
    Message,
    Organization,
    Token,
    Webhook,
    Delivery,
    Replay,
    Campaign,
    Conversation,
    MetaAccount,
    MetaEvent,
}

impl Thing {
    /// What people call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Message => "message",
            Self::Organization => "organization",
            Self::Token => "token",
            Self::Webhook => "webhook",
            Self::Delivery => "delivery",
            Self::Replay => "replay",
            Self::Campaign => "campaign",
            Self::Conversation => "conversation",
            Self::MetaAccount => "account at Meta",
            Self::MetaEvent => "event of Meta's",
        }
    }
}

/// A state that forbids what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Conflict {
    #[error("a session with this id exists")]
    SessionExists,
    #[error("the organization has as many sessions as it may have")]
    TooManySessions,
    #[error("the session is linked to an account, whose phone number it has")]
    PhoneNumberKnown,
    #[error("nobody has said from which session the campaign is sent, so it has no messages")]
    CampaignWithoutSession,
    #[error("the campaign is sent from another session")]
    CampaignHasSession,
    #[error("the session runs elsewhere: only its events come here")]
    SessionExternal,
    #[error("the session was never connected: whose number it has is not known")]
    SessionNeverConnected,
    #[error("the session runs here: nobody else can tell what happens on it")]
    SessionEmbedded,
    #[error("the session's events are let in by its own secret, not by a token: see `webhookAuth`")]
    ReceiverAuth,
    #[error("the session's events are let in by a token: there is no secret")]
    NoSecret,
    #[error("another session of the organization has this `vps_session_id`")]
    VpsSessionExists,
    #[error(
        "nobody may report a status: set `external.webhook_secret_key`, or `external.allow_open` to \
         let everybody"
    )]
    StatusWebhookClosed,
    #[error("the token is revoked or expired: nothing can take its place")]
    TokenEnded,
    /// As the seed has it.
    #[error("Sessão já existente")]
    UserConnected,
    #[error("the session is stopped: start it first")]
    SessionNotRunning,
    #[error("the session is linked to an account: log out first")]
    SessionAlreadyPaired,
    #[error("the organization has as many webhook endpoints as it may have")]
    TooManyWebhooks,
    #[error("the endpoint is disabled: resume it first")]
    WebhookDisabled,
    #[error("the event is being delivered at this moment")]
    DeliveryInFlight,
    #[error("the event is older than what is kept")]
    EventRetired,
    #[error("the organization has as many replays running as it may have")]
    TooManyReplays,
    #[error("the replay has come to its end")]
    ReplayEnded,
    #[error("the organization has as many accounts at Meta as it may have")]
    TooManyMetaAccounts,
    #[error("the phone number is not available")]
    MetaNumberTaken,
    #[error("the account lacks some of its configuration: see `missing`")]
    MetaAccountIncomplete,
    #[error("the account is disabled: nothing is sent from it")]
    MetaAccountOff,
    #[error(
        "the account has no access token, or it does not open: nothing can be asked of Meta for it"
    )]
    MetaNoToken,
}
