//! What the client library counts, by name, as version 0.7 has it: a name that is not here appears when it first counts.
//!
//! A test reads the library's source and says what is missing here, or is there no more.

/// A counter of the library's.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) label: Option<&'static str>,
    /// What the label may say; one empty text where there is none.
    pub(super) values: &'static [&'static str],
}

const fn one(name: &'static str) -> Known {
    Known { name, label: None, values: &[""] }
}

const fn each(name: &'static str, label: &'static str, values: &'static [&'static str]) -> Known {
    Known { name, label: Some(label), values }
}

/// How something ended.
const OUTCOMES: &[&str] = &["ok", "fail"];

/// Why a message is asked for again.
const REASONS: &[&str] = &[
    "unknown",
    "no_session",
    "invalid_key",
    "invalid_key_id",
    "invalid_message",
    "invalid_signature",
    "future_message",
    "bad_mac",
    "invalid_session",
    "invalid_msg_key",
    "bad_broadcast_ephemeral",
    "unknown_companion",
    "adv_failure",
    "status_revoke_delay",
];

pub(super) const COUNTERS: &[Known] = &[
    each("wa_recv_total", "outcome", &["decrypted", "duplicate", "undecryptable", "skmsg"]),
    each("wa_send_total", "kind", &["dm", "group", "status", "newsletter"]),
    each("wa_retry_receipt_total", "reason", REASONS),
    each("wa_high_retry_total", "reason", REASONS),
    each("wa_retry_unknown_device_total", "sender_type", &["primary", "companion"]),
    one("wa_retry_refused_total"),
    one("wa_base_key_collision_total"),
    one("wa_session_record_quarantined_total"),
    each("wa_iq_total", "result", &["ok", "timeout", "error"]),
    one("wa_reconnect_total"),
    one("wa_stream_error_total"),
    each("wa_connect_total", "outcome", OUTCOMES),
    each("wa_appstate_sync_total", "outcome", &["ok", "deferred", "fail"]),
    one("wa_appstate_mutations_total"),
    one("wa_identity_change_total"),
    each("wa_prekey_upload_total", "outcome", OUTCOMES),
];
