//! Tokens: opaque secrets that callers show, of which only hashes are kept.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::{
    id::{OrganizationId, TokenId},
    state::Role,
};
use sha2::{Digest, Sha256};

use super::{Error, Principal};
use crate::store::{
    Store,
    tokens::{Added, NewToken},
};

/// What every secret starts with, so that scanners for leaked secrets know it.
const PREFIX: &str = "wag_";

/// No secret is longer; what is longer is not even hashed.
const LONGEST: usize = 256;

/// Who may call.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Store,
}

impl Tokens {
    pub const fn new(store: Store) -> Self {
        Self { store }
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
        token
            .filter(|token| token.revoked_at.is_none_or(|at| now < at))
            .filter(|token| token.expires_at.is_none_or(|at| now < at))
            .map(|token| Principal {
                organization_id: token.organization_id,
                token_id: token.id,
                role: token.role,
            })
            .ok_or(Error::Unauthenticated)
    }

    /// Lets `secret` be a token, as it may be already.
    ///
    /// For the operator's token, which is in a file before it is in the database: a crash between
    /// the two, or a new database, is mended at the next start.
    pub async fn adopt(
        &self,
        organization: &OrganizationId,
        role: Role,
        label: &str,
        secret: &str,
    ) -> Result<Option<TokenId>, Error> {
        let new =
            NewToken { role, secret_hash: hash(secret), label: label.to_owned(), expires_at: None };
        Ok(match self.store.tokens().add(organization, new).await? {
            Added::New(id) => Some(id),
            Added::Known => None,
        })
    }
}

/// SHA-256 in hexadecimal: the secret is random enough to need neither salt nor stretching.
fn hash(secret: &str) -> String {
    super::text::hex(&Sha256::digest(secret.as_bytes()))
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
