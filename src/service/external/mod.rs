//! Sessions that run elsewhere: what their clients post becomes events like any other.
//!
//! - `post.rs`, `names.rs`, `messages.rs`, `media.rs`: from the words of whatsapp-web.js and of the seeds to ours; pure.
//!   `members.rs`, `address.rs`: how that is read.
//! - `data.rs`: what callers keep with such a session.
//! - `statuses.rs`: the same for the status webhook.
//! - `record.rs`: what becomes of it, and how a repetition is known.
//!
//! Here: who may post.

mod address;
mod data;
mod media;
mod members;
mod messages;
mod names;
mod post;
mod record;
mod statuses;

use std::{borrow::Cow, fmt, sync::Arc};

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionId},
    session,
    state::{DesiredState, Origin, ReceiverAuth, Role, SessionStatus},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub use self::data::{LONGEST as LONGEST_DATA, LONGEST_ID as LONGEST_VPS_ID, session_data};
use super::{Conflict, Error, Principal, Thing};
use crate::{
    store::{
        Store,
        sessions::{Created, NewExternal, NewSession, Receiver, own_address},
    },
    webhook::{SigningSecret, is_fresh, is_same, verify},
};

/// What the operator has decided about sessions that run elsewhere.
#[derive(Clone, Default)]
pub struct Policy {
    /// What whoever reports a status must show.
    pub key: Option<Zeroizing<String>>,
    /// Whether anybody may report one where there is no key.
    pub allow_open: bool,
    /// Whether a session whose events are posted with a token is made if it is not there.
    pub auto_create: bool,
    /// The number of the organization whose sessions are reported of by who shows no token; none for any, of which the
    /// first to call a session so counts.
    pub reports_of: Option<i64>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").finish_non_exhaustive()
    }
}

/// What whoever posts an event shows.
#[derive(Clone)]
pub enum Proof {
    Token(Principal),
    /// The session's secret.
    Secret(Zeroizing<String>),
    /// A signature of Standard Webhooks.
    Signature {
        id: String,
        /// Seconds since 1970.
        timestamp: i64,
        signatures: String,
    },
    Nothing,
}

// What is shown must not get into a log by accident.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Secret(_) => "Secret(…)",
            Self::Signature { .. } => "Signature(…)",
            Self::Nothing => "Nothing",
        })
    }
}

/// Whose event is posted.
#[derive(Clone, Debug)]
pub enum Admitted {
    Session(Box<session::Model>),
    /// A session that is yet to be made.
    New {
        caller: Principal,
        id: SessionId,
    },
}

/// What a client calls its request, so that a repetition is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// An `Idempotency-Key`: of this request, and of no other.
    Key(String),
    /// What a signed request is called.
    Id(String),
}

/// What became of something posted.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub session_id: SessionId,
    /// The event's name, as its client has it.
    pub event: String,
    pub outcome: Outcome,
    /// Whether the name means something here.
    pub is_known: bool,
    /// What the session is after it.
    pub status: SessionStatus,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Recorded {
        seq: i64,
    },
    /// It was recorded before, or more than it: a level that was reached.
    Duplicate,
    /// Something newer is known of the session's state.
    Older,
    /// There is nothing in it to record by now: the message that is acknowledged is not known yet, or is not the
    /// account's.
    Nothing,
}

/// What is posted by clients elsewhere.
#[derive(Clone, Debug)]
pub struct External {
    store: Store,
    policy: Arc<Policy>,
}

impl External {
    pub fn new(store: Store, policy: Policy) -> Self {
        Self { store, policy: Arc::new(policy) }
    }

    /// What time it is.
    pub fn now(&self) -> UnixMillis {
        self.store.clock().now()
    }

    /// The same under another policy.
    #[must_use]
    pub fn with(self, policy: Policy) -> Self {
        Self { policy: Arc::new(policy), ..self }
    }

    /// The session whose events may be posted with this. [`Error::NotFound`] of one that is yet to be made.
    pub async fn verify(
        &self,
        proof: &Proof,
        id: &SessionId,
        body: &[u8],
    ) -> Result<session::Model, Error> {
        match self.admit(proof, id, body).await? {
            Admitted::Session(row) => Ok(*row),
            Admitted::New { .. } => Err(Error::NotFound(Thing::Session)),
        }
    }

    /// The session whose event is posted, if it may be.
    pub async fn admit(
        &self,
        proof: &Proof,
        id: &SessionId,
        body: &[u8],
    ) -> Result<Admitted, Error> {
        let now = self.store.clock().now();
        match proof {
            Proof::Nothing => Err(Error::Unauthenticated),
            Proof::Token(caller) => self.of_token(caller, id).await,
            Proof::Secret(shown) => {
                self.of_secret(id, ReceiverAuth::Secret, |secret| secret.is(shown)).await
            }
            Proof::Signature { id: message, timestamp, signatures } => {
                let at = now.as_secs();
                self.of_secret(id, ReceiverAuth::Signature, |secret| {
                    verify(secret, message, *timestamp, signatures, body, at).is_ok()
                })
                .await
            }
        }
    }

    /// Refuses what cannot be signed well, whatever is signed: its time is over, or nothing here is signed.
    pub async fn may_sign(&self, id: &SessionId, timestamp: i64) -> Result<(), Error> {
        let is_fresh = is_fresh(timestamp, self.store.clock().now().as_secs());
        let may = |row: &session::Model| row.receiver_auth == Some(ReceiverAuth::Signature);
        if is_fresh && self.store.sessions().with_secret(id).await?.iter().any(may) {
            Ok(())
        } else {
            Err(Error::Unauthenticated)
        }
    }

    async fn of_token(&self, caller: &Principal, id: &SessionId) -> Result<Admitted, Error> {
        caller.require(Role::Manager)?;
        let sessions = self.store.sessions();
        let Some(row) = sessions.find(&caller.organization_id, id).await? else {
            return if self.policy.auto_create {
                Ok(Admitted::New { caller: caller.clone(), id: id.clone() })
            } else {
                Err(Error::NotFound(Thing::Session))
            };
        };
        if row.origin != Origin::External {
            return Err(Error::Conflict(Conflict::SessionEmbedded));
        }
        if row.receiver_auth != Some(ReceiverAuth::Token) {
            return Err(Error::Conflict(Conflict::ReceiverAuth));
        }
        Ok(Admitted::Session(Box::new(row)))
    }

    /// The session with this id whose secret is the one that is meant. Its organization is not named, so there
    /// may be several with the id. That there is none is not told.
    async fn of_secret(
        &self,
        id: &SessionId,
        auth: ReceiverAuth,
        fits: impl Fn(&SigningSecret) -> bool + Send,
    ) -> Result<Admitted, Error> {
        let (sessions, now) = (self.store.sessions(), self.store.clock().now());
        for row in sessions.with_secret(id).await? {
            if row.receiver_auth == Some(auth)
                && sessions.receiver_secrets(&row, now).await?.iter().any(&fits)
            {
                return Ok(Admitted::Session(Box::new(row)));
            }
        }
        Err(Error::Unauthenticated)
    }

    async fn create(&self, caller: &Principal, id: &SessionId) -> Result<session::Model, Error> {
        let new = NewSession {
            session_id: id.clone(),
            user_id: None,
            phone_number: None,
            desired_state: DesiredState::Stopped,
            is_notification: None,
            ai_config: None,
            external: Some(NewExternal {
                data: None,
                receiver: Receiver { auth: ReceiverAuth::Token, secret: None },
            }),
        };
        let sessions = self.store.sessions();
        let organization = &caller.organization_id;
        match sessions.create(organization, new, None, caller.by()).await? {
            Created::New(row) | Created::Before(row) => Ok(*row),
            Created::TooMany { .. } => Err(Error::Conflict(Conflict::TooManySessions)),
            // Another request was faster.
            Created::Exists | Created::VpsTaken | Created::KeyReused | Created::Gone => {
                let found = sessions.find(organization, id).await?;
                found.ok_or(Error::NotFound(Thing::Session))
            }
        }
    }

    /// Records what a session's client has posted; where the session is yet to be made, that is done first, once
    /// it is clear that something can be read.
    pub async fn receive(
        &self,
        admitted: Admitted,
        body: &Map<String, Value>,
        called: Option<Called>,
    ) -> Result<Receipt, Error> {
        let own = match &admitted {
            Admitted::Session(row) => own_address(row).map(Cow::into_owned),
            Admitted::New { .. } => None,
        };
        let post = post::read(body, self.store.clock().now(), own.as_deref());
        let post = post.map_err(Error::Invalid)?;
        let row = match admitted {
            Admitted::Session(row) => *row,
            Admitted::New { caller, id } => self.create(&caller, &id).await?,
        };
        self.record(&row, post, body, called).await
    }

    /// Whether this is the operator's key of the status webhook.
    pub fn is_key(&self, shown: &str) -> bool {
        self.policy.key.as_ref().is_some_and(|key| is_same(key, shown))
    }

    /// Refuses whoever does not show the key of the status webhook, if there is one.
    pub fn may_report(&self, shown: Option<&str>) -> Result<(), Error> {
        match (&self.policy.key, shown) {
            (Some(_), Some(shown)) if self.is_key(shown) => Ok(()),
            (Some(_), _) => Err(Error::Unauthenticated),
            (None, _) if self.policy.allow_open => Ok(()),
            (None, _) => Err(Error::Conflict(Conflict::StatusWebhookClosed)),
        }
    }

    /// Whether anybody may report, whatever he shows.
    pub fn is_open(&self) -> bool {
        self.policy.key.is_none()
    }

    /// Records a status, of the session that is called as the post says where it runs: one of `organization`, if whoever
    /// reports has named one by what he shows; else of the one that the operator has named for that.
    pub async fn report(
        &self,
        organization: Option<&OrganizationId>,
        body: &Map<String, Value>,
        called: Option<Called>,
    ) -> Result<Receipt, Error> {
        let now = self.store.clock().now();
        let (id, post) = statuses::read(body, now).map_err(Error::Invalid)?;
        let named = match (organization, self.policy.reports_of) {
            (Some(organization), _) => Some(organization.clone()),
            (None, None) => None,
            (None, Some(number)) => {
                let found = self.store.organizations().find_by_client_id(number).await?;
                Some(found.ok_or(Error::NotFound(Thing::Session))?.id)
            }
        };
        let found = self.store.sessions().find_by_vps_session_id(&id, named.as_ref()).await?;
        let row = found.ok_or(Error::NotFound(Thing::Session))?;
        self.record(&row, post, body, called).await
    }
}
