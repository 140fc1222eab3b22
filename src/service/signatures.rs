//! Signed addresses: what a browser's tag may load without a token, for a while.
//!
//! An address is signed for one organization, by one token, until a second. It opens what it names and
//! nothing else, for as long as all of these are what they were: the address to the byte, the session that it
//! is about (one made anew under the same id is another), and the token that asked for it, which may be revoked
//! at any moment and takes its addresses with it. Nothing is kept of them: the signature says it all. Its
//! key is the organization's, in the vault.

use std::{str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::{
    UnixMillis,
    id::{OrganizationId, SessionId, TokenId},
    state::Role,
};

use super::{Error, Principal, Tokens};
use crate::store::{Patience, Store};

/// What the key is made for.
const PURPOSE: &str = "signed address";

/// How long an address is good, usually and at most.
pub const USUAL: Duration = Duration::from_mins(5);
pub const LONGEST: Duration = Duration::from_hours(1);

/// What is signed: a method and an address, and the session that it is about, by the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub method: &'a str,
    /// Path and query, as the caller will send them.
    pub address: &'a str,
    pub session_made_at: UnixMillis,
}

/// What is added to an address, and until when it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub signature: String,
    pub expires_at: UnixMillis,
}

/// Signs addresses, and says whether they are.
#[derive(Clone, Debug)]
pub struct Signatures {
    store: Store,
    tokens: Tokens,
}

impl Signatures {
    pub const fn new(store: Store, tokens: Tokens) -> Self {
        Self { store, tokens }
    }

    /// Signs an address for whoever is given it, for [`LONGEST`] at most. None without a token, which it would
    /// end with. Asked for twice until the same time, it is the same.
    pub async fn sign(
        &self,
        caller: &Principal,
        subject: Subject<'_>,
        until: UnixMillis,
    ) -> Result<Option<Signed>, Error> {
        let Some(token) = &caller.token_id else { return Ok(None) };
        let end = until.min(self.store.clock().now() + LONGEST);
        // Whole seconds, not fewer than asked for.
        let seconds = end.0.div_euclid(1000) + i64::from(end.0.rem_euclid(1000) > 0);
        let claims = format!("{seconds}.{}.{token}", caller.organization_id);
        let sealer = self.store.sealer(&caller.organization_id, Patience::Fail).await?;
        let signature = sealer.sign(PURPOSE, &message(subject, &claims));
        Ok(Some(Signed {
            signature: format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature)),
            expires_at: UnixMillis(seconds * 1000),
        }))
    }

    /// Whoever shows this signature with this address, about this session: a caller with `role` and the
    /// organization and token of the signature.
    ///
    /// Whatever is wrong but the time is one answer, so that nobody learns from it what there is.
    pub async fn open(
        &self,
        (method, address): (&str, &str),
        session: &SessionId,
        signature: &str,
        role: Role,
    ) -> Result<Principal, Error> {
        let shown = Shown::read(signature).ok_or(Error::SignatureInvalid)?;
        // The signature first: of what is made up nothing more is asked than which session it is about.
        let row = self.store.sessions().find(&shown.organization, session).await?;
        let session_made_at = row.ok_or(Error::SignatureInvalid)?.created_at;
        let subject = Subject { method, address, session_made_at };
        let sealer = self.store.sealer(&shown.organization, Patience::Fail).await?;
        if !sealer.is_signed(PURPOSE, &message(subject, shown.claims), &shown.signature) {
            return Err(Error::SignatureInvalid);
        }
        let caller = self.tokens.vouch(&shown.token, &shown.organization, role).await?;
        if shown.expires_at <= self.store.clock().now() {
            return Err(Error::SignatureExpired);
        }
        Ok(caller)
    }
}

/// A signature as it is shown, before it is believed.
struct Shown<'a> {
    /// All before the signature itself, to the byte.
    claims: &'a str,
    expires_at: UnixMillis,
    organization: OrganizationId,
    token: TokenId,
    signature: Vec<u8>,
}

impl<'a> Shown<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (claims, signature) = text.rsplit_once('.')?;
        let mut parts = claims.split('.');
        let seconds = i64::from_str(parts.next()?).ok()?;
        let organization = parts.next()?.parse().ok()?;
        let token = parts.next()?.parse().ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        parts.next().is_none().then_some(())?;
        let expires_at = UnixMillis(seconds.checked_mul(1000)?);
        Some(Self { claims, expires_at, organization, token, signature })
    }
}

/// What is signed, as bytes. Parts are counted, so they do not run together.
fn message(subject: Subject<'_>, claims: &str) -> Vec<u8> {
    let Subject { method, address, session_made_at } = subject;
    let made_at = session_made_at.0.to_string();
    let mut bytes = Vec::with_capacity(256);
    for part in [method, address, &made_at, claims] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_not_run_parts_together() {
        let of = |address, claims| {
            message(Subject { method: "GET", address, session_made_at: UnixMillis(1) }, claims)
        };
        assert_ne!(of("/a", "1.b"), of("/a1", ".b"));
        assert_ne!(of("/a", "1.b"), of("/a", "1.c"));
    }

    #[test]
    fn what_is_no_signature_is_not_read() {
        let ids = "org_01JJ2Q8ZK4XG0V3M5N7P9R1T3V.tok_01JJ2Q8ZK4XG0V3M5N7P9R1T3V";
        assert!(Shown::read(&format!("17.{ids}.AAAA")).is_some());
        for bad in [
            String::new(),
            "....".to_owned(),
            format!("17.{ids}"),
            format!("17.{ids}.AAAA.AAAA"),
            format!("17.{ids}.A*"),
            format!("9223372036854775807.{ids}.AAAA"),
            format!("x.{ids}.AAAA"),
        ] {
            assert!(Shown::read(&bad).is_none(), "{bad}");
        }
    }
}
