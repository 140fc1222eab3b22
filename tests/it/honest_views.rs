//! The views of a session: what each must be when one of them is so.

use serde_json::Value;

/// What a client of the stream knows of a session: a snapshot, and the events since, read by the
/// documented table of what each of them means.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) status: String,
    pub(crate) qr: Value,
    pub(crate) qr_expires_at: Value,
    pub(crate) reconnecting: bool,
    pub(crate) next_attempt_at: Value,
    pub(crate) last_reason: Value,
    pub(crate) last_code: Value,
}

impl Told {
    pub(crate) fn snapshot(session: &Value) -> Self {
        Self {
            status: session["status"].as_str().unwrap().to_owned(),
            qr: session["qr"].clone(),
            qr_expires_at: session["qrExpiresAt"].clone(),
            reconnecting: session["reconnecting"].as_bool().unwrap(),
            next_attempt_at: session["nextAttemptAt"].clone(),
            last_reason: session["lastDisconnect"]["reason"].clone(),
            last_code: session["lastDisconnect"]["code"].clone(),
        }
    }

    pub(crate) fn hear(&mut self, event: &str, data: &Value) {
        // A session that is connected receives the account's past, and is as connected as before.
        if event == "loading_screen" && self.status == "session_connected" {
            return;
        }
        if event == "pairing_code" && data["qrExhausted"] == true {
            // The last code is one no more, whatever was said of its time.
            self.qr = Value::Null;
            self.qr_expires_at = Value::Null;
        }
        let status = match event {
            "qr" => "qr_generated",
            "authenticated" | "loading_screen" => "loading",
            "ready" => "session_connected",
            "change_state" => "connecting",
            "disconnected" if data["reason"] == "failed" => "error",
            "disconnected" => "session_not_connected",
            "auth_failure" => "auth_failure",
            _ => return,
        };
        let ended = matches!(event, "disconnected" | "auth_failure" | "change_state")
            && data["reason"].is_string();
        let last = |name: &str, before: &Value| {
            if ended { data[name].clone() } else { before.clone() }
        };
        *self = Self {
            status: status.to_owned(),
            qr: data["qr"].clone(),
            qr_expires_at: data["qrExpiresAt"].clone(),
            reconnecting: data["state"] == "reconnecting",
            next_attempt_at: data["nextAttemptAt"].clone(),
            last_reason: last("reason", &self.last_reason),
            last_code: last("code", &self.last_code),
        };
    }
}

pub(crate) fn of<'a>(sessions: &'a Value, id: &str) -> &'a Value {
    sessions.as_array().unwrap().iter().find(|it| it["sessionId"] == id).unwrap()
}

/// Each member of the list's item is the status object's.
pub(crate) fn in_list(item: &Value, status: &Value) {
    for (name, value) in item.as_object().unwrap() {
        match name.as_str() {
            "hasQR" => assert_eq!(*value, !status["qr"].is_null(), "{item}"),
            "lastUpdated" => assert_eq!(*value, status["updatedAt"], "{item}"),
            _ => assert_eq!(*value, status[name], "{name} of {item}"),
        }
    }
}

/// The flags are what the contract computes them from.
pub(crate) fn flags(status: &Value, now: &str) {
    let word = status["status"].as_str().unwrap();
    let live = status["qrExpiresAt"].as_str().is_some_and(|at| now < at);
    assert_eq!(status["isConnected"], word == "session_connected", "{status}");
    assert_eq!(status["needsQR"], word == "qr_generated" && live, "{status}");
    assert_eq!(status["isLoading"], matches!(word, "loading" | "connecting"), "{status}");
    assert_eq!(status["hasError"], matches!(word, "auth_failure" | "error"), "{status}");
    assert_eq!(status["qr"].is_null(), status["needsQR"] == false, "{status}");
    for of_a_code in ["qrImage", "qrIssuedAt", "qrExpiresAt"] {
        assert_eq!(status[of_a_code].is_null(), status["qr"].is_null(), "{of_a_code} of {status}");
    }
    assert!(status["since"].as_str().unwrap() <= now, "{status}");
    assert!(status["qrIssuedAt"].as_str().is_none_or(|at| at <= now), "{status}");
    assert!(status["bannedUntil"].as_str().is_none_or(|until| now < until), "{status}");
    assert!(!status["message"].as_str().unwrap().is_empty());
}

/// The summary's group, from the flags alone.
pub(crate) fn group(status: &Value) -> &'static str {
    let is = |flag: &str| status[flag] == true;
    match () {
        () if is("isConnected") => "connected",
        () if is("needsQR") => "needsQR",
        () if is("isLoading") => "loading",
        () if is("hasError") => "error",
        () => "disconnected",
    }
}
