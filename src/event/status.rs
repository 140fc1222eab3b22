//! The status machine: what an event makes of a session.
//!
//! [`transition`] is the one place where a status comes from; [`apply`] writes it, and what goes with
//! it, into a session's row. Nothing else may set those columns.

use entity::{UnixMillis, session, state::SessionStatus};

use super::{
    Change, Disconnect, Event, PairingFailure, Report, Reported, payload::REPORTED, whose,
};

/// The status after `event`. Total and pure: the present status matters only where nothing changes.
pub fn transition(status: SessionStatus, event: &Event) -> SessionStatus {
    match event {
        Event::Qr { .. } => SessionStatus::QrGenerated,
        Event::Authenticated | Event::LoadingScreen { .. } => SessionStatus::Loading,
        Event::Ready(_) => SessionStatus::SessionConnected,
        Event::ChangeState(Change::Connecting | Change::Reconnecting { .. }) => {
            SessionStatus::Connecting
        }
        Event::Disconnected(Disconnect::Failed) => SessionStatus::Error,
        Event::Disconnected(_) => SessionStatus::SessionNotConnected,
        Event::AuthFailure(_) => SessionStatus::AuthFailure,
        Event::Reported(report) => report.status(),
        Event::PairingCode { .. }
        | Event::PairingFailed(_)
        | Event::PasskeyRequested
        | Event::AccountChanged(_)
        | Event::Message(_)
        | Event::Ciphertext(_)
        | Event::Ack(_)
        | Event::Call(_)
        | Event::Group(_)
        | Event::Unknown { .. }
        | Event::HistoryProgress { .. } => status,
    }
}

/// Writes what `event` means into the session's row.
///
/// `at` is when it happened. Everything about the earlier status that is no longer true is cleared:
/// a QR code that cannot be scanned any more, a percentage, the next try.
pub fn apply(row: &mut session::Model, event: &Event, at: UnixMillis) {
    if !is_about_status(event) {
        row.last_active_at = row.last_active_at.max(Some(at));
        return;
    }
    // The past comes while the session is at work: nothing of its status changes.
    if matches!(event, Event::HistoryProgress { .. }) || remember(row, event, at) {
        return;
    }

    let before = row.status;
    let status = transition(before, event);
    if status != before {
        row.status = status;
        row.status_since = at;
    }
    // The next code of a series does not answer a phone that wants a passkey.
    let wants_passkey = matches!(event, Event::Qr { .. })
        && before == SessionStatus::QrGenerated
        && row.pairing_error.as_deref() == Some(PairingFailure::PasskeyRequired.word());
    if !wants_passkey {
        row.message = None;
    }
    row.reconnecting = false;
    row.next_attempt_at = None;
    row.loading_percent = None;
    row.pairing_code_until = None;
    row.updated_at = row.updated_at.max(at);
    if whose::is_anybodys(row, event, before) {
        row.account_jid = None;
        row.account_lid = None;
        if row.connected_at.is_some() {
            // It was made for whoever comes first.
            row.given_phone_number = None;
        }
    }
    if !matches!(event, Event::Qr { .. }) {
        row.qr = None;
        row.qr_issued_at = None;
        row.qr_expires_at = None;
    }

    match event {
        Event::Qr { qr, expires_at } => {
            if before != SessionStatus::QrGenerated {
                // The first code of a series.
                row.pairing_attempts += 1;
                row.qr_rounds = row.qr_rounds.saturating_add(1);
            }
            row.last_qr_at = Some(at);
            row.qr = Some(qr.clone());
            row.qr_issued_at = Some(at);
            row.qr_expires_at = Some(*expires_at);
            row.qr_sequence += 1;
        }
        Event::LoadingScreen { percent, message } => {
            row.loading_percent = Some(i16::from((*percent).min(100)));
            row.message = Some(message.clone());
        }
        Event::Ready(account) => {
            if let Some(number) = &account.phone_number {
                whose::is_said(row, number);
            }
            // What is not known this time is not forgotten.
            row.phone_number = account.phone_number.clone().or(row.phone_number.take());
            row.push_name = account.push_name.clone().or(row.push_name.take());
            row.account_jid = account.jid.clone().or(row.account_jid.take());
            row.account_lid = account.lid.clone().or(row.account_lid.take());
            row.connected_at = Some(at);
            row.last_active_at = row.last_active_at.max(Some(at));
            row.banned_until = None;
            is_paired(row);
        }
        Event::ChangeState(Change::Reconnecting { reason, next_attempt_at }) => {
            row.reconnecting = true;
            row.next_attempt_at = *next_attempt_at;
            ended(row, reason.sentence().to_owned(), reason.word(), reason.code(), at);
        }
        Event::Disconnected(reason) => {
            if *reason == Disconnect::QrCodesExhausted {
                pairing_failed(row, reason.word(), at);
            }
            ended(row, reason.sentence().to_owned(), reason.word(), reason.code(), at);
        }
        Event::AuthFailure(failure) => {
            if failure.is_of_pairing() {
                pairing_failed(row, failure.word(), at);
            }
            ended(row, failure.sentence(), failure.word(), failure.code(), at);
            row.banned_until = failure.until();
        }
        Event::Authenticated => is_paired(row),
        Event::Reported(report) => reported(row, report, before, at),
        Event::ChangeState(Change::Connecting)
        | Event::PairingCode { .. }
        | Event::PairingFailed(_)
        | Event::PasskeyRequested
        | Event::AccountChanged(_)
        | Event::Message(_)
        | Event::Ciphertext(_)
        | Event::Ack(_)
        | Event::Call(_)
        | Event::Group(_)
        | Event::Unknown { .. }
        | Event::HistoryProgress { .. } => {}
    }
}

/// Whether an event tells something of the session itself, and not only that it is at work.
pub const fn is_about_status(event: &Event) -> bool {
    !matches!(
        event,
        Event::Message(_)
            | Event::Ciphertext(_)
            | Event::Ack(_)
            | Event::Call(_)
            | Event::Group(_)
            | Event::Unknown { .. }
    )
}

/// Writes what a client that runs elsewhere says of its connection. The status was another `before`.
fn reported(row: &mut session::Model, report: &Report, before: SessionStatus, at: UnixMillis) {
    if let Some(number) = &report.phone_number {
        whose::say(row, number);
    }
    row.last_active_at = row.last_active_at.max(Some(at));
    match &report.what {
        Reported::State(state) => {
            row.reconnecting = *state == super::ClientState::Reconnecting;
            if state.is_end() {
                ended(row, String::new(), state.word(), None, at);
            }
            row.message = state.sentence().map(ToOwned::to_owned);
            if state.status() == SessionStatus::SessionConnected && before != state.status() {
                row.connected_at = Some(at);
                forget_pairing_error(row);
            }
        }
        Reported::Disconnected { reason } => ended(row, reason.clone(), reason, None, at),
        Reported::AuthFailure { msg } => ended(row, msg.clone(), REPORTED, None, at),
    }
}

/// Writes what is remembered of an event that leaves the status alone. Whether this is one.
fn remember(row: &mut session::Model, event: &Event, at: UnixMillis) -> bool {
    match event {
        Event::PairingCode { expires_at, is_last: true } => {
            row.pairing_code_until = Some(*expires_at);
            // Of the last QR code, whatever its time: the client takes none any more.
            row.qr_expires_at = row.qr_expires_at.map(|expires_at| expires_at.min(at));
        }
        Event::PairingCode { is_last: false, .. } => row.pairing_attempts += 1,
        Event::PairingFailed(failure) => {
            if *failure != PairingFailure::CodeWithdrawn && *failure != PairingFailure::CodeRefused
            {
                // Asked for, and not given. What became of a given one was counted with it.
                row.pairing_attempts += 1;
            } else {
                row.pairing_code_until = None;
            }
            pairing_failed(row, failure.word(), at);
        }
        Event::PasskeyRequested => {
            row.message = Some(PairingFailure::PasskeyRequired.sentence().to_owned());
            pairing_failed(row, PairingFailure::PasskeyRequired.word(), at);
        }
        Event::AccountChanged(_) => {
            row.account_changed_at = Some(at);
            row.previous_phone_number = row.phone_number.clone();
        }
        _ => return false,
    }
    row.updated_at = row.updated_at.max(at);
    true
}

/// Writes why a connection is not there any more.
fn ended(
    row: &mut session::Model,
    sentence: String,
    word: &str,
    code: Option<i32>,
    at: UnixMillis,
) {
    row.message = Some(sentence);
    row.last_disconnect_reason = Some(word.to_owned());
    row.last_disconnect_code = code;
    row.last_disconnect_at = Some(at);
}

fn pairing_failed(row: &mut session::Model, word: &str, at: UnixMillis) {
    row.pairing_error = Some(word.to_owned());
    row.pairing_error_at = Some(at);
}

/// Writes that somebody has used a code.
fn is_paired(row: &mut session::Model) {
    row.qr_rounds = 0;
    forget_pairing_error(row);
}

fn forget_pairing_error(row: &mut session::Model) {
    row.pairing_error = None;
    row.pairing_error_at = None;
}

#[cfg(test)]
#[path = "status_tests.rs"]
pub(crate) mod tests;
