//! `X-Hub-Signature-256: sha256=<hex>`: HMAC-SHA-256 over the bytes of the body, under the app's secret.
//!
//! Over the bytes as they came: Meta signs what it sends, with its characters escaped as it has escaped them. Who reads
//! and writes it again has another text.

use std::fmt;

use ring::hmac;

/// What a body is said to be signed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Reads the header. None for anything that is not the one form; digits may be of either case.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let digits = header.strip_prefix(b"sha256=")?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }

    /// What `secret` signs `body` with: Meta's side, for tests and tools.
    pub fn of(secret: &[u8], body: &[u8]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256=")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// Whether `secret` has signed these bytes so. Takes as long whatever is wrong.
pub fn is_signed_by(secret: &[u8], body: &[u8], signature: &Signature) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), body, &signature.0).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"object":"whatsapp_business_account","entry":[]}"#;
    const HEADER: &str = "sha256=dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756";

    #[test]
    fn a_known_body_has_the_known_signature() {
        let signature = Signature::parse(HEADER.as_bytes()).unwrap();
        assert!(is_signed_by(b"test_app_secret", BODY, &signature));
        assert_eq!(Signature::of(b"test_app_secret", BODY).to_string(), HEADER);
        assert!(!is_signed_by(b"another_secret", BODY, &signature));
        assert!(!is_signed_by(b"test_app_secret", &BODY[1..], &signature));
    }

    #[test]
    fn only_the_one_form_is_read() {
        let upper = HEADER.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(Signature::parse(upper.as_bytes()), Signature::parse(HEADER.as_bytes()));
        let long = format!("{HEADER}0");
        for bad in ["", "sha256=", &HEADER[7..], &HEADER[..70], &long, &HEADER.replace('d', "g")] {
            assert_eq!(Signature::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Signature::parse(HEADER.replace("sha256", "sha1").as_bytes()), None);
    }
}
