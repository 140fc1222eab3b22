//! The OpenAPI document as a judge: every answer that the tests see is one that it describes.

use std::sync::LazyLock;

use serde_json::{Value, json};
use wagate::http::{self, Limits};

use crate::schema;

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::new);

/// What the document says.
struct Contract {
    document: Value,
}

/// An answer, as far as the document describes it.
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

/// Fails unless the document describes this answer.
#[track_caller]
pub(crate) fn check(seen: &Seen<'_>) {
    if let Err(why) = CONTRACT.judge(seen) {
        let Seen { method, path, status, body, .. } = seen;
        let body = String::from_utf8_lossy(body);
        panic!("{method} {path} answered {status}, which differs from the document: {why}\n{body}");
    }
}

/// Fails unless `value` is as the schema at this place of the document says.
#[track_caller]
pub(crate) fn check_value(pointer: &str, value: &Value) {
    if let Err(why) = CONTRACT.validate(pointer, value) {
        panic!("{pointer}: {why}\n{value:#}");
    }
}

/// The document, as `GET /openapi.json` answers it.
pub(crate) fn document() -> Value {
    http::document(&Limits::default())
}

impl Contract {
    fn new() -> Self {
        let mut document = document();
        // The document lets members be added; those that are there must be in it all the same.
        close(&mut document);
        Self { document }
    }

    fn judge(&self, seen: &Seen<'_>) -> Result<(), String> {
        // A preflight asks for a browser what CORS lets it ask; it is no operation.
        if seen.method == "OPTIONS" && seen.status < 400 {
            return Ok(());
        }
        // `HEAD` is `GET` without the body.
        let is_head = seen.method == "HEAD";
        let method = if is_head { "get".to_owned() } else { seen.method.to_ascii_lowercase() };
        let path = self.path_of(seen.path);
        let operation = path.as_ref().map(|path| format!("/paths/{}/{method}", escape(path)));
        let Some(operation) = operation.filter(|it| self.document.pointer(it).is_some()) else {
            // Nothing there: what is left is a problem.
            let problem = json!(serde_json::from_slice::<Value>(seen.body).unwrap_or_default());
            return if seen.status < 400 {
                Err("no such operation".to_owned())
            } else {
                self.validate("/components/schemas/Problem", &problem)
            };
        };
        let mut response = format!("{operation}/responses/{}", seen.status);
        let found = self.document.pointer(&response).ok_or("undocumented status")?;
        if let Some(shared) = found["$ref"].as_str() {
            shared.trim_start_matches('#').clone_into(&mut response);
        }
        let content = self.document.pointer(&format!("{response}/content"));
        let Some(content) = content.and_then(Value::as_object) else {
            return if seen.body.is_empty() { Ok(()) } else { Err("a body".to_owned()) };
        };
        if !content.contains_key(seen.content_type) {
            return Err(format!("undocumented type of content: {}", seen.content_type));
        }
        if is_head || !seen.content_type.ends_with("json") {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(seen.body).map_err(|error| error.to_string())?;
        self.validate(&format!("{response}/content/{}/schema", escape(seen.content_type)), &body)
    }

    /// The path of the document that an address is of: the one with the fewest variable parts.
    fn path_of(&self, address: &str) -> Option<String> {
        let parts: Vec<_> = address.split('/').collect();
        let fits = |path: &&String| {
            let own: Vec<_> = path.split('/').collect();
            own.len() == parts.len()
                && own
                    .iter()
                    .zip(&parts)
                    .all(|(own, part)| own == part || (own.starts_with('{') && !part.is_empty()))
        };
        let paths = self.document["paths"].as_object()?;
        paths.keys().filter(fits).min_by_key(|path| path.matches('{').count()).cloned()
    }

    fn validate(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let faults = schema::faults(&self.document, pointer, value);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// Forbids, in every schema of an object, the members that it does not name.
pub(crate) fn close(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                // An example is no schema, and parts of a whole are closed by nobody.
                if !matches!(name.as_str(), "example" | "examples" | "allOf") {
                    close(member);
                }
            }
            let is_object = members.get("type").is_some_and(|kind| kind == "object");
            if is_object && members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        _ => {}
    }
}

/// A name as JSON pointers have it.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
