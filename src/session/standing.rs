//! What a session's row says of starting it: resume it after a restart, and with which credentials?

use entity::{
    session,
    state::{DesiredState, SessionStatus},
};

use crate::event::Disconnect;

/// Whether nothing runs, and nothing will by itself.
pub(super) fn is_ended(status: SessionStatus) -> bool {
    matches!(
        status,
        SessionStatus::SessionNotConnected | SessionStatus::AuthFailure | SessionStatus::Error
    )
}

/// Whether only a human can help: then a restart of the process changes nothing.
///
/// "Stopped" is not such a reason: who wants it running again has said so since.
pub(super) fn ended_for_good(row: &session::Model) -> bool {
    row.desired_state == DesiredState::Stopped
        || (is_ended(row.status)
            && row.last_disconnect_reason.as_deref().is_some_and(|reason| {
                reason != Disconnect::Stopped.word() && reason != Disconnect::LoggedOutHere.word()
            }))
}

/// Whether WhatsApp has told us that these credentials will never work again.
pub(super) fn credentials_are_dead(row: &session::Model) -> bool {
    is_ended(row.status)
        // Said of these, and not of those before the last pairing.
        && row.last_disconnect_at >= row.connected_at
        && matches!(
            row.last_disconnect_reason.as_deref(),
            Some("logged_out" | "logged_out_here" | "credentials_refused")
        )
}

#[cfg(test)]
mod tests {
    use entity::UnixMillis;

    use super::*;
    use crate::event::{
        Account, Event,
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

    #[test]
    fn what_is_wanted_is_resumed_unless_only_a_human_can_help() {
        assert!(!ended_for_good(&after(&[])), "created, and cut off before its first dial");
        assert!(!ended_for_good(&after(&[ready()])));
        let stopped = after(&[ready(), Event::Disconnected(Disconnect::Stopped)]);
        assert!(!ended_for_good(&stopped), "wanted again since it was stopped");
        assert!(ended_for_good(&after(&[ready(), logged_out()])));
        let unwanted = session::Model { desired_state: DesiredState::Stopped, ..after(&[ready()]) };
        assert!(ended_for_good(&unwanted));
    }
}
