//! What the daemon can be asked to do, whoever asks.
//!
//! A service checks that the caller may, applies the rules, and talks to the store and to running
//! sessions. It knows nothing of HTTP; `http` is one way to ask, and does nothing by itself.
//!
//! Every call names its caller, a [`Principal`]; what belongs to another organization is not there.

pub mod audience;
pub mod audit;
mod bell;
pub mod campaigns;
pub mod contacts;
pub(crate) mod counting;
pub mod created;
pub mod events;
pub mod external;
pub mod health;
pub mod media;
pub mod messages;
pub mod meta;
pub mod metrics;
pub mod organizations;
pub mod recipient;
pub mod refusal;
pub mod sessions;
pub mod signatures;
pub mod text;
pub mod tokens;
pub mod webhooks;

use std::{net::IpAddr, time::Duration};

use entity::{
    id::{OrganizationId, SessionId, TokenId},
    state::{Role, SessionStatus},
};

use crate::{
    clock::Clock,
    delivery::Deliveries,
    event::PairingFailure,
    graph,
    session::{self, PairError, SendError},
    store::{self, Store, audit::By, handover::Obstacle},
};

pub use audit::Audit;
pub use campaigns::Campaigns;
pub use contacts::Contacts;
pub use events::Events;
pub use external::External;
pub use health::Health;
pub use media::Media;
pub use messages::Messages;
pub use meta::Meta;
pub use metrics::Metrics;
pub use organizations::Organizations;
pub use refusal::{Conflict, Thing};
pub use sessions::Sessions;
pub use signatures::Signatures;
pub use tokens::Tokens;
pub use webhooks::Webhooks;
// Lists are paged as the store pages them.
pub use store::page;

/// When to come back after what passes within moments: a full inbox, a timeout.
const SOON: Duration = Duration::from_secs(1);

/// When to come back after what takes a while: a database that is away, a restart.
const LATER: Duration = Duration::from_secs(5);

/// All that can be asked.
#[derive(Clone, Debug)]
pub struct Services {
    pub sessions: Sessions,
    pub messages: Messages,
    pub media: Media,
    pub events: Events,
    pub tokens: Tokens,
    pub signatures: Signatures,
    pub organizations: Organizations,
    pub audit: Audit,
    pub health: Health,
    pub metrics: Metrics,
    pub webhooks: Webhooks,
    pub campaigns: Campaigns,
    pub external: External,
    pub meta: Meta,
    pub contacts: Contacts,
}

impl Services {
    /// Services over the store, the running sessions and the engine that calls webhook endpoints, which
    /// tries for `max_age` at most.
    pub fn new(
        store: &Store,
        manager: session::Sessions,
        deliveries: &Deliveries,
        max_age: Duration,
        meta: meta::Options,
    ) -> Self {
        let tokens = Tokens::new(store.clone());
        let messages = Messages::new(store.clone(), manager.clone());
        let meta = Meta::new(store.clone(), meta);
        Self {
            media: Media::new(store.clone(), messages.clone(), manager.clone(), meta.graph()),
            signatures: Signatures::new(store.clone(), tokens.clone()),
            sessions: Sessions::new(store.clone(), manager.clone()),
            messages,
            events: Events::new(store.clone()),
            tokens,
            organizations: Organizations::new(store.clone()),
            audit: Audit::new(store.clone()),
            health: Health::new(store.clone(), manager.clone()),
            metrics: Metrics::new(store.clone(), manager, deliveries.clone(), meta.clone()),
            webhooks: Webhooks::new(store.clone(), deliveries.clone(), max_age),
            campaigns: Campaigns::new(store.clone()),
            external: External::new(store.clone(), external::Policy::default()),
            contacts: Contacts::new(store.clone()),
            meta,
        }
    }

    /// The same with what the operator has decided about sessions that run elsewhere.
    #[must_use]
    pub fn with_external(mut self, policy: external::Policy) -> Self {
        self.external = self.external.with(policy);
        self
    }

    /// The same where a lock keeps other daemons out: `is_held` says whether it is ours.
    #[must_use]
    pub fn with_lock(mut self, is_held: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.health = self.health.with_lock(is_held);
        self
    }

    /// What time it is.
    pub fn clock(&self) -> &Clock {
        self.tokens.clock()
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose sessions these are: nothing else can be seen.
    pub organization_id: OrganizationId,
    /// None for who is at the machine itself.
    pub token_id: Option<TokenId>,
    pub role: Role,
    /// Where the request comes from, as far as that is known.
    pub address: Option<IpAddr>,
    /// What the system calls them, at the command line.
    pub machine_user: Option<String>,
}

impl Principal {
    /// Whoever can read the database: the operator, at the command line, as this user of the system.
    pub fn at_the_machine(organization_id: OrganizationId, user: String) -> Self {
        let machine_user = Some(user);
        Self { organization_id, token_id: None, role: Role::Operator, address: None, machine_user }
    }

    /// Who does something, for the audit log.
    pub fn by(&self) -> By {
        By {
            token_id: self.token_id.clone(),
            address: self.address,
            machine_user: self.machine_user.clone(),
        }
    }

    /// Refuses callers below `role`.
    pub fn require(&self, role: Role) -> Result<(), Error> {
        if self.role >= role { Ok(()) } else { Err(Error::Forbidden { needs: role }) }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where, as a JSON pointer: `/to`. Path and query parameters are written the same way.
    pub pointer: String,
    /// What, for people. Never repeats the value.
    pub detail: String,
}

impl FieldError {
    /// `detail` is wrong with the member called `name`.
    pub fn new(name: &str, detail: impl Into<String>) -> Self {
        Self { pointer: format!("/{name}"), detail: detail.into() }
    }
}

/// Why a request to a service was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such {}", .0.word())]
    NotFound(Thing),

    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),

    /// A state forbids it.
    #[error(transparent)]
    Conflict(#[from] Conflict),

    #[error("the session is not connected")]
    NotConnected { status: SessionStatus },

    /// It starts no more; `to` is who has taken over, unless that was deleted just now.
    #[error("another session of the account has taken over")]
    Migrated { to: Option<SessionId> },

    /// Sessions that were named cannot hand over, and why.
    #[error("sessions that were named cannot hand over: see `sessions`")]
    NotHandedOver(Vec<(SessionId, Obstacle)>),

    #[error("the idempotency key was used for another request")]
    KeyReused,

    /// It is not made again.
    #[error("what the request with this idempotency key made is gone")]
    MadeGone,

    #[error("{}", .failure.sentence())]
    PairingRefused { failure: PairingFailure, retry_after: Option<Duration> },

    #[error("a pairing code for another number was given and is still good")]
    PairingOutstanding { remaining: Duration },

    #[error("a valid bearer token is needed")]
    Unauthenticated,

    /// The signature of an address is not one of ours, or what it stood on is gone.
    #[error("the signature does not fit this address, or its token or session is gone")]
    SignatureInvalid,

    #[error("the signed address has expired")]
    SignatureExpired,

    #[error("the token's role does not allow this")]
    Forbidden { needs: Role },

    /// Something of Meta's was not taken.
    #[error(transparent)]
    Meta(#[from] meta::Refusal),

    /// Another daemon runs the session, and did not answer. `node` is what people call it.
    #[error("another daemon runs the session, and did not answer")]
    Elsewhere { node: String },

    /// Meta does not do what it was asked, or cannot be asked.
    #[error(transparent)]
    Graph(#[from] graph::Error),

    #[error(transparent)]
    Media(#[from] media::MediaError),

    /// So many wait for receivers at a time.
    #[error("the organization has as many tests of endpoints under way as it may have")]
    TooManyTests,

    /// It will pass.
    #[error("{what}")]
    Unavailable { what: &'static str, retry_after: Duration },

    #[error("the database is not available")]
    StoreUnavailable(#[source] store::Error),

    #[error("the database failed")]
    Store(#[source] store::Error),

    #[error("the WhatsApp client failed")]
    Client(#[source] session::Error),
}

impl Error {
    /// One member of the request is wrong.
    pub fn invalid(name: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(name, detail)])
    }

    /// When asking again makes sense, for what passes.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            Self::Media(media::MediaError::Unavailable(obstacle)) => Some(obstacle.retry_after()),
            Self::Graph(graph::Error::Refused(refusal)) if refusal.is_passing() => {
                Some(refusal.after.unwrap_or(LATER))
            }
            Self::Graph(error) if error.is_passing() || error.is_unknown() => Some(LATER),
            Self::StoreUnavailable(_) => Some(LATER),
            Self::Elsewhere { .. } | Self::TooManyTests => Some(SOON),
            Self::PairingRefused { retry_after, .. } => *retry_after,
            Self::PairingOutstanding { remaining } => Some(*remaining),
            _ => None,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Database(_) => Self::Store(error),
            store::Error::Unavailable(_) | store::Error::Stopped => Self::StoreUnavailable(error),
            store::Error::TooLong => Self::Unavailable {
                what: "the database needs too long for this at the moment",
                retry_after: LATER,
            },
            store::Error::LeaseLost => {
                Self::Unavailable { what: "the session has changed its owner", retry_after: SOON }
            }
        }
    }
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::NotFound => Self::NotFound(Thing::Session),
            session::Error::NotRunning => Self::Conflict(Conflict::SessionNotRunning),
            session::Error::NotConnected { status } => Self::NotConnected { status },
            session::Error::Elsewhere { node } => Self::Elsewhere { node },
            session::Error::NoLease => Self::Unavailable {
                what: "the database was away; the sessions are being taken over again",
                retry_after: LATER,
            },
            session::Error::AlreadyPaired => Self::Conflict(Conflict::SessionAlreadyPaired),
            session::Error::Busy => {
                Self::Unavailable { what: "the session is busy", retry_after: SOON }
            }
            session::Error::Stopping => {
                Self::Unavailable { what: "the daemon is stopping", retry_after: LATER }
            }
            session::Error::Timeout => {
                Self::Unavailable { what: "the session did not answer in time", retry_after: SOON }
            }
            session::Error::Media(error) => error.into(),
            session::Error::Store(error) => error.into(),
            session::Error::Pair(error) => error.into(),
            session::Error::Send(SendError::PutOff { after, .. }) => Self::Unavailable {
                what: "WhatsApp does not take messages from this account for the moment",
                retry_after: after.unwrap_or(LATER),
            },
            session::Error::Send(SendError::NotOnWhatsApp) => {
                Self::invalid("to", SendError::NotOnWhatsApp.to_string())
            }
            error @ session::Error::Send(_) => Self::Client(error),
        }
    }
}

impl From<PairError> for Error {
    fn from(error: PairError) -> Self {
        match error {
            PairError::InvalidPhoneNumber => {
                Self::invalid("phoneNumber", "WhatsApp does not take this phone number")
            }
            PairError::Outstanding { remaining } => Self::PairingOutstanding { remaining },
            PairError::Refused { failure, retry_after } => {
                Self::PairingRefused { failure, retry_after }
            }
            PairError::Unreachable => {
                Self::Unavailable { what: "WhatsApp did not answer in time", retry_after: SOON }
            }
        }
    }
}
