//! The master key: the one secret that is not in the database.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use entity::id::OrganizationId;
use ring::hmac;
use zeroize::Zeroizing;

use super::{
    cell::Context,
    seal::{OpenError, Secret, open, random_secret, seal},
};

/// Wraps data keys. 256 bits, wiped when the last copy is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Secret);

/// Which master key is meant, without telling anything about it: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeyId(String);

/// The text is no master key. It is not repeated: it may be half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 random bytes, written as 64 hexadecimal digits or as 44 characters of base64")]
pub struct ParseError;

impl MasterKey {
    /// A new one.
    pub fn generate() -> Self {
        Self(random_secret())
    }

    /// Reads one from text: hexadecimal or base64, with white space around it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let mut key = Secret::default();
        if text.len() == 64 {
            let value = |digit: u8| char::from(digit).to_digit(16).ok_or(ParseError);
            for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                let value = value(digits[0])? << 4 | value(digits[1])?;
                *byte = u8::try_from(value).map_err(|_| ParseError)?;
            }
        } else {
            let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| ParseError)?);
            *key = bytes.as_slice().try_into().map_err(|_| ParseError)?;
        }
        Ok(Self(key))
    }

    /// As it is written to a file: 64 hexadecimal digits and a line feed.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in self.0.iter() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push('\n');
        text
    }

    /// Which one it is.
    pub fn id(&self) -> MasterKeyId {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let tag = hmac::sign(&key, b"wagate master key id");
        let digits = tag.as_ref()[..8].iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        MasterKeyId(digits.collect())
    }

    /// Wraps a data key, for the database.
    pub(super) fn wrap(&self, organization: &OrganizationId, number: u32, key: &Secret) -> Vec<u8> {
        // There is one master key at a time, so it has no number.
        seal(&self.0, 0, &Context::of_data_key(organization, number), key.as_slice())
    }

    /// Unwraps a data key.
    pub(super) fn unwrap(
        &self,
        organization: &OrganizationId,
        number: u32,
        wrapped: &[u8],
    ) -> Result<Secret, OpenError> {
        let key = open(&self.0, &Context::of_data_key(organization, number), wrapped)?;
        let key = Zeroizing::new(key);
        key.as_slice().try_into().map(Zeroizing::new).map_err(|_| OpenError::Altered)
    }
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl MasterKeyId {
    /// As the database keeps it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_both_spellings_and_in_no_other() {
        let key = MasterKey::parse(&"0f".repeat(32)).unwrap();
        assert_eq!(key, MasterKey::parse(&format!("  {}\n", "0F".repeat(32))).unwrap());
        assert_eq!(key, MasterKey::parse(&STANDARD.encode([0x0f; 32])).unwrap());
        assert_eq!(key, MasterKey::parse(&key.to_text()).unwrap());
        for wrong in ["", "hunter2", &"0g".repeat(32), &"0f".repeat(31), &"é".repeat(32), "AAAA"] {
            assert_eq!(MasterKey::parse(wrong), Err(ParseError), "{wrong}");
        }
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_else() {
        let key = MasterKey::parse(&"0f".repeat(32)).unwrap();
        let other = MasterKey::generate();
        assert_ne!(key.id(), other.id());
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        assert_eq!(key.id().as_str().len(), 16);
    }

    #[test]
    fn a_data_key_is_unwrapped_by_its_master_in_its_place_only() {
        let organization = OrganizationId::new(entity::UnixMillis(0), 1);
        let (master, data) = (MasterKey::generate(), random_secret());
        let wrapped = master.wrap(&organization, 1, &data);
        assert_eq!(master.unwrap(&organization, 1, &wrapped).unwrap(), data);
        assert!(master.unwrap(&organization, 2, &wrapped).is_err());
        assert!(MasterKey::generate().unwrap(&organization, 1, &wrapped).is_err());
    }
}
