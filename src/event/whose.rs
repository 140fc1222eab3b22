//! Whose a session is that runs elsewhere: what is said of it, and what makes it anybody's. Part of the status machine
//! ([`super::status`]): nothing else may set these columns.

use entity::{
    UnixMillis, session,
    state::{Direction, Origin, SessionStatus},
};

use super::{Event, NewMessage, status::transition};

/// Whether a session that runs elsewhere may be another account's after `event`, which does not say whose: there is a
/// code that anybody may scan, or it was over and is at work again. The number stays, as what it was last.
pub(super) fn is_anybodys(row: &session::Model, event: &Event, before: SessionStatus) -> bool {
    let is_over = |status| {
        use SessionStatus::{AuthFailure, Error, SessionNotConnected};
        matches!(status, SessionNotConnected | AuthFailure | Error)
    };
    row.origin == Origin::External
        && match event {
            Event::Qr { .. } => true,
            Event::Ready(account) if account.phone_number.is_some() => false,
            event => is_over(before) && !is_over(transition(before, event)),
        }
}

/// Whether nothing has said whose the session is but whoever made it, with the number that it has still, and nothing has
/// spoken against that.
pub fn is_given(row: &session::Model) -> bool {
    row.given_phone_number.is_some() && row.given_phone_number == row.phone_number
}

/// Notes that something says this number of the session: another one than it was made with speaks against that for good.
pub(super) fn is_said(row: &mut session::Model, number: &str) {
    row.given_phone_number = row.given_phone_number.take().filter(|given| given == number);
}

/// Writes the number that a client says its session has. Another one than that of the account, if one is known, is of
/// another account.
pub(super) fn say(row: &mut session::Model, number: &str) {
    is_said(row, number);
    let own = format!("{number}@s.whatsapp.net");
    if row.account_jid.as_ref().is_some_and(|known| *known != own) {
        row.account_jid = Some(own);
        row.account_lid = None;
    }
    row.phone_number = Some(number.to_owned());
}

/// Learns whose a session is from an event of `at`, which is older than its state. Whether that was not known. Whoever
/// scanned a code since may be somebody else.
pub fn learn(row: &mut session::Model, event: &Event, at: UnixMillis) -> bool {
    let Event::Ready(account) = event else { return false };
    let is_known =
        row.account_jid.is_some() || row.last_qr_at.is_some_and(|shown_at| at < shown_at);
    let Some(number) = account.phone_number.as_deref().filter(|_| !is_known) else { return false };
    is_said(row, number);
    row.phone_number.clone_from(&account.phone_number);
    row.account_jid.clone_from(&account.jid);
    row.push_name = row.push_name.take().or_else(|| account.push_name.clone());
    true
}

/// Learns from a message whose a connected session is that runs elsewhere and has not said so. Whether that was not known.
///
/// The message says that it is the account's, or `to` whom somebody else's is. What was written before the session was
/// connected may be of whoever it belonged to then.
pub fn learn_from(row: &mut session::Model, message: &NewMessage, to: Option<&str>) -> bool {
    let own = match message.direction {
        Direction::Outbound => Some(message.sender.as_str()),
        Direction::Inbound if !message.is_group => to,
        // To whom that is which goes to many says less.
        Direction::Inbound => None,
    };
    let number = own.and_then(|own| own.strip_suffix("@s.whatsapp.net"));
    let Some((own, number)) = own.zip(number) else { return false };
    let is_since = row.connected_at.is_some_and(|since| message.sent_at >= since);
    let is_unknown = row.origin == Origin::External
        && row.status == SessionStatus::SessionConnected
        && row.account_jid.is_none();
    if !is_unknown || !is_since {
        return false;
    }
    is_said(row, number);
    row.phone_number = Some(number.to_owned());
    row.account_jid = Some(own.to_owned());
    true
}
