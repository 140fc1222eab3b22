//! A value and its sealed form.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use entity::id::OrganizationId;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
    hmac,
};
use zeroize::Zeroizing;

use super::cell::{Column, Context, Part};

/// The first byte of everything sealed: this arrangement of bytes, this cipher.
const FORMAT: u8 = 1;

/// Format and number of the key.
const HEADER: usize = 1 + 4;

/// What sealed text begins with; no pairing code does.
const TEXT_PREFIX: &str = "sealed:";

/// 256 secret bits, wiped when they are let go of.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// Secret bits that nobody has seen.
pub(super) fn random_secret() -> Secret {
    let mut secret = Secret::default();
    rand::fill(secret.as_mut_slice());
    secret
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It does not look like anything sealed here.
    #[error("the value is not sealed")]
    NotSealed,
    /// Sealed with a data key that this process has not seen: newer than what it has loaded, or gone.
    #[error("the value is sealed with the organization's data key {0}, which is not known")]
    UnknownKey(u32),
    /// Changed, or copied here from another row, column or organization.
    #[error("the value was altered or belongs elsewhere")]
    Altered,
}

/// Seals and opens what belongs to one organization. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    organization: OrganizationId,
    /// Never empty; the last one seals.
    by_number: BTreeMap<u32, Secret>,
    /// Values that did not open, of all who have been given this.
    unopened: Arc<AtomicU64>,
}

impl Sealer {
    /// None without any key.
    pub(super) fn new(
        organization: OrganizationId,
        by_number: BTreeMap<u32, Secret>,
        unopened: Arc<AtomicU64>,
    ) -> Option<Self> {
        (!by_number.is_empty()).then(|| Self(Arc::new(Keys { organization, by_number, unopened })))
    }

    /// Whose values it seals.
    pub fn organization(&self) -> &OrganizationId {
        &self.0.organization
    }

    /// Seals `value`, which goes into `column` of the row with this key and opens only there.
    ///
    /// # Panics
    ///
    /// Never: there is always a key.
    pub fn seal(&self, column: Column, row: &[Part<'_>], value: &[u8]) -> Vec<u8> {
        let (number, key) = self.0.by_number.last_key_value().expect("a sealer has a key");
        seal(key, *number, &Context::of_cell(&self.0.organization, column, row), value)
    }

    /// Opens what was sealed for `column` of the row with this key. What is sealed and does not open is counted.
    ///
    /// What is returned is not wiped when dropped; wrap it in `Zeroizing` where that is of use.
    pub fn open(
        &self,
        column: Column,
        row: &[Part<'_>],
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let number = key_number(sealed).ok_or(OpenError::NotSealed)?;
        let opened = match self.0.by_number.get(&number) {
            Some(key) => open(key, &Context::of_cell(&self.0.organization, column, row), sealed),
            None => Err(OpenError::UnknownKey(number)),
        };
        opened.inspect_err(|_| self.count_unopened())
    }

    /// Counts a value as one that should open and does not: what is not sealed may be right, and only its reader knows.
    pub fn count_unsealed(&self, err: OpenError) {
        if err == OpenError::NotSealed {
            self.count_unopened();
        }
    }

    fn count_unopened(&self) {
        self.0.unopened.fetch_add(1, Ordering::Relaxed);
    }

    /// Signs what the organization hands out and will be shown again: HMAC-SHA-256, under a key that the
    /// newest data key has for this purpose alone.
    ///
    /// # Panics
    ///
    /// Never: there is always a key.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let (_, key) = self.0.by_number.last_key_value().expect("a sealer has a key");
        let tag = hmac::sign(&self.signature_key(key, purpose), message);
        let mut signature = [0; 32];
        signature.copy_from_slice(tag.as_ref());
        signature
    }

    /// Whether this is what [`Sealer::sign`] made of the message, then or now. Compared in constant time.
    pub fn is_signed(&self, purpose: &str, message: &[u8], signature: &[u8]) -> bool {
        self.0
            .by_number
            .values()
            .any(|key| hmac::verify(&self.signature_key(key, purpose), message, signature).is_ok())
    }

    fn signature_key(&self, secret: &Secret, purpose: &str) -> hmac::Key {
        let place = Context::of_signature(&self.0.organization, purpose);
        let info = [place.as_bytes()];
        let extracted = Prk::new_less_safe(HKDF_SHA256, secret.as_slice());
        extracted.expand(&info, hmac::HMAC_SHA256).expect("HKDF gives 32 bytes").into()
    }

    /// [`Sealer::seal`] for a column of text.
    pub fn seal_text(&self, column: Column, row: &[Part<'_>], value: &str) -> String {
        let mut text = TEXT_PREFIX.to_owned();
        STANDARD_NO_PAD.encode_string(self.seal(column, row, value.as_bytes()), &mut text);
        text
    }

    /// [`Sealer::open`] for a column of text.
    pub fn open_text(
        &self,
        column: Column,
        row: &[Part<'_>],
        sealed: &str,
    ) -> Result<String, OpenError> {
        let bytes = sealed.strip_prefix(TEXT_PREFIX).ok_or(OpenError::NotSealed)?;
        let bytes = STANDARD_NO_PAD.decode(bytes).map_err(|_| OpenError::NotSealed)?;
        String::from_utf8(self.open(column, row, &bytes)?).map_err(|_| OpenError::Altered)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("organization", &self.0.organization)
            .field("keys", &self.0.by_number.len())
            .finish()
    }
}

/// The number of the key that sealed this, if it is sealed at all.
fn key_number(sealed: &[u8]) -> Option<u32> {
    let (header, rest) = sealed.split_first_chunk::<HEADER>()?;
    let [format, number @ ..] = *header;
    let plausible = format == FORMAT && rest.len() >= NONCE_LEN + AES_256_GCM.tag_len();
    plausible.then(|| u32::from_be_bytes(number))
}

/// Seals with the key that `secret` has for this place.
pub(super) fn seal(secret: &Secret, number: u32, place: &Context, value: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    let body = HEADER + NONCE_LEN;
    let mut sealed = Vec::with_capacity(body + value.len() + AES_256_GCM.tag_len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&number.to_be_bytes());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(value);
    let tag = cell_key(secret, place)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.as_bytes()),
            &mut sealed[body..],
        )
        .expect("no value has 64 GiB");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens with the key that `secret` has for this place.
pub(super) fn open(secret: &Secret, place: &Context, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let body = sealed.get(HEADER..).ok_or(OpenError::NotSealed)?;
    let (nonce, body) = body.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::NotSealed)?;
    let mut value = body.to_vec();
    let length = cell_key(secret, place)
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(place.as_bytes()),
            &mut value,
        )
        .map_err(|_| OpenError::Altered)?
        .len();
    value.truncate(length);
    Ok(value)
}

/// The key for one place. Number and format need no place in the additional data: another key or
/// another format opens nothing.
fn cell_key(secret: &Secret, place: &Context) -> LessSafeKey {
    let info = [place.as_bytes()];
    let extracted = Prk::new_less_safe(HKDF_SHA256, secret.as_slice());
    let key = extracted.expand(&info, &AES_256_GCM).expect("HKDF gives 32 bytes");
    LessSafeKey::new(UnboundKey::from(key))
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
