//! Rules for the texts that callers give us.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::FieldError;

/// The longest message text, in characters. WhatsApp's own limit.
pub const LONGEST_MESSAGE: usize = 65_536;

/// The longest id of a tenant's own user, in characters.
pub const LONGEST_USER_ID: usize = 128;

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A tenant's own user: opaque, short, printable.
pub fn user_id(name: &str, text: &str) -> Result<String, FieldError> {
    let length = text.chars().count();
    if length == 0 || length > LONGEST_USER_ID {
        return Err(FieldError::new(name, format!("must have 1 to {LONGEST_USER_ID} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(name, "must not contain control characters"));
    }
    Ok(text.to_owned())
}

/// A name for people: printable, of some length.
pub fn label(name: &str, text: &str, lengths: RangeInclusive<usize>) -> Result<String, FieldError> {
    if !lengths.contains(&text.chars().count()) {
        let (least, most) = (lengths.start(), lengths.end());
        return Err(FieldError::new(name, format!("must have {least} to {most} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(name, "must not contain control characters"));
    }
    Ok(text.to_owned())
}

/// The longest configuration that a tenant keeps with a session, in bytes of compact JSON.
pub const LONGEST_CONFIG: usize = 16 << 10;

/// A tenant's own JSON object, as it is kept. PostgreSQL cannot keep a NUL, and JSON writes one in six letters.
pub fn config(name: &str, object: &Map<String, Value>) -> Result<String, FieldError> {
    // Strings as keys, and numbers that were read as JSON: nothing here can fail to be written.
    let text = serde_json::to_string(object).unwrap_or_default();
    if text.len() > LONGEST_CONFIG {
        let detail = format!("must have at most {LONGEST_CONFIG} bytes as compact JSON");
        return Err(FieldError::new(name, detail));
    }
    Ok(text)
}

/// A message's text. PostgreSQL cannot keep a NUL, and no phone shows one.
pub fn message(name: &str, text: &str) -> Result<String, FieldError> {
    if text.is_empty() {
        return Err(FieldError::new(name, "must not be empty"));
    }
    if text.chars().count() > LONGEST_MESSAGE {
        let detail = format!("must have at most {LONGEST_MESSAGE} characters");
        return Err(FieldError::new(name, detail));
    }
    if text.contains('\0') {
        return Err(FieldError::new(name, "must not contain a NUL character"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_limits_in_characters() {
        assert!(message("text", &"ä".repeat(LONGEST_MESSAGE)).is_ok());
        assert!(message("text", &"a".repeat(LONGEST_MESSAGE + 1)).is_err());
        assert!(message("text", "").is_err());
        assert!(message("text", "a\0b").is_err());
        assert!(message("text", " \n😀").is_ok());
    }

    #[test]
    fn user_ids_are_printable() {
        assert_eq!(user_id("userId", "user-456"), Ok("user-456".to_owned()));
        assert!(user_id("userId", "").is_err());
        assert!(user_id("userId", "a\nb").is_err());
        assert!(user_id("userId", &"x".repeat(129)).is_err());
    }
}
