//! What callers keep with an external session.

use serde_json::{Map, Value};

use crate::{service::FieldError, store::sessions::SessionData};

/// The member of it that says what the session is called where it runs, and its longest value in characters.
const VPS_SESSION_ID: &str = "vps_session_id";
pub const LONGEST_ID: usize = 128;

/// Bytes of all of it, as JSON.
pub const LONGEST: usize = 16 << 10;

/// Checks what a caller wants to keep.
pub fn session_data(data: &Map<String, Value>) -> Result<SessionData, FieldError> {
    let fault = |name: &str, detail: String| Err(FieldError::new(name, detail));
    let vps_session_id = match data.get(VPS_SESSION_ID) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => {
            let is_good =
                (1..=LONGEST_ID).contains(&id.chars().count()) && !id.chars().any(char::is_control);
            if !is_good {
                let detail =
                    format!("must have 1 to {LONGEST_ID} characters, and no control characters");
                return fault("sessionData/vps_session_id", detail);
            }
            Some(id.clone())
        }
        Some(_) => return fault("sessionData/vps_session_id", "must be a string".to_owned()),
    };
    let json = Value::Object(data.clone()).to_string();
    if json.len() > LONGEST {
        return fault("sessionData", format!("must have at most {LONGEST} bytes as JSON"));
    }
    Ok(SessionData { json, vps_session_id })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_small_and_its_id_is_a_text() {
        let read = |value: Value| session_data(value.as_object().unwrap());
        let data = read(json!({ "vps_session_id": "wa_1", "host": "vps-1" })).unwrap();
        assert_eq!(data.vps_session_id.as_deref(), Some("wa_1"));
        assert_eq!(data.json, r#"{"host":"vps-1","vps_session_id":"wa_1"}"#);
        assert_eq!(read(json!({})).unwrap().vps_session_id, None);
        for wrong in [json!(""), json!(7), json!("a\nb"), json!("x".repeat(129))] {
            let fault = read(json!({ "vps_session_id": wrong })).unwrap_err();
            assert_eq!(fault.pointer, "/sessionData/vps_session_id");
        }
        let fault = read(json!({ "x": "y".repeat(LONGEST) })).unwrap_err();
        assert_eq!(fault.pointer, "/sessionData");
    }
}
