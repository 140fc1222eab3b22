//! Reading what is posted: strictly, every fault with a pointer to where, and all of them at once.
//!
//! Members that are not known are no fault: clients elsewhere send what their library has, and that grows.

use std::{cell::RefCell, ops::RangeInclusive};

use entity::UnixMillis;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::address;
use crate::service::FieldError;

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<FieldError>>);

impl Faults {
    fn note(&self, pointer: String, detail: impl Into<String>) {
        self.0.borrow_mut().push(FieldError { pointer, detail: detail.into() });
    }

    /// `read`, if nothing is wrong.
    pub(super) fn settle<T>(self, read: Option<T>) -> Result<T, Vec<FieldError>> {
        let faults = self.0.into_inner();
        match read {
            Some(read) if faults.is_empty() => Ok(read),
            _ => Err(faults),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// The members of an object, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    values: &'a Map<String, Value>,
    pointer: String,
    faults: &'a Faults,
}

/// A point in time as somebody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: UnixMillis,
    /// It is written in whole seconds: what it tells of happened within that second.
    pub(super) is_a_second: bool,
}

/// Times that can be meant: from 2000 to 2100.
const TIMES: RangeInclusive<i64> = 946_684_800_000..=4_102_444_800_000;

/// A number below this counts seconds, one above it milliseconds.
const LEAST_MILLIS: u64 = 100_000_000_000;

impl<'a> Members<'a> {
    pub(super) const fn new(values: &'a Map<String, Value>, faults: &'a Faults) -> Self {
        Self { values, pointer: String::new(), faults }
    }

    /// The same members, read as if anything might be wrong with them: that is noted elsewhere.
    pub(super) fn aside<'b>(&self, faults: &'b Faults) -> Members<'b>
    where
        'a: 'b,
    {
        Members { values: self.values, pointer: self.pointer.clone(), faults }
    }

    /// A member that is there and not `null`.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Notes that something is wrong with a member.
    pub(super) fn fault<T>(&self, name: &str, detail: impl Into<String>) -> Option<T> {
        self.faults.note(format!("{}/{name}", self.pointer), detail);
        None
    }

    /// What is there of a member that must be.
    pub(super) fn need<T>(&self, name: &str, read: Option<T>) -> Option<T> {
        if read.is_none() && !self.has(name) {
            return self.fault(name, "is missing");
        }
        read
    }

    /// The members of an object within.
    pub(super) fn object(&self, name: &str) -> Option<Members<'a>> {
        match self.get(name)? {
            Value::Object(values) => Some(Members {
                values,
                pointer: format!("{}/{name}", self.pointer),
                faults: self.faults,
            }),
            _ => self.fault(name, "must be an object"),
        }
    }

    /// A text of some length, in characters.
    pub(super) fn text(&self, name: &str, lengths: RangeInclusive<usize>) -> Option<String> {
        match self.get(name)? {
            Value::String(text) if lengths.contains(&text.chars().count()) => Some(text.clone()),
            Value::String(_) => {
                let (least, most) = (lengths.start(), lengths.end());
                self.fault(name, format!("must have {least} to {most} characters"))
            }
            _ => self.fault(name, "must be a string"),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(flag) => Some(*flag),
            _ => self.fault(name, "must be true or false"),
        }
    }

    /// A whole number within limits; some clients write it as a text.
    pub(super) fn number(&self, name: &str, limits: RangeInclusive<i64>) -> Option<i64> {
        let number = whole(self.get(name)?).filter(|number| limits.contains(number));
        let (least, most) = (limits.start(), limits.end());
        number
            .or_else(|| self.fault(name, format!("must be a whole number from {least} to {most}")))
    }

    /// A point in time: seconds or milliseconds since 1970, or RFC 3339.
    pub(super) fn moment(&self, name: &str) -> Option<UnixMillis> {
        self.written_moment(name).map(|moment| moment.at)
    }

    /// The same, with how exactly it is written.
    pub(super) fn written_moment(&self, name: &str) -> Option<Moment> {
        moment(self.get(name)?).or_else(|| {
            self.fault(name, "must be a time: seconds or milliseconds since 1970, or RFC 3339")
        })
    }

    /// The address of a person, a group or a channel.
    pub(super) fn address(&self, name: &str) -> Option<String> {
        address::read(self.get(name)?)
            .or_else(|| self.fault(name, "must be an address, such as 6281234567890@c.us"))
    }

    /// A list of addresses.
    pub(super) fn addresses(&self, name: &str, most: usize) -> Vec<String> {
        let items = match self.get(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(_) => {
                self.fault::<()>(name, format!("must be a list of at most {most} addresses"));
                return Vec::new();
            }
        };
        let read = |(index, item): (usize, &Value)| {
            address::read(item).or_else(|| {
                let name = format!("{name}/{index}");
                self.fault(&name, "must be an address, such as 6281234567890@c.us")
            })
        };
        items.iter().enumerate().filter_map(read).collect()
    }

    /// What WhatsApp calls a message, a call or a notice.
    pub(super) fn id(&self, name: &str) -> Option<address::Name> {
        address::Name::read(self.get(name)?).or_else(|| {
            self.fault(
                name,
                "must be an id: a string of 1 to 256 characters, or an object with one",
            )
        })
    }
}

/// A whole number, however it is written.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64()?;
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and not large")]
            (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
        }),
        Value::String(text) => text.trim().trim_end_matches('%').parse().ok(),
        _ => None,
    }
}

fn moment(value: &Value) -> Option<Moment> {
    let (at, is_a_second) = match (whole(value), value) {
        (Some(number), _) if number.unsigned_abs() < LEAST_MILLIS => {
            (UnixMillis::from_secs(number), true)
        }
        (Some(number), _) => (UnixMillis(number), false),
        (None, Value::String(text)) => {
            let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
            let millis = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()?;
            (UnixMillis(millis), !text.contains('.'))
        }
        (None, _) => return None,
    };
    TIMES.contains(&at.0).then_some(Moment { at, is_a_second })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_understood_as_clients_write_it() {
        let at = |is_a_second| Some(Moment { at: UnixMillis(1_640_995_200_000), is_a_second });
        assert_eq!(moment(&json!(1_640_995_200)), at(true));
        assert_eq!(moment(&json!(1_640_995_200_000_i64)), at(false));
        assert_eq!(moment(&json!("1640995200")), at(true));
        assert_eq!(moment(&json!("2022-01-01T00:00:00Z")), at(true));
        assert_eq!(moment(&json!("2022-01-01T01:00:00.000+01:00")), at(false));
        for wrong in [json!(0), json!(-5), json!(1.5), json!("soon"), json!([]), json!(i64::MIN)] {
            assert_eq!(moment(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn all_faults_are_told_with_where_they_are() {
        let value = json!({ "a": { "n": 12, "t": 7 }, "b": [] });
        let faults = Faults::default();
        let members = Members::new(value.as_object().unwrap(), &faults);
        let inner = members.object("a").unwrap();
        assert_eq!(inner.number("n", 0..=10), None);
        assert_eq!(inner.text("t", 1..=3), None);
        assert_eq!(inner.need("gone", inner.flag("gone")), None);
        assert!(members.object("b").is_none());
        let faults = faults.settle::<()>(None).unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/a/n", "/a/t", "/a/gone", "/b"]);
    }
}
