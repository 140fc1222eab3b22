//! What an account may be like: read from a request, judged all at once.

use std::{ops::RangeInclusive, time::Duration};

use entity::{UnixMillis, meta::state::MetaStatus};
use serde_json::{Map, Value, json};
use url::Url;

use crate::{
    service::{Error, FieldError, sessions::Change, text},
    store::meta::Open,
};

/// The address that accounts are called at unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/api/webhooks/whatsapp";

/// Lengths, in characters.
pub mod limits {
    use std::{ops::RangeInclusive, time::Duration};

    /// Meta's ids.
    pub const ID: RangeInclusive<usize> = 1..=64;
    pub const LABEL: RangeInclusive<usize> = 0..=200;
    pub const NUMBER: RangeInclusive<usize> = 1..=32;
    /// App secrets and verify tokens.
    pub const SECRET: RangeInclusive<usize> = 8..=256;
    pub const ACCESS_TOKEN: RangeInclusive<usize> = 1..=4096;
    /// Meta's own limit of a callback's URL.
    pub const CALLBACK: RangeInclusive<usize> = 1..=200;
    /// How long an app's old secret may be good beside its successor.
    pub const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);
}

/// Members of a request that makes or changes an account.
#[derive(Clone, Default)]
pub struct AccountInput {
    pub label: Change<String>,
    pub phone_number_id: Option<String>,
    pub waba_id: Change<String>,
    pub display_phone_number: Change<String>,
    pub app_id: Change<String>,
    pub app_secret: Change<String>,
    /// Until when the secret before is good.
    pub previous_until: Option<UnixMillis>,
    pub access_token: Change<String>,
    pub verify_token: Option<String>,
    pub callback_path: Option<String>,
    pub status: Option<MetaStatus>,
}

impl std::fmt::Debug for AccountInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountInput(…)")
    }
}

impl AccountInput {
    /// The same, trimmed and found to be well.
    pub(super) fn checked(self, now: UnixMillis) -> Result<Self, Error> {
        let mut errors = Errors(Vec::new());
        let checked = Self {
            label: errors
                .change("label", self.label, |name, text| text::label(name, text, limits::LABEL)),
            phone_number_id: errors.given("phoneNumberId", self.phone_number_id, id),
            waba_id: errors.change("wabaId", self.waba_id, id),
            display_phone_number: errors.change(
                "displayPhoneNumber",
                self.display_phone_number,
                |name, text| text::label(name, text, limits::NUMBER),
            ),
            app_id: errors.change("appId", self.app_id, id),
            app_secret: errors.change("appSecret", self.app_secret, secret),
            previous_until: self.previous_until,
            access_token: errors.change("accessToken", self.access_token, |name, text| {
                visible(name, text, limits::ACCESS_TOKEN)
            }),
            verify_token: errors.given("verifyToken", self.verify_token, secret),
            callback_path: errors.given("callbackPath", self.callback_path, callback),
            status: self.status,
        };
        if checked.previous_until.is_some_and(|at| at > now + limits::LONGEST_OVERLAP) {
            let days = limits::LONGEST_OVERLAP.as_secs() / Duration::from_hours(24).as_secs();
            let detail = format!("must be at most {days} days ahead");
            errors.0.push(FieldError::new("previousAppSecretUntil", detail));
        }
        if errors.0.is_empty() { Ok(checked) } else { Err(Error::Invalid(errors.0)) }
    }

    /// All that is given, to tell requests apart. It holds secrets.
    pub(super) fn written(&self) -> String {
        let mut members = Map::new();
        for (name, change) in [
            ("label", &self.label),
            ("wabaId", &self.waba_id),
            ("displayPhoneNumber", &self.display_phone_number),
            ("appId", &self.app_id),
            ("appSecret", &self.app_secret),
            ("accessToken", &self.access_token),
        ] {
            match change {
                Change::Keep => {}
                Change::Clear => drop(members.insert(name.to_owned(), Value::Null)),
                Change::To(text) => drop(members.insert(name.to_owned(), json!(text))),
            }
        }
        for (name, text) in [
            ("phoneNumberId", &self.phone_number_id),
            ("verifyToken", &self.verify_token),
            ("callbackPath", &self.callback_path),
        ] {
            if let Some(text) = text {
                members.insert(name.to_owned(), json!(text));
            }
        }
        members.insert("status".to_owned(), json!(self.status));
        members.insert("previousUntil".to_owned(), json!(self.previous_until));
        Value::Object(members).to_string()
    }

    /// The app's secret, if one is given.
    pub(super) fn new_app_secret(&self) -> Option<Open> {
        match &self.app_secret {
            Change::To(secret) => Some(secret.clone().into()),
            Change::Keep | Change::Clear => None,
        }
    }
}

struct Errors(Vec<FieldError>);

impl Errors {
    fn given(
        &mut self,
        name: &str,
        given: Option<String>,
        check: impl FnOnce(&str, &str) -> Result<String, FieldError>,
    ) -> Option<String> {
        let given = given?;
        let checked = check(name, given.trim());
        checked.map_err(|error| self.0.push(error)).ok()
    }

    fn change(
        &mut self,
        name: &str,
        change: Change<String>,
        check: impl FnOnce(&str, &str) -> Result<String, FieldError>,
    ) -> Change<String> {
        match change {
            Change::To(text) => {
                self.given(name, Some(text), check).map_or(Change::Keep, Change::To)
            }
            other => other,
        }
    }
}

/// An id of Meta's: digits, though Meta's own examples have words, too.
fn id(name: &str, text: &str) -> Result<String, FieldError> {
    let is_good = limits::ID.contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-".contains(&it));
    let detail = "must be an id of Meta's: 1 to 64 digits";
    if is_good { Ok(text.to_owned()) } else { Err(FieldError::new(name, detail)) }
}

fn secret(name: &str, text: &str) -> Result<String, FieldError> {
    visible(name, text, limits::SECRET)
}

fn visible(name: &str, text: &str, lengths: RangeInclusive<usize>) -> Result<String, FieldError> {
    if lengths.contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let (least, most) = (lengths.start(), lengths.end());
    Err(FieldError::new(name, format!("must be {least} to {most} visible ASCII characters")))
}

/// Where Meta calls. It is shown, and written down in the audit log, so there is no place for a secret in it.
fn callback(name: &str, text: &str) -> Result<String, FieldError> {
    let is_short = limits::CALLBACK.contains(&text.len());
    let is_path = text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|it| it.is_ascii_graphic());
    let url =
        Url::parse(text).ok().filter(|url| url.scheme() == "https" && text.starts_with("https://"));
    if !is_short || (!is_path && url.is_none()) {
        let detail =
            "must be a path that begins with `/`, or an https URL, of at most 200 characters";
        return Err(FieldError::new(name, detail));
    }
    let has_name = url.is_some_and(|url| !url.username().is_empty() || url.password().is_some());
    if has_name || text.contains(['?', '#']) {
        let detail = "must have no query, no fragment, no user name and no password: it is shown, and written down";
        return Err(FieldError::new(name, detail));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_value_repeated() {
        let input = AccountInput {
            phone_number_id: Some("a b".to_owned()),
            waba_id: Change::To(String::new()),
            app_secret: Change::To("short".to_owned()),
            verify_token: Some("has a space".to_owned()),
            callback_path: Some("http://x".to_owned()),
            previous_until: Some(UnixMillis(i64::MAX)),
            ..AccountInput::default()
        };
        let Err(Error::Invalid(errors)) = input.checked(UnixMillis(0)) else { panic!("taken") };
        let pointers: Vec<_> = errors.iter().map(|it| it.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/phoneNumberId",
                "/wabaId",
                "/appSecret",
                "/verifyToken",
                "/callbackPath",
                "/previousAppSecretUntil"
            ]
        );
        assert!(!errors.iter().any(|it| it.detail.contains("short")));
    }

    #[test]
    fn an_address_has_no_place_for_a_secret() {
        let of = |text: &str| callback("callbackPath", text);
        for good in ["/api/webhooks/whatsapp", "https://x.example/hook", "https://x.example/@me"] {
            assert_eq!(of(good).as_deref(), Ok(good));
        }
        for bad in [
            "https://user:hunter2@x.example/hook",
            "https://hunter2@x.example/hook",
            "https://:hunter2@x.example/hook",
            "https://x.example/hook?key=hunter2",
            "https://x.example/hook#hunter2",
            "/hook?key=hunter2",
            "/hook#hunter2",
        ] {
            let error = of(bad).unwrap_err();
            assert!(error.detail.starts_with("must have no query"), "{bad}");
            assert!(!error.detail.contains("hunter2"));
        }
    }

    #[test]
    fn what_is_given_is_trimmed() {
        let input = AccountInput {
            app_secret: Change::To(" test_app_secret\n".to_owned()),
            callback_path: Some("https://x.example/webhook".to_owned()),
            ..AccountInput::default()
        };
        let checked = input.checked(UnixMillis(0)).unwrap();
        assert_eq!(checked.app_secret, Change::To("test_app_secret".to_owned()));
    }
}
