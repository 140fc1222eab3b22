//! Reading the members of a body and the parameters of a query: strictly, and all faults at once.

use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde_json::{Map, Value};

use super::{error::ApiError, page::position, problem::Problem};
use crate::service::{
    FieldError,
    page::Page,
    sessions::Change,
    webhooks::{LONGEST_OVERLAP, OVERLAP},
};

/// The members of a JSON object. Each is taken once; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    pub(super) fn new(values: Map<String, Value>) -> Self {
        Self { values, errors: Vec::new() }
    }

    /// Whether it is there and was not taken yet. `null` is nothing.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text, or nothing. `null` is nothing.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.values.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => self.fault(name, "must be a string"),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, name: &str) -> String {
        match self.values.get(name) {
            None | Some(Value::Null) => {
                self.values.remove(name);
                self.fault::<()>(name, "is missing");
                String::new()
            }
            Some(_) => self.text(name).unwrap_or_default(),
        }
    }

    /// A text to set, `null` to clear, nothing to keep.
    pub(crate) fn change(&mut self, name: &str) -> Change<String> {
        match self.values.remove(name) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::String(text)) => Change::To(text),
            Some(_) => {
                self.fault::<()>(name, "must be a string or null");
                Change::Keep
            }
        }
    }

    /// Yes or no to set, `null` to clear, nothing to keep.
    pub(crate) fn change_flag(&mut self, name: &str) -> Change<bool> {
        match self.values.remove(name) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::Bool(flag)) => Change::To(flag),
            Some(_) => {
                self.fault::<()>(name, "must be true, false or null");
                Change::Keep
            }
        }
    }

    /// An object of the caller's own to set, `null` to clear, nothing to keep.
    pub(crate) fn change_object(&mut self, name: &str) -> Change<Map<String, Value>> {
        match self.values.remove(name) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::Object(object)) => Change::To(object),
            Some(_) => {
                self.fault::<()>(name, "must be an object or null");
                Change::Keep
            }
        }
    }

    /// A whole number within limits to set, `null` to clear, nothing to keep.
    pub(crate) fn change_number(&mut self, name: &str, limits: RangeInclusive<i64>) -> Change<i64> {
        let number = match self.values.remove(name) {
            None => return Change::Keep,
            Some(Value::Null) => return Change::Clear,
            Some(value) => value.as_i64().filter(|number| limits.contains(number)),
        };
        if number.is_none() {
            let (least, most) = (limits.start(), limits.end());
            let detail = format!("must be a whole number from {least} to {most}, or null");
            self.fault::<()>(name, detail);
        }
        number.map_or(Change::Keep, Change::To)
    }

    /// Yes or no, or nothing.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.values.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(flag)) => Some(flag),
            Some(_) => self.fault(name, "must be true or false"),
        }
    }

    /// A whole number within limits, `null` as `Some(None)`, or nothing.
    #[expect(clippy::option_option, reason = "absent, null and a number mean three things")]
    pub(crate) fn number(
        &mut self,
        name: &str,
        limits: RangeInclusive<i64>,
    ) -> Option<Option<i64>> {
        match self.values.remove(name)? {
            Value::Null => Some(None),
            Value::Number(number) if number.as_i64().is_some_and(|it| limits.contains(&it)) => {
                Some(number.as_i64())
            }
            _ => {
                let (least, most) = (limits.start(), limits.end());
                self.fault(name, format!("must be a whole number from {least} to {most}"))
            }
        }
    }

    /// For how long an old secret is to be good beside its successor, in seconds; as is usual, if that is not said.
    pub(crate) fn overlap(&mut self, name: &str) -> Duration {
        let longest = i64::try_from(LONGEST_OVERLAP.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.number(name, 0..=longest).flatten();
        seconds.and_then(|it| u64::try_from(it).ok()).map_or(OVERLAP, Duration::from_secs)
    }

    /// A list of texts, or nothing. `null` is nothing.
    pub(crate) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let items = match self.values.remove(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(items)) => items,
            Some(_) => return self.fault(name, "must be a list of strings"),
        };
        let texts: Option<Vec<_>> =
            items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect();
        texts.map_or_else(|| self.fault(name, "must be a list of strings"), Some)
    }

    /// A list of objects, or nothing. `null` is nothing.
    pub(crate) fn objects(&mut self, name: &str) -> Option<Vec<Map<String, Value>>> {
        let items = match self.values.remove(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(items)) => items,
            Some(_) => return self.fault(name, "must be a list of objects"),
        };
        let objects: Option<Vec<_>> = items
            .into_iter()
            .map(|item| if let Value::Object(members) = item { Some(members) } else { None })
            .collect();
        objects.map_or_else(|| self.fault(name, "must be a list of objects"), Some)
    }

    /// Takes over what is wrong with an object of a list; what is left in it is unknown.
    pub(crate) fn adopt(&mut self, at: &str, inner: Self) {
        let Err(ApiError::Request(problem)) = inner.finish() else { return };
        for FieldError { pointer, detail } in problem.errors {
            self.errors.push(FieldError { pointer: format!("/{at}{pointer}"), detail });
        }
    }

    /// Texts by name, or nothing. `null` is nothing.
    pub(crate) fn named_texts(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let items = match self.values.remove(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Object(items)) => items,
            Some(_) => return self.fault(name, "must be an object of strings"),
        };
        let texts: Option<BTreeMap<_, _>> = items
            .into_iter()
            .map(|(key, item)| item.as_str().map(|text| (key, text.to_owned())))
            .collect();
        texts.map_or_else(|| self.fault(name, "must be an object of strings"), Some)
    }

    /// A text that must be understood.
    pub(crate) fn parsed<T, E: ToString>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        parse(&text).map_or_else(|error| self.fault(name, error.to_string()), Some)
    }

    /// An object, or nothing. `null` is nothing.
    pub(crate) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.change_object(name) {
            Change::To(members) => Some(members),
            Change::Keep | Change::Clear => None,
        }
    }

    /// Notes that something is wrong with a member.
    pub(crate) fn fault<T>(&mut self, name: &str, detail: impl Into<String>) -> Option<T> {
        self.errors.push(FieldError::new(name, detail));
        None
    }

    /// Ends the reading: refuses the request if anything was wrong or is unknown.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        for name in self.values.keys() {
            // As RFC 6901 writes a name that contains what separates names.
            let name = name.replace('~', "~0").replace('/', "~1");
            let name: String = name.chars().take(64).collect();
            self.errors.push(FieldError::new(&name, "is not known here"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors).into()) }
    }
}

/// The parameters of a query. Each is taken once; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid_field("", "the query cannot be read"))?;
        let mut parameters = Self { values: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in pairs {
            if parameters.values.insert(name.clone(), value).is_some() {
                parameters.fault::<()>(&name, "is given twice");
            }
        }
        Ok(parameters)
    }
}

/// The longest page of a list that has no other, and the usual one.
pub(crate) const LONGEST_PAGE: i64 = 500;
pub(crate) const USUAL_PAGE: u64 = 50;

impl Parameters {
    /// `limit` and `cursor`: which page of a list.
    pub(crate) fn page<Id: FromStr>(&mut self) -> Page<Id> {
        self.page_of(USUAL_PAGE)
    }

    /// The same of a list whose pages have so many entries if nobody says.
    pub(crate) fn page_of<Id: FromStr>(&mut self, usual: u64) -> Page<Id> {
        let limit = self.number("limit", 1..=LONGEST_PAGE).and_then(|limit| limit.try_into().ok());
        let after = self.parsed("cursor", position);
        Page { after, limit: Some(limit.unwrap_or(usual)) }
    }

    /// A whole number within limits.
    pub(crate) fn number(&mut self, name: &str, limits: RangeInclusive<i64>) -> Option<i64> {
        let text = self.values.remove(name)?;
        let number = text.parse().ok().filter(|number| limits.contains(number));
        if number.is_none() {
            let (least, most) = (limits.start(), limits.end());
            return self.fault(name, format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    /// Any text that a database can be asked for.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.parsed(name, |text| {
            if text.contains('\0') { Err("must not contain U+0000") } else { Ok(text.to_owned()) }
        })
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.values.remove(name)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fault(name, "must be true or false"),
        }
    }

    /// A text that must be understood.
    pub(crate) fn parsed<T, E: ToString>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.values.remove(name)?;
        parse(&text).map_or_else(|error| self.fault(name, error.to_string()), Some)
    }

    pub(crate) fn fault<T>(&mut self, name: &str, detail: impl Into<String>) -> Option<T> {
        self.errors.push(FieldError::new(name, detail));
        None
    }

    /// Ends the reading: refuses the request if anything was wrong or is unknown.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let values = self.values.into_keys().map(|name| (name, Value::Null)).collect();
        Fields { values, errors: self.errors }.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(values) = value else { panic!("an object") };
        Fields::new(values)
    }

    fn pointers(outcome: Result<(), ApiError>) -> Vec<String> {
        match outcome {
            Err(ApiError::Request(problem)) => {
                problem.errors.into_iter().map(|error| error.pointer).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut fields = fields(json!({ "to": 7, "queue": "yes", "colour": "red", "a/b": 1 }));
        fields.text("to");
        fields.flag("queue");
        fields.required_text("text");
        assert_eq!(pointers(fields.finish()), ["/to", "/queue", "/text", "/a~1b", "/colour"]);
    }

    #[test]
    fn null_clears_and_absence_keeps() {
        let mut fields = fields(json!({ "a": null, "b": "x" }));
        assert_eq!(fields.change("a"), Change::Clear);
        assert_eq!(fields.change("b"), Change::To("x".to_owned()));
        assert_eq!(fields.change("c"), Change::Keep);
        assert!(fields.finish().is_ok());
    }

    proptest! {
        #[test]
        fn no_object_is_too_strange(name in any::<String>(), text in any::<String>()) {
            let mut fields = Fields::new(Map::from_iter([(name.clone(), json!(text))]));
            prop_assert_eq!(fields.text(&name), Some(text));
            prop_assert!(fields.finish().is_ok());
        }
    }
}
