//! How the reference calls what stands in values: schemas of types that are written as text.

use std::{borrow::Cow, time::Duration};

use bytesize::ByteSize;
use humantime_serde::re::humantime;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{DatabaseUrl, Keep, Listed, Rate, SecretText};

macro_rules! text {
    ($($of:ident $(<$parameter:ident>)?: $called:literal;)*) => {$(
        impl $(<$parameter>)? JsonSchema for $of $(<$parameter>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($of).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "title": $called })
            }
        }
    )*};
}

/// For fields whose types are other people's.
pub(super) struct Time;
pub(super) struct Size;
pub(super) struct Address;
pub(super) struct File;
pub(super) struct Version;

text! {
    Time: "a time, as in `30s`, `5m`, `12h` or `3days`";
    Size: "a size, as in `64KiB`, `100MiB` or `2GiB`";
    Address: "an address and a port, as in `127.0.0.1:8080` or `[::1]:8080`";
    File: "a path";
    Version: "three numbers with dots between them";
    Keep: "a time, as in `12h` or `30days`, or `never`";
    Rate: "a rate, as in `50/s`, `600/min` or `100/h`, or `off`";
    SecretText: "a text that is never shown";
    DatabaseUrl: "a URL";
    Listed<T>: "a list in one text, with commas";
}

/// As it is written in the file and the example; `ByteSize` has a blank and a decimal of its own.
pub(super) fn size(text: &str) -> Option<String> {
    let size: ByteSize = text.parse().ok()?;
    let short = text.replace(".0 ", "");
    (short.parse() == Ok(size)).then_some(short)
}

/// As it is written in the file and the example, if it is whole days; what writes times has months of its own, of which
/// nobody knows how long they are.
pub(super) fn days(text: &str) -> Option<String> {
    let time = humantime::parse_duration(text).ok()?;
    let days = time.as_secs() / Duration::from_hours(24).as_secs();
    let short = format!("{days}{}", if days == 1 { "day" } else { "days" });
    (days > 0 && humantime::parse_duration(&short) == Ok(time)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_days_are_written_in_days_and_nothing_else_is() {
        let days = |time| days(&humantime::format_duration(time).to_string());
        let day = Duration::from_hours(24);
        for (time, written) in [(day, "1day"), (30 * day, "30days"), (400 * day, "400days")] {
            assert_eq!(days(time).as_deref(), Some(written));
        }
        for time in [Duration::ZERO, Duration::from_hours(12), 400 * day + Duration::from_nanos(1)]
        {
            assert_eq!(days(time), None, "{time:?}");
        }
        for text in ["never", "", "50/s", "400"] {
            assert_eq!(super::days(text), None, "{text}");
        }
    }
}
