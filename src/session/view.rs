//! What a session looks like from outside: the one function that every status, list and stream goes through.
//!
//! What is counted or filtered in the database (the summary of a list, its filter, metrics) goes by the same table in SQL
//! (`store/sessions/list.rs`). A property test compares all of them after each of random events (`tests/it/honesty.rs`).

use entity::{
    UnixMillis,
    id::SessionId,
    session,
    state::{DesiredState, Origin, ReceiverAuth, SessionStatus},
};
use serde_json::{Map, Value};

use crate::event::{Group, payload::rfc3339};

/// A session's state at one moment, with the computed flags.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are the contract")]
pub struct StatusView {
    pub session_id: SessionId,
    pub status: SessionStatus,
    /// Which group of lists and metrics it is counted in; the flags say the same.
    pub group: Group,
    /// For people, always there.
    pub message: String,
    /// The code to scan; none when there is none or it has expired.
    pub qr: Option<String>,
    pub qr_issued_at: Option<UnixMillis>,
    pub qr_expires_at: Option<UnixMillis>,
    pub qr_sequence: i64,
    pub user_id: Option<String>,
    pub phone_number: Option<String>,
    pub push_name: Option<String>,
    pub loading_percent: Option<i16>,
    pub is_connected: bool,
    pub needs_qr: bool,
    pub is_loading: bool,
    pub has_error: bool,
    pub reconnecting: bool,
    /// When the status last changed.
    pub since: UnixMillis,
    pub next_attempt_at: Option<UnixMillis>,
    pub last_disconnect: Option<LastDisconnect>,
    pub pairing: Pairing,
    /// Set when the session came to belong to another account than before.
    pub account_changed: Option<AccountChanged>,
    /// How long WhatsApp refuses the account, after a ban.
    pub banned_until: Option<UnixMillis>,
    pub desired_state: DesiredState,
    pub is_notification: bool,
    /// The tenant's own.
    pub ai_config: Option<Map<String, Value>>,
    pub handover: Handover,
    pub origin: Origin,
    /// What the caller keeps with an external session: a JSON object, as text.
    pub session_data: Option<String>,
    /// How the events of an external session are let in.
    pub receiver_auth: Option<ReceiverAuth>,
    pub connected_at: Option<UnixMillis>,
    pub last_active_at: Option<UnixMillis>,
    /// Messages that could not be read when they came, over all of the session's life.
    pub undecryptable: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

/// Whom the session has handed over to, and who to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// When it handed over; none if it has not.
    pub at: Option<UnixMillis>,
    /// To whom. Whoever shows it looks the name up.
    pub to: Option<SessionId>,
    /// Those that have handed over to it, the last first. Looked up as well.
    pub from: Vec<SessionId>,
}

/// Why and when the session last ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastDisconnect {
    /// A stable word.
    pub reason: String,
    /// WhatsApp's own code.
    pub code: Option<i32>,
    pub at: UnixMillis,
}

/// How the pairings of a session went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Series of QR codes and pairing codes asked for, over all of the session's life.
    pub attempts: i64,
    /// Why and when the last one failed; none since one did not.
    pub last_error: Option<PairingError>,
    /// When the newest QR code was issued, also after it is gone.
    pub last_qr_at: Option<UnixMillis>,
    /// Until when the code to type is good, where it is all that is left.
    pub typed_until: Option<UnixMillis>,
}

/// Why and when a pairing failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingError {
    /// A stable word.
    pub reason: String,
    pub at: UnixMillis,
}

/// When a session came to belong to another account, and whose it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChanged {
    pub previous_phone_number: Option<String>,
    pub at: UnixMillis,
}

/// Computes the view of a session at `now`.
pub fn view(row: &session::Model, now: UnixMillis) -> StatusView {
    let live = row.status == SessionStatus::QrGenerated
        && row.qr.is_some()
        && row.qr_expires_at.is_some_and(|expires_at| now < expires_at);
    let typed_until = row
        .pairing_code_until
        .filter(|until| row.status == SessionStatus::QrGenerated && now < *until);
    let group = Group::of(row.status, live);
    let handed_over_at = row.migrated_at.filter(|_| row.migrated_to.is_some());
    // One that runs elsewhere may be at work again all the same.
    let is_idle = matches!(group, Group::Disconnected | Group::Error)
        && row.status != SessionStatus::QrGenerated;
    let message = match (handed_over_at, &row.message) {
        (Some(_), _) if is_idle => HANDED_OVER.to_owned(),
        (_, Some(message)) => message.clone(),
        (_, None) => typed_until.map_or_else(|| sentence(row, live).to_owned(), typed_only),
    };
    let last_disconnect =
        row.last_disconnect_reason.as_ref().zip(row.last_disconnect_at).map(|(reason, at)| {
            LastDisconnect { reason: reason.clone(), code: row.last_disconnect_code, at }
        });
    let pairing = Pairing {
        attempts: row.pairing_attempts,
        last_error: row
            .pairing_error
            .clone()
            .zip(row.pairing_error_at)
            .map(|(reason, at)| PairingError { reason, at }),
        last_qr_at: row.last_qr_at,
        typed_until,
    };
    let account_changed = row
        .account_changed_at
        .map(|at| AccountChanged { previous_phone_number: row.previous_phone_number.clone(), at });
    StatusView {
        session_id: row.session_id.clone(),
        status: row.status,
        group,
        message,
        qr: row.qr.clone().filter(|_| live),
        qr_issued_at: row.qr_issued_at.filter(|_| live),
        qr_expires_at: row.qr_expires_at.filter(|_| live),
        qr_sequence: row.qr_sequence,
        user_id: row.user_id.clone(),
        phone_number: row.phone_number.clone(),
        push_name: row.push_name.clone(),
        loading_percent: row.loading_percent,
        is_connected: group == Group::Connected,
        needs_qr: group == Group::NeedsQr,
        is_loading: group == Group::Loading,
        has_error: group == Group::Error,
        reconnecting: row.reconnecting,
        since: row.status_since,
        next_attempt_at: row.next_attempt_at,
        last_disconnect,
        pairing,
        account_changed,
        banned_until: row.banned_until.filter(|until| now < *until),
        desired_state: row.desired_state,
        is_notification: row.is_notification.unwrap_or(false),
        ai_config: row.ai_config.as_deref().and_then(|json| serde_json::from_str(json).ok()),
        handover: Handover { at: handed_over_at, ..Handover::default() },
        origin: row.origin,
        session_data: row.session_data.clone(),
        receiver_auth: row.receiver_auth,
        connected_at: row.connected_at,
        last_active_at: row.last_active_at,
        undecryptable: row.undecryptable,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// What is said of a session that has handed over, whatever it ended with.
const HANDED_OVER: &str = "Another session of the account has taken over: see migratedTo";

/// What is said of a session whose QR codes are used up, while its code to type is good.
pub fn typed_only(until: UnixMillis) -> String {
    let until = rfc3339(until);
    format!("No QR code is left to scan: the pairing code can be typed until {}", until.as_str())
}

/// The standard sentence of a status, where the event gave none of its own.
fn sentence(row: &session::Model, scannable: bool) -> &'static str {
    match row.status {
        SessionStatus::SessionNotConnected => "WhatsApp session is not connected",
        SessionStatus::Connecting if row.reconnecting => {
            "Connection lost, reconnecting to WhatsApp"
        }
        SessionStatus::Connecting => "Connecting to WhatsApp",
        SessionStatus::QrGenerated if scannable => "QR code generated, scan to connect",
        SessionStatus::QrGenerated => "The QR code has expired, the next one is on its way",
        SessionStatus::Loading => "Loading WhatsApp session",
        SessionStatus::SessionConnected => "WhatsApp session connected successfully",
        SessionStatus::AuthFailure => "WhatsApp refused the session",
        SessionStatus::Error => "The session has failed",
    }
}
