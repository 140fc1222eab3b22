//! What a session's row says of its end, and of its credentials.

use entity::{session, state::SessionStatus};

/// Whether nothing runs, and nothing will by itself.
pub(super) fn is_ended(status: SessionStatus) -> bool {
    matches!(
        status,
        SessionStatus::SessionNotConnected | SessionStatus::AuthFailure | SessionStatus::Error
    )
}

/// Whether WhatsApp has told us that these credentials will never work again.
pub(super) fn credentials_are_dead(row: &session::Model) -> bool {
    is_ended(row.status)
        // Said of these, and not of those before the last pairing.
        && row.last_disconnect_at >= row.connected_at
        && matches!(
            row.last_disconnect_reason.as_deref(),
            Some("logged_out" | "logged_out_here" | "credentials_refused" | "other_account")
        )
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;
    use crate::event::{
        Account, Disconnect, Event,
        status::{apply, tests::row},
    };

    fn after(events: &[Event]) -> session::Model {
        let mut row = row();
        for (at, event) in (1..).zip(events) {
            apply(&mut row, event, UnixMillis(at));
        }
        row
    }

    fn ready() -> Event {
        Event::Ready(Account::default())
    }

    fn logged_out() -> Event {
        Event::Disconnected(Disconnect::LoggedOut { code: Some(401) })
    }

    #[test]
    fn credentials_die_with_a_logout_and_not_with_one_before_the_last_pairing() {
        assert!(credentials_are_dead(&after(&[ready(), logged_out()])));
        assert!(!credentials_are_dead(&after(&[ready(), logged_out(), ready()])));

        // What a restart makes of a row whose stop was not concluded.
        let cut_off = session::Model {
            status: SessionStatus::SessionNotConnected,
            ..after(&[ready(), logged_out(), ready()])
        };
        assert!(!credentials_are_dead(&cut_off));
    }
}
