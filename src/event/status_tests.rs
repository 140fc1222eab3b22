use entity::{
    id::{OrganizationId, SessionKey},
    state::{DesiredState, Origin},
};
use proptest::prelude::*;

use super::*;
use crate::event::{
    Account, AuthFailure, ClientState, Disconnect, Loss,
    message::{Ack, AckLevel},
};

/// A session that has done nothing yet.
pub(crate) fn row() -> session::Model {
    session::Model {
        id: SessionKey::new(UnixMillis(1), 1),
        organization_id: OrganizationId::new(UnixMillis(1), 1),
        session_id: "s".parse().unwrap(),
        origin: Origin::Embedded,
        user_id: None,
        phone_number: None,
        given_phone_number: None,
        push_name: None,
        account_jid: None,
        account_lid: None,
        device_id: None,
        deleted_at: None,
        desired_state: DesiredState::Running,
        status: SessionStatus::SessionNotConnected,
        status_since: UnixMillis(0),
        message: None,
        reconnecting: false,
        next_attempt_at: None,
        loading_percent: None,
        qr: None,
        qr_issued_at: None,
        qr_expires_at: None,
        qr_sequence: 0,
        last_qr_at: None,
        pairing_attempts: 0,
        pairing_error: None,
        pairing_error_at: None,
        account_changed_at: None,
        previous_phone_number: None,
        connected_at: None,
        last_active_at: None,
        undecryptable: 0,
        last_disconnect_reason: None,
        last_disconnect_code: None,
        last_disconnect_at: None,
        banned_until: None,
        last_dial_at: None,
        dial_failures: 0,
        trouble: None,
        trouble_count: 0,
        throttled_until: None,
        qr_rounds: 0,
        pairing_code_until: None,
        is_notification: None,
        ai_config: None,
        migrated_to: None,
        migrated_at: None,
        generation: 1,
        created_at: UnixMillis(0),
        session_data: None,
        vps_session_id: None,
        vps_claimed_at: None,
        receiver_auth: None,
        receiver_secret: None,
        previous_receiver_secret: None,
        previous_receiver_until: None,
        observed_at: None,
        observed_mark: None,
        updated_at: UnixMillis(0),
    }
}

fn qr() -> Event {
    Event::Qr { qr: "2@code".to_owned(), expires_at: UnixMillis(60_000) }
}

fn ack() -> Event {
    Event::Ack(Ack {
        wa_id: "X".to_owned(),
        chat: "1@s.whatsapp.net".to_owned(),
        by: "1@s.whatsapp.net".to_owned(),
        level: AckLevel::Read,
        error: None,
        at: UnixMillis(0),
    })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(qr()),
        Just(Event::Authenticated),
        (0..=255u8).prop_map(|percent| Event::LoadingScreen { percent, message: "m".to_owned() }),
        (0..=100u8).prop_map(|percent| Event::HistoryProgress { percent }),
        Just(Event::Ready(Account {
            phone_number: Some("15550001111".to_owned()),
            ..Account::default()
        })),
        Just(Event::ChangeState(Change::Connecting)),
        proptest::option::of(0..1_000_000i64).prop_map(|at| {
            Event::ChangeState(Change::Reconnecting {
                reason: Loss::Silent,
                next_attempt_at: at.map(UnixMillis),
            })
        }),
        Just(Event::Disconnected(Disconnect::Stopped)),
        Just(Event::Disconnected(Disconnect::Failed)),
        Just(Event::Disconnected(Disconnect::LoggedOut { code: Some(401) })),
        Just(Event::AuthFailure(AuthFailure::Banned { code: 101, until: UnixMillis(9) })),
        Just(Event::AuthFailure(AuthFailure::OtherAccount { unlinked: true })),
        any::<bool>().prop_map(|is_last| {
            Event::PairingCode { expires_at: UnixMillis(180_000), is_last }
        }),
        Just(Event::PairingFailed(PairingFailure::RateLimited)),
        Just(Event::PasskeyRequested),
        Just(Event::AccountChanged(Account::default())),
        Just(ack()),
        proptest::sample::select(ClientState::ALL.as_slice()).prop_map(|state| {
            Event::Reported(Report { what: Reported::State(state), phone_number: None })
        }),
        Just(Event::Reported(Report {
            what: Reported::Disconnected { reason: "LOGOUT".to_owned() },
            phone_number: None,
        })),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_events_leaves_a_row_that_contradicts_itself(
        events in proptest::collection::vec(events(), 1..40)
    ) {
        let mut row = row();
        for (at, event) in (1i64..).zip(&events) {
            let before = row.status;
            apply(&mut row, event, UnixMillis(at));

            prop_assert_eq!(row.status, transition(before, event));
            prop_assert_eq!(row.qr.is_some(), row.status == SessionStatus::QrGenerated);
            prop_assert_eq!(row.qr.is_some(), row.qr_expires_at.is_some());
            prop_assert!(!row.reconnecting || row.status == SessionStatus::Connecting);
            prop_assert!(row.next_attempt_at.is_none() || row.reconnecting);
            prop_assert!(row.loading_percent.is_none_or(|percent| (0..=100).contains(&percent)));
            prop_assert!(
                row.loading_percent.is_none() || row.status == SessionStatus::Loading
            );
            if before != row.status {
                prop_assert_eq!(row.status_since, UnixMillis(at));
                prop_assert_eq!(row.pairing_code_until, None);
            }
        }
    }
}

#[test]
fn messages_and_acknowledgements_move_only_the_last_activity() {
    let mut row = row();
    apply(&mut row, &qr(), UnixMillis(10));
    let before = row.clone();
    apply(&mut row, &ack(), UnixMillis(20));
    assert_eq!(row, session::Model { last_active_at: Some(UnixMillis(20)), ..before });
}

#[test]
fn a_code_is_cleared_by_whatever_comes_next() {
    let mut row = row();
    apply(&mut row, &qr(), UnixMillis(10));
    assert_eq!((row.status, row.qr_sequence), (SessionStatus::QrGenerated, 1));
    assert_eq!(row.qr_issued_at, Some(UnixMillis(10)));
    apply(&mut row, &Event::Authenticated, UnixMillis(20));
    assert_eq!((row.status, row.qr.clone()), (SessionStatus::Loading, None));
    apply(&mut row, &qr(), UnixMillis(30));
    assert_eq!((row.qr_sequence, row.qr_issued_at), (2, Some(UnixMillis(30))));
}

#[test]
fn what_became_of_pairings_is_remembered_until_one_succeeds() {
    let mut row = row();
    apply(&mut row, &qr(), UnixMillis(10));
    apply(&mut row, &qr(), UnixMillis(20));
    assert_eq!(row.pairing_attempts, 1, "one series");
    apply(&mut row, &Event::PairingFailed(PairingFailure::RateLimited), UnixMillis(30));
    assert_eq!(row.pairing_error.as_deref(), Some("rate_limited"));
    assert_eq!((row.status, row.qr.is_some()), (SessionStatus::QrGenerated, true));
    let code = |is_last| Event::PairingCode { expires_at: UnixMillis(180_000), is_last };
    apply(&mut row, &code(false), UnixMillis(40));
    assert_eq!((row.pairing_attempts, row.pairing_code_until), (3, None));
    apply(&mut row, &code(true), UnixMillis(45));
    assert_eq!(row.pairing_code_until, Some(UnixMillis(180_000)));
    apply(&mut row, &Event::PairingFailed(PairingFailure::CodeWithdrawn), UnixMillis(50));
    assert_eq!(row.pairing_attempts, 3, "a code that was given is one attempt, however it ends");
    assert_eq!(row.pairing_code_until, None);
    apply(&mut row, &code(true), UnixMillis(55));
    apply(&mut row, &Event::PasskeyRequested, UnixMillis(60));
    assert_eq!(row.pairing_error.as_deref(), Some("passkey_required"));
    assert!(row.message.is_some() && row.qr.is_some());

    assert_eq!(row.pairing_code_until, Some(UnixMillis(180_000)), "it is the same client");
    apply(&mut row, &Event::Disconnected(Disconnect::QrCodesExhausted), UnixMillis(70));
    assert_eq!(row.pairing_error.as_deref(), Some("qr_codes_exhausted"));
    assert_eq!(row.pairing_code_until, None);
    assert_eq!(row.last_qr_at, Some(UnixMillis(20)), "also after it is gone");
    apply(&mut row, &Event::Authenticated, UnixMillis(80));
    assert_eq!((row.pairing_error.clone(), row.pairing_error_at), (None, None));
    let other = Event::AuthFailure(AuthFailure::OtherAccount { unlinked: true });
    apply(&mut row, &other, UnixMillis(90));
    assert_eq!(row.pairing_error.as_deref(), Some("other_account"));
}

#[test]
fn that_a_passkey_is_wanted_is_said_until_it_is_not_whatever_code_is_shown() {
    let mut row = row();
    let wanted = Some(PairingFailure::PasskeyRequired.sentence());
    apply(&mut row, &qr(), UnixMillis(10));
    apply(&mut row, &Event::PasskeyRequested, UnixMillis(20));
    apply(&mut row, &qr(), UnixMillis(30));
    assert_eq!((row.message.as_deref(), row.qr_sequence), (wanted, 2));
    apply(&mut row, &Event::PairingFailed(PairingFailure::PasskeyFailed), UnixMillis(40));
    apply(&mut row, &qr(), UnixMillis(50));
    assert_eq!(row.message, None);

    // Nor does it outlast its series.
    apply(&mut row, &Event::PasskeyRequested, UnixMillis(60));
    apply(&mut row, &Event::ChangeState(Change::Connecting), UnixMillis(70));
    apply(&mut row, &qr(), UnixMillis(80));
    apply(&mut row, &qr(), UnixMillis(90));
    assert_eq!(row.message, None);
}

#[test]
fn a_lost_connection_is_not_a_logout() {
    let mut row = row();
    apply(&mut row, &Event::Ready(Account::default()), UnixMillis(10));
    let lost = Change::Reconnecting {
        reason: Loss::ConnectionLost,
        next_attempt_at: Some(UnixMillis(1_000)),
    };
    apply(&mut row, &Event::ChangeState(lost), UnixMillis(20));
    assert_eq!(row.status, SessionStatus::Connecting);
    assert_eq!(row.next_attempt_at, Some(UnixMillis(1_000)));
    assert_eq!(row.last_disconnect_reason.as_deref(), Some("connection_lost"));
    assert_eq!(row.last_disconnect_at, Some(UnixMillis(20)));
    assert_eq!(row.connected_at, Some(UnixMillis(10)));
}

#[test]
fn an_account_is_not_forgotten_when_a_later_login_does_not_name_it() {
    let mut row = row();
    let account = Account { phone_number: Some("15550001111".to_owned()), ..Account::default() };
    apply(&mut row, &Event::Ready(account), UnixMillis(10));
    apply(&mut row, &Event::Ready(Account::default()), UnixMillis(20));
    assert_eq!(row.phone_number.as_deref(), Some("15550001111"));
}

#[test]
fn a_status_is_since_it_was_another_and_not_since_it_was_said_again() {
    let mut row = row();
    let reconnecting = |reason| {
        Event::ChangeState(Change::Reconnecting { reason, next_attempt_at: Some(UnixMillis(900)) })
    };
    let told = [
        (10, Event::ChangeState(Change::Connecting), 10),
        (20, reconnecting(Loss::ConnectionLost), 10),
        (30, reconnecting(Loss::Silent), 10),
        (40, Event::Ready(Account::default()), 40),
        (50, Event::Ready(Account::default()), 40),
        (60, Event::PasskeyRequested, 40),
        (70, Event::ChangeState(Change::Connecting), 70),
    ];
    row.status = SessionStatus::SessionNotConnected;
    for (at, event, since) in told {
        apply(&mut row, &event, UnixMillis(at));
        assert_eq!(row.status_since, UnixMillis(since), "after {event:?}");
    }
}
