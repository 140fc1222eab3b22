//! What the routes say about themselves, one resource a file: the same as the handlers beside.

pub(super) mod audience;
pub(super) mod audit;
pub(super) mod campaigns;
pub(super) mod contacts;
pub(super) mod daemon;
pub(super) mod events;
pub(super) mod external;
pub(super) mod messages;
pub(super) mod organizations;
pub(super) mod sessions;
pub(super) mod tokens;

use serde_json::{Value, json};

/// A point in time, for examples.
pub(super) const AT: &str = "2025-01-20T10:00:00.000Z";

/// An answer with this in it.
pub(super) fn success(data: &Value) -> Value {
    json!({ "success": true, "data": data })
}

/// A page with this alone in it.
pub(super) fn page(data: &Value) -> Value {
    json!({ "success": true, "data": [data], "nextCursor": null })
}
