//! Signatures as Standard Webhooks 1.0 has them.
//!
//! `webhook-signature` is a list of `v1,<base64 of HMAC-SHA256>`, one for each live secret, over
//! `{webhook-id}.{webhook-timestamp}.{body}`. A secret is written as `whsec_` and base64.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac};
use zeroize::Zeroizing;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret: the standard asks for 24 to 64.
const LENGTH: usize = 32;

/// Bytes of one whose text has no padding.
const PLAIN_LENGTH: usize = 30;

/// How old, or how far ahead, a timestamp may be.
pub const TOLERANCE_SECONDS: i64 = 300;

/// The key that requests to one endpoint are signed with.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

impl SigningSecret {
    /// A new one, of 256 random bits.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(vec![0; LENGTH]);
        rand::fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// A new one that stands in an address as it is: its text needs no escapes.
    pub fn generate_plain() -> Self {
        // Of thirty bytes, so without padding. A few tries are enough.
        let mut bytes = Zeroizing::new(vec![0; PLAIN_LENGTH]);
        loop {
            rand::fill(bytes.as_mut_slice());
            if !STANDARD.encode(&*bytes).contains(['+', '/']) {
                return Self(bytes);
            }
        }
    }

    /// Whether this text is the secret as its owner was shown it. Takes the same time whatever differs.
    pub fn is(&self, shown: &str) -> bool {
        is_same(&Zeroizing::new(self.reveal()), shown)
    }

    /// The secret with these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a secret as it was shown.
    pub fn parse(text: &str) -> Result<Self, MalformedSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(MalformedSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| MalformedSecret)?;
        (24..=64).contains(&bytes.len()).then(|| Self::from_bytes(bytes)).ok_or(MalformedSecret)
    }

    /// The secret as its owner is shown it, once.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&*self.0))
    }

    /// What its owner can tell it by, and nobody learn it from: eight hexadecimal digits, the first of the SHA-256 of
    /// `fingerprint:` and the secret as it was shown.
    pub fn fingerprint(&self) -> String {
        let shown = Zeroizing::new(format!("fingerprint:{}", *Zeroizing::new(self.reveal())));
        let hash = digest::digest(&digest::SHA256, shown.as_bytes());
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        format!("{:08x}", u32::from_be_bytes(first))
    }

    /// The bytes, to be sealed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Whether a text that is shown is the one that is wanted. Takes the same time whatever differs.
pub fn is_same(wanted: &str, shown: &str) -> bool {
    // Under a key that nobody knows, equal tags are equal texts, and a tag says nothing of its text.
    let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
    let tag = hmac::sign(&key, wanted.as_bytes());
    hmac::verify(&key, shown.as_bytes(), tag.as_ref()).is_ok()
}

/// The text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `whsec_` and base64 of 24 to 64 bytes")]
pub struct MalformedSecret;

/// The value of `webhook-signature` for a request at `timestamp`, in seconds since the epoch.
pub fn sign<'a>(
    secrets: impl IntoIterator<Item = &'a SigningSecret>,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> String {
    let content = content(id, timestamp, body);
    let mut header = String::new();
    for secret in secrets {
        if !header.is_empty() {
            header.push(' ');
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        header.push_str("v1,");
        STANDARD.encode_string(hmac::sign(&key, &content), &mut header);
    }
    header
}

/// Why a request is not taken for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("webhook-timestamp is too far from now")]
    Timestamp,
    #[error("no signature in webhook-signature fits")]
    Signature,
}

/// Whether a request was signed with `secret`, not long ago as seen at `now` (in seconds).
///
/// Comparing takes the same time whatever differs.
pub fn verify(
    secret: &SigningSecret,
    id: &str,
    timestamp: i64,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> Result<(), VerifyError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let content = content(id, timestamp, body);
    let fits = signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|tag| hmac::verify(&key, &content, &tag).is_ok());
    if !fits {
        return Err(VerifyError::Signature);
    }
    if is_fresh(timestamp, now) { Ok(()) } else { Err(VerifyError::Timestamp) }
}

/// Whether what was signed then is not too old, nor from too far ahead, as seen at `now` (in seconds).
pub const fn is_fresh(timestamp: i64, now: i64) -> bool {
    now.abs_diff(timestamp) <= TOLERANCE_SECONDS.unsigned_abs()
}

fn content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const AT: i64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn secret() -> SigningSecret {
        SigningSecret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
    }

    /// The vector of the specification.
    #[test]
    fn the_standard_s_own_example_comes_out() {
        assert_eq!(sign([&secret()], ID, AT, BODY), SIGNATURE);
        assert_eq!(verify(&secret(), ID, AT, SIGNATURE, BODY, AT), Ok(()));
    }

    #[test]
    fn each_live_secret_signs_and_any_fits() {
        let other = SigningSecret::generate();
        let header = sign([&other, &secret()], ID, AT, BODY);
        assert_eq!(header.split(' ').count(), 2);
        for secret in [&other, &secret()] {
            assert_eq!(verify(secret, ID, AT, &header, BODY, AT), Ok(()));
        }
    }

    #[test]
    fn what_was_changed_or_is_old_does_not_pass() {
        let check = |id, at, signature, body, now| verify(&secret(), id, at, signature, body, now);
        assert_eq!(check("msg_x", AT, SIGNATURE, BODY, AT), Err(VerifyError::Signature));
        assert_eq!(check(ID, AT + 1, SIGNATURE, BODY, AT), Err(VerifyError::Signature));
        assert_eq!(check(ID, AT, SIGNATURE, b"{}", AT), Err(VerifyError::Signature));
        assert_eq!(check(ID, AT, "v1a,x v1,! v2,", BODY, AT), Err(VerifyError::Signature));
        assert_eq!(check(ID, AT, SIGNATURE, BODY, AT + 301), Err(VerifyError::Timestamp));
        assert_eq!(check(ID, AT, SIGNATURE, BODY, AT - 301), Err(VerifyError::Timestamp));
        assert_eq!(check(ID, AT, SIGNATURE, BODY, AT + 300), Ok(()));
    }

    #[test]
    fn a_plain_secret_needs_no_escapes_and_is_known_by_its_text() {
        for _ in 0..20 {
            let secret = SigningSecret::generate_plain();
            let text = secret.reveal();
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{text}");
            assert_eq!(SigningSecret::parse(&text).unwrap().as_bytes(), secret.as_bytes());
            assert!(secret.is(&text));
            assert!(!secret.is(&text[1..]) && !secret.is("") && !secret.is(&format!("{text}0")));
        }
    }

    #[test]
    fn a_secret_reads_back_and_shows_itself_to_nobody_else() {
        let secret = SigningSecret::generate();
        let again = SigningSecret::parse(&secret.reveal()).unwrap();
        assert_eq!(secret.as_bytes(), again.as_bytes());
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
        for bad in ["", "whsec_", "whsec_!", "whsec_AAAA", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
            assert!(SigningSecret::parse(bad).is_err(), "{bad}");
        }
    }
}
