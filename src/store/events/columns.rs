//! The columns of a session that an event changes.

use entity::session;
use sea_orm::{
    ActiveValue::{self, NotSet, Set, Unchanged},
    Value,
};

/// The columns that [`crate::event::status::apply`] owns; settings and the desired state belong to the API.
///
/// What a status is goes as a whole. Whose a session is, and what is remembered of its troubles, may be changed by others
/// at the same moment, and on PostgreSQL in between: that goes only where the event has made something else of what was
/// there `before`. Then it goes together, as a number is its account's: a caller may have changed it while it was nobody's.
pub(super) fn status_columns(
    row: &session::Model,
    before: &session::Model,
) -> session::ActiveModel {
    let session::ActiveModel { trouble, trouble_count, .. } =
        if (row.trouble, row.trouble_count) == (before.trouble, before.trouble_count) {
            session::ActiveModel::default()
        } else {
            session::ActiveModel {
                trouble: Set(row.trouble),
                trouble_count: Set(row.trouble_count),
                ..Default::default()
            }
        };
    let session::ActiveModel { phone_number, account_jid, account_lid, .. } =
        if whose(row) == whose(before) {
            session::ActiveModel::default()
        } else {
            session::ActiveModel {
                phone_number: Set(row.phone_number.clone()),
                account_jid: Set(row.account_jid.clone()),
                account_lid: Set(row.account_lid.clone()),
                ..Default::default()
            }
        };
    session::ActiveModel {
        id: Unchanged(row.id.clone()),
        phone_number,
        given_phone_number: changed(&row.given_phone_number, &before.given_phone_number),
        push_name: changed(&row.push_name, &before.push_name),
        account_jid,
        account_lid,
        account_changed_at: changed(&row.account_changed_at, &before.account_changed_at),
        previous_phone_number: changed(&row.previous_phone_number, &before.previous_phone_number),
        dial_failures: changed(&row.dial_failures, &before.dial_failures),
        trouble,
        trouble_count,
        throttled_until: changed(&row.throttled_until, &before.throttled_until),
        qr_rounds: changed(&row.qr_rounds, &before.qr_rounds),
        status: Set(row.status),
        status_since: Set(row.status_since),
        message: Set(row.message.clone()),
        reconnecting: Set(row.reconnecting),
        next_attempt_at: Set(row.next_attempt_at),
        loading_percent: Set(row.loading_percent),
        qr: Set(row.qr.clone()),
        qr_issued_at: Set(row.qr_issued_at),
        qr_expires_at: Set(row.qr_expires_at),
        qr_sequence: Set(row.qr_sequence),
        last_qr_at: Set(row.last_qr_at),
        pairing_attempts: Set(row.pairing_attempts),
        pairing_error: Set(row.pairing_error.clone()),
        pairing_error_at: Set(row.pairing_error_at),
        connected_at: Set(row.connected_at),
        last_active_at: Set(row.last_active_at),
        last_disconnect_reason: Set(row.last_disconnect_reason.clone()),
        last_disconnect_code: Set(row.last_disconnect_code),
        last_disconnect_at: Set(row.last_disconnect_at),
        banned_until: Set(row.banned_until),
        pairing_code_until: Set(row.pairing_code_until),
        observed_at: Set(row.observed_at),
        observed_mark: Set(row.observed_mark.clone()),
        updated_at: Set(row.updated_at),
        ..Default::default()
    }
}

/// Whose a session is: its number, and the addresses that its account has said.
fn whose(row: &session::Model) -> [Option<&str>; 3] {
    [&row.phone_number, &row.account_jid, &row.account_lid].map(Option::as_deref)
}

fn changed<T: Clone + PartialEq + Into<Value>>(now: &T, before: &T) -> ActiveValue<T> {
    if now == before { NotSet } else { Set(now.clone()) }
}
