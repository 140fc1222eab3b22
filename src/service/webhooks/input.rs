//! What an endpoint may be like: read from a request, judged all at once.

use std::{collections::BTreeMap, time::Duration};

use entity::{
    id::SessionId,
    webhook::{
        endpoint,
        state::{Format, Ordering},
    },
};

use serde::Serialize;

use super::limits;
use crate::{
    delivery::Client,
    service::{Error, FieldError},
    store::webhooks::{EndpointChange, NewEndpoint},
    webhook::filter::{self, Filter, types_of},
};

/// Headers that are ours, or that would break the request.
const RESERVED: [&str; 14] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "date",
];

/// The most headers of an endpoint, and the longest value of one.
const MOST_HEADERS: usize = 20;
const LONGEST_HEADER: usize = 4096;

/// The longest description.
const LONGEST_DESCRIPTION: usize = 500;

/// Members of a request that makes or changes an endpoint; none for what was not given. Numbers are
/// within their bounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EndpointInput {
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    pub format: Option<Format>,
    pub event_types: Option<Vec<String>>,
    pub session_ids: Option<Vec<String>>,
    pub phone_numbers: Option<Vec<String>>,
    pub headers: Option<BTreeMap<String, String>>,
    pub ordering: Option<Ordering>,
    pub max_in_flight: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<Option<i64>>,
    pub timeout_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<Option<i64>>,
    pub max_age_seconds: Option<i64>,
}

impl EndpointInput {
    /// The endpoint to be made. `names` are the members that URL and phone number came in.
    pub(super) async fn create(
        self,
        client: &Client,
        max_age: Duration,
        names: (&str, &str),
    ) -> Result<NewEndpoint, Error> {
        let format = self.format.unwrap_or(Format::Envelope);
        let mut errors = Vec::new();
        let all = self.event_types.is_none() && format == Format::Envelope;
        let types = if all { Some(vec!["*".to_owned()]) } else { self.event_types.clone() };
        let Self { url, .. } = &self;
        let url = match url {
            Some(url) => target(client, url, names.0, &mut errors).await,
            None => fault(&mut errors, names.0, "is missing"),
        };
        let types = match types {
            Some(types) => event_types(types, format, &mut errors),
            None => Some(vec!["message.received".to_owned()]),
        };
        let sessions = sessions(self.session_ids.unwrap_or_default(), &mut errors);
        let numbers = numbers(&self.phone_numbers.unwrap_or_default(), names.1, &mut errors);
        let headers = headers(self.headers.unwrap_or_default(), &mut errors);
        let description = description(self.description.flatten(), &mut errors);
        let age = age(self.max_age_seconds, max_age, &mut errors).unwrap_or(max_age);
        match (url, types, sessions, numbers, headers) {
            (
                Some(url),
                Some(event_types),
                Some(session_ids),
                Some(phone_numbers),
                Some(headers),
            ) if errors.is_empty() => Ok(NewEndpoint {
                url,
                description,
                format,
                event_types,
                session_ids,
                phone_numbers,
                headers,
                ordering: self.ordering.unwrap_or(Ordering::None),
                max_in_flight: number(self.max_in_flight).unwrap_or(4),
                rate_per_second: number(self.rate_per_second.flatten()),
                timeout: timeout(self.timeout_ms).unwrap_or(Duration::from_secs(15)),
                max_retries: number(self.max_retries.flatten()),
                max_age: age,
            }),
            _ => Err(Error::Invalid(errors)),
        }
    }

    /// What is to be changed of `row`.
    pub(super) async fn change(
        self,
        row: &endpoint::Model,
        client: &Client,
        max_age: Duration,
    ) -> Result<EndpointChange, Error> {
        let mut errors = Vec::new();
        let format = self.format.unwrap_or(row.format);
        let url = match &self.url {
            // The one that is there is nowhere else.
            Some(url) => {
                target(client, url, "url", &mut errors).await.filter(|url| *url != row.url)
            }
            None => None,
        };
        let types = match self.event_types {
            Some(types) => event_types(types, format, &mut errors),
            // Another format may not have a place for what it is told of.
            None if self.format.is_some() => {
                let kept = serde_json::from_str(&row.event_types).unwrap_or_default();
                event_types(kept, format, &mut errors)
            }
            None => None,
        };
        let change = EndpointChange {
            url,
            description: self.description.map(|text| description(text, &mut errors)),
            format: self.format,
            event_types: types,
            session_ids: self.session_ids.and_then(|ids| sessions(ids, &mut errors)),
            phone_numbers: self
                .phone_numbers
                .and_then(|list| numbers(&list, "phone_numbers", &mut errors)),
            headers: self.headers.and_then(|list| headers(list, &mut errors)),
            ordering: self.ordering,
            max_in_flight: number(self.max_in_flight),
            rate_per_second: self.rate_per_second.map(number),
            timeout: timeout(self.timeout_ms),
            max_retries: self.max_retries.map(number),
            max_age: age(self.max_age_seconds, max_age, &mut errors),
        };
        if errors.is_empty() { Ok(change) } else { Err(Error::Invalid(errors)) }
    }
}

fn fault<T>(errors: &mut Vec<FieldError>, name: &str, detail: impl Into<String>) -> Option<T> {
    errors.push(FieldError::new(name, detail));
    None
}

async fn target(
    client: &Client,
    url: &str,
    name: &str,
    errors: &mut Vec<FieldError>,
) -> Option<String> {
    match client.check(url).await {
        // As it was read: what is shown is what is called.
        Ok(url) => Some(url.to_string()),
        Err(refusal) => fault(errors, name, refusal.to_string()),
    }
}

fn event_types(
    patterns: Vec<String>,
    format: Format,
    errors: &mut Vec<FieldError>,
) -> Option<Vec<String>> {
    let name = "event_types";
    if patterns.is_empty() || patterns.len() > filter::MOST {
        return fault(errors, name, format!("must name 1 to {} types", filter::MOST));
    }
    for (at, pattern) in patterns.iter().enumerate() {
        if types_of(pattern).is_none() {
            let detail = "is no event type: see GET /api/webhooks/event-types";
            return fault(errors, &format!("{name}/{at}"), detail);
        }
    }
    let filter = Filter::new(&patterns, Vec::new(), Vec::new());
    if format == Format::Flat && !filter.types().iter().all(|kind| kind.is_message()) {
        let detail = "must be `message.received` or `message.created` in the `flat` format";
        return fault(errors, name, detail);
    }
    Some(patterns)
}

fn sessions(ids: Vec<String>, errors: &mut Vec<FieldError>) -> Option<Vec<String>> {
    let name = "session_ids";
    if ids.len() > filter::MOST {
        return fault(errors, name, format!("must have at most {} items", filter::MOST));
    }
    for (at, id) in ids.iter().enumerate() {
        if let Err(error) = id.parse::<SessionId>() {
            return fault(errors, &format!("{name}/{at}"), error.to_string());
        }
    }
    Some(ids)
}

/// Phone numbers as sessions have them: digits only.
fn numbers(numbers: &[String], name: &str, errors: &mut Vec<FieldError>) -> Option<Vec<String>> {
    if numbers.len() > filter::MOST {
        return fault(errors, name, format!("must have at most {} items", filter::MOST));
    }
    let mut cleaned = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let ignored = |c: char| c.is_ascii_whitespace() || "+-().".contains(c);
        let digits: String = number.chars().filter(|c| !ignored(*c)).collect();
        let good = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !good {
            let place =
                if name == "phone_number" { name.to_owned() } else { format!("{name}/{at}") };
            return fault(errors, &place, "must have 7 to 15 digits, country code included");
        }
        cleaned.push(digits);
    }
    Some(cleaned)
}

fn headers(
    headers: BTreeMap<String, String>,
    errors: &mut Vec<FieldError>,
) -> Option<BTreeMap<String, String>> {
    if headers.len() > MOST_HEADERS {
        return fault(errors, "headers", format!("must have at most {MOST_HEADERS} members"));
    }
    let mut kept = BTreeMap::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let token = !lower.is_empty()
            && lower.len() <= 100
            && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        // The name goes into a JSON pointer: only what is harmless there is repeated.
        let place = if token { format!("headers/{lower}") } else { "headers".to_owned() };
        if !token {
            return fault(errors, &place, "has a name that is no header's");
        }
        if RESERVED.contains(&lower.as_str()) || lower.starts_with("webhook-") {
            return fault(errors, &place, "is set by wagate");
        }
        let visible = |b: u8| b == b'\t' || (b' '..=b'~').contains(&b);
        if value.len() > LONGEST_HEADER || !value.bytes().all(visible) {
            let detail = format!("must be at most {LONGEST_HEADER} visible ASCII characters");
            return fault(errors, &place, detail);
        }
        kept.insert(lower, value);
    }
    Some(kept)
}

fn description(text: Option<String>, errors: &mut Vec<FieldError>) -> Option<String> {
    let text = text?;
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        let detail =
            format!("must be at most {LONGEST_DESCRIPTION} characters, and no control characters");
        return fault(errors, "description", detail);
    }
    Some(text)
}

fn age(seconds: Option<i64>, most: Duration, errors: &mut Vec<FieldError>) -> Option<Duration> {
    let age = Duration::from_secs(u64::try_from(seconds?).unwrap_or(0));
    if (limits::SHORTEST_AGE..=most).contains(&age) {
        return Some(age);
    }
    let (least, most) = (limits::SHORTEST_AGE.as_secs(), most.as_secs());
    fault(errors, "max_age_seconds", format!("must be a whole number from {least} to {most}"))
}

fn timeout(millis: Option<i64>) -> Option<Duration> {
    millis.and_then(|it| u64::try_from(it).ok()).map(Duration::from_millis)
}

fn number(number: Option<i64>) -> Option<i32> {
    number.and_then(|number| i32::try_from(number).ok())
}
