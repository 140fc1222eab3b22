//! Tokens: opaque secrets that callers show, of which only hashes are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::{
    UnixMillis,
    id::{OrganizationId, TokenId},
    state::Role,
    token,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    Conflict, Error, FieldError, Principal, Thing,
    created::{self, Created},
    text,
};
use crate::{
    clock::Clock,
    store::{
        Made, Store,
        page::{Page, Position},
        tokens::{NewToken, Rotated, USE_GRANULARITY},
    },
};

pub use crate::store::tokens::{Adopted, State, is_valid};

/// What every secret starts with, so that scanners for leaked secrets know it.
const PREFIX: &str = "wag_";

/// No secret is longer; what is longer is not even hashed.
const LONGEST: usize = 256;

/// The longest label, in characters.
pub const LONGEST_LABEL: usize = 128;

/// How long a request waits for the note that its token is used. It goes on without it.
const NOTE_TIME: Duration = Duration::from_secs(1);

/// How long it takes at most until who waits hears that another process has revoked his token.
const CHECK: Duration = Duration::from_secs(5);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct CreateToken {
    pub role: Role,
    /// What it is for, for people. May be empty.
    pub label: String,
    pub expires_at: Option<UnixMillis>,
}

/// A page of tokens, the oldest first.
#[derive(Clone, Debug)]
pub struct Listing {
    pub tokens: Vec<token::Model>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<TokenId>>,
}

/// Who may call.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
    /// When the use of a token was last noted, by this process.
    noted: Arc<Mutex<HashMap<TokenId, UnixMillis>>>,
    /// Rings when this process has revoked a token.
    revoked: watch::Sender<()>,
}

impl Tokens {
    pub fn new(store: Store) -> Self {
        let revoked = watch::Sender::new(());
        Self { store, noted: Arc::default(), revoked }
    }

    /// Whether this is written as a token is.
    pub fn is_written_so(secret: &str) -> bool {
        secret.starts_with(PREFIX)
    }

    /// Makes a token in the caller's organization, of at most the caller's role, and its secret.
    ///
    /// There is no secret when an earlier request with the same key made the token: it is not kept.
    pub async fn create(
        &self,
        caller: &Principal,
        create: CreateToken,
        key: Option<String>,
    ) -> Result<(Created<token::Model>, Option<String>), Error> {
        caller.require(Role::Admin.max(create.role))?;
        let mut errors = Vec::new();
        let label = text::label("label", &create.label, 0..=LONGEST_LABEL);
        if create.expires_at.is_some_and(|at| at <= self.store.clock().now()) {
            errors.push(FieldError::new("expiresAt", "must be in the future"));
        }
        let label = label.unwrap_or_else(|error| {
            errors.push(error);
            String::new()
        });
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let expires = create.expires_at.map(|at| at.0.to_string()).unwrap_or_default();
        let role = format!("{:?}", create.role);
        let key = key.map(|key| created::key(key, &["token", &role, &label, &expires]));
        let secret = Self::new_secret();
        let new = NewToken {
            role: create.role,
            secret_hash: hash(&secret),
            label,
            expires_at: create.expires_at,
        };
        let tokens = self.store.tokens();
        let made = tokens.create(&caller.organization_id, new, key, caller.by()).await?;
        let secret = matches!(made, Made::New(_)).then_some(secret);
        Ok((made.try_into()?, secret))
    }

    /// Lists the tokens of the caller's organization, as far as their roles are not above his.
    pub async fn list(
        &self,
        caller: &Principal,
        (role, state): (Option<Role>, Option<State>),
        page: Page<TokenId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Admin)?;
        let roles = [Role::Viewer, Role::Manager, Role::Admin, Role::Operator];
        let is_wanted = |it: &Role| *it <= caller.role && role.is_none_or(|role| role == *it);
        let roles = roles.into_iter().filter(is_wanted).collect();
        let (tokens, organization) = (self.store.tokens(), &caller.organization_id);
        let mut tokens = tokens.list(organization, roles, state, &page.one_more()).await?;
        let next = page.cut(&mut tokens, |row| Position { at: row.created_at, id: row.id.clone() });
        Ok(Listing { tokens, next })
    }

    /// One token.
    pub async fn find(&self, caller: &Principal, id: &TokenId) -> Result<token::Model, Error> {
        caller.require(Role::Admin)?;
        let token = self.store.tokens().find(&caller.organization_id, id).await?;
        token.filter(|token| token.role <= caller.role).ok_or(Error::NotFound(Thing::Token))
    }

    /// Revokes a token from now on.
    pub async fn revoke(&self, caller: &Principal, id: &TokenId) -> Result<token::Model, Error> {
        let token = self.find(caller, id).await?;
        self.store.tokens().revoke(&token.organization_id, id, caller.by()).await?;
        self.revoked.send_replace(());
        self.find(caller, id).await
    }

    /// Makes a token in the place of one, with its role, label and end, and the new one's secret. The old one is good for
    /// `overlap` more: who loses the answer can ask again with it.
    ///
    /// There is no secret when an earlier request with the same key has done it: it is not kept.
    pub async fn rotate(
        &self,
        caller: &Principal,
        id: &TokenId,
        overlap: Duration,
        key: Option<String>,
    ) -> Result<(Created<token::Model>, Option<String>), Error> {
        let old = self.find(caller, id).await?;
        let seconds = overlap.as_secs().to_string();
        let key = key.map(|key| created::key(key, &["token.rotate", id.as_str(), &seconds]));
        let secret = Self::new_secret();
        let (organization, new) = (&old.organization_id, (hash(&secret), overlap));
        let rotated = self.store.tokens().rotate(organization, id, new, key, caller.by()).await?;
        let Rotated::Made(made) = rotated else {
            return Err(Error::Conflict(Conflict::TokenEnded));
        };
        if overlap.is_zero() {
            self.revoked.send_replace(());
        }
        let secret = matches!(made, Made::New(_)).then_some(secret);
        Ok((made.try_into()?, secret))
    }

    /// Notes that a token is used: not each time, but once for each [`USE_GRANULARITY`].
    async fn note(&self, token: &token::Model, now: UnixMillis) {
        let is_due = |last: UnixMillis| now.since(last) >= USE_GRANULARITY;
        if !token.last_used_at.is_none_or(is_due) {
            return;
        }
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if !noted.get(&token.id).copied().is_none_or(is_due) {
                return;
            }
            noted.insert(token.id.clone(), now);
        }
        let tokens = self.store.tokens();
        let note = tokens.touch(&token.organization_id, &token.id);
        // A database that cannot be written to is no reason not to answer.
        if !matches!(tokio::time::timeout(NOTE_TIME, note).await, Ok(Ok(()))) {
            tracing::debug!(token.id = %token.id, "The use of a token could not be noted");
        }
    }

    /// Makes a secret: 256 random bits. It is nowhere but in the answer.
    pub fn new_secret() -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// What is kept of a secret.
    pub fn hash(secret: &str) -> String {
        hash(secret)
    }

    /// Says who shows this secret.
    ///
    /// Unknown, expired and revoked are one answer. Looking a hash up leaks nothing by its timing
    /// that would help to find the secret.
    pub async fn authenticate(&self, secret: &str) -> Result<Principal, Error> {
        if secret.len() > LONGEST {
            return Err(Error::Unauthenticated);
        }
        let token = self.store.tokens().find_by_hash(&hash(secret)).await?;
        let now = self.store.clock().now();
        let Some(token) = token.filter(|token| is_valid(token, now)) else {
            return Err(Error::Unauthenticated);
        };
        self.note(&token, now).await;
        Ok(Principal {
            organization_id: token.organization_id,
            token_id: Some(token.id),
            role: token.role,
            address: None,
            machine_user: None,
        })
    }

    /// Refuses a caller whose token has ceased to be good since he was let in. For what goes on for long.
    pub async fn recheck(&self, caller: &Principal) -> Result<(), Error> {
        let Some(id) = &caller.token_id else { return Ok(()) };
        let token = self.store.tokens().find_anywhere(id).await?;
        let now = self.store.clock().now();
        let token = token.filter(|token| is_valid(token, now)).ok_or(Error::Unauthenticated)?;
        self.note(&token, now).await;
        Ok(())
    }

    /// Rings when some token was revoked by this process: whoever waits with one looks whether it was his.
    pub fn revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }

    /// Waits for the caller's token to cease to be good. Never ends while the database is away.
    pub async fn until_refused(&self, caller: &Principal) -> Error {
        let mut revocations = self.revocations();
        loop {
            if let Err(error @ Error::Unauthenticated) = self.recheck(caller).await {
                return error;
            }
            // Rung or not, it is time to look.
            tokio::time::timeout(CHECK, revocations.changed()).await.ok();
        }
    }

    /// The holder of what a token has vouched for in an organization: with `role`, which is what is
    /// vouched for, as long as the token is good and may still do that there.
    pub async fn vouch(
        &self,
        id: &TokenId,
        organization: &OrganizationId,
        role: Role,
    ) -> Result<Principal, Error> {
        let token = self.store.tokens().find_anywhere(id).await?;
        let now = self.store.clock().now();
        let is_good = |token: &token::Model| {
            let acts_there = token.organization_id == *organization || token.role == Role::Operator;
            is_valid(token, now) && acts_there && token.role >= role
        };
        let token = token.filter(is_good).ok_or(Error::SignatureInvalid)?;
        Ok(Principal {
            organization_id: organization.clone(),
            token_id: Some(token.id),
            role,
            address: None,
            machine_user: None,
        })
    }

    /// What time it is.
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// Lets the secret of the operator's file be a token of an operator, if it may be.
    ///
    /// It is in a file before it is in the database: a crash between the two, or a new database, is mended at the next
    /// start. `is_fresh` is whether the database was never told of it.
    pub async fn adopt(
        &self,
        organization: &OrganizationId,
        (label, secret): (&str, &str),
        is_fresh: bool,
    ) -> Result<Adopted, Error> {
        let new = NewToken {
            role: Role::Operator,
            secret_hash: hash(secret),
            label: label.to_owned(),
            expires_at: None,
        };
        Ok(self.store.tokens().adopt(organization, new, is_fresh).await?)
    }
}

/// SHA-256 in hexadecimal: the secret is random enough to need neither salt nor stretching.
fn hash(secret: &str) -> String {
    text::hex(&Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognisable_and_differ() {
        let secret = Tokens::new_secret();
        assert!(secret.starts_with("wag_"));
        assert_eq!(secret.len(), PREFIX.len() + 43);
        assert_ne!(secret, Tokens::new_secret());
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
