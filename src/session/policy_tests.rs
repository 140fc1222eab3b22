use entity::state::DesiredState;
use proptest::prelude::*;

use super::*;
use crate::event::{
    Account,
    status::{apply, tests::row},
};

const NOW: UnixMillis = UnixMillis(1_000_000_000);
const RULES: Rules = Rules { max_qr_rounds: 3, replaced_retry_after: None };

/// In the middle of what jitter allows; and where it adds nothing.
const MIDDLE: f64 = 0.5;
const LEAST: f64 = 0.0;

fn policy() -> Policy {
    Policy::new(RULES, Care::default())
}

fn about(stable: bool, chance: f64) -> Circumstances {
    Circumstances { now: NOW, connected: stable.then_some(STABLE_AFTER), chance }
}

/// What is decided after a dial that ended so at once.
fn failed(policy: &mut Policy, end: &End) -> Next {
    policy.dialling();
    policy.after(end, about(false, MIDDLE))
}

/// After how many seconds it is dialled again, if it is.
fn seconds(next: &Next) -> Option<u64> {
    match next {
        Next::Again(_, care) => Some(care.next_attempt_at?.since(NOW).as_secs()),
        Next::Dial => Some(0),
        Next::End(..) => None,
    }
}

fn event(next: Next) -> Option<Event> {
    match next {
        Next::Again(event, _) => Some(event),
        Next::End(event, _) => event,
        Next::Dial => None,
    }
}

fn unreachable() -> End {
    End::Dial(DialFailure::Unreachable)
}

fn banned(hours: u64) -> End {
    let until = NOW + Duration::from_hours(hours);
    End::Refused(AuthFailure::Banned { code: 101, until })
}

fn ends() -> impl Strategy<Value = End> {
    let loss = prop_oneof![
        Just(Loss::ConnectionLost),
        Just(Loss::Silent),
        Just(Loss::LoginTimeout),
        Just(Loss::StreamError { code: Some(500) }),
        Just(Loss::ServerUnavailable { code: 503 }),
        Just(Loss::RateLimited),
        Just(Loss::ClientFailed),
        Just(Loss::NotRecorded),
    ];
    prop_oneof![
        loss.prop_map(End::Lost),
        Just(unreachable()),
        Just(End::Dial(DialFailure::ServerRefused)),
        proptest::option::of(0u64..200_000).prop_map(|after| End::Dial(DialFailure::Upgrade {
            status: 429,
            retry_after: after.map(Duration::from_secs),
        })),
        proptest::option::of(0u64..200_000).prop_map(|after| End::Dial(DialFailure::Upgrade {
            status: 503,
            retry_after: after.map(Duration::from_secs),
        })),
        (0u64..10_000).prop_map(banned),
        Just(End::Refused(AuthFailure::AccountLocked)),
        Just(End::Refused(AuthFailure::ClientOutdated)),
        Just(End::Refused(AuthFailure::ConnectRefused { code: 418 })),
        Just(End::Refused(AuthFailure::CredentialsRefused { code: 401 })),
        Just(End::Refused(AuthFailure::PairingRefused { detail: String::new(), code: None })),
        Just(End::Ended(Disconnect::LoggedOut { code: Some(401) })),
        Just(End::Ended(Disconnect::Replaced)),
        Just(End::QrCodesExhausted),
        Just(End::Panicked),
        Just(End::Stopped),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_session_is_dialled_later_or_said_to_have_ended(
        story in proptest::collection::vec((ends(), any::<bool>(), 0.0f64..1.0), 1..60)
    ) {
        let (mut policy, mut row) = (policy(), row());
        for (end, stable, chance) in story {
            policy.dialling();
            let next = policy.after(&end, about(stable, chance));
            // What is remembered is what goes into the row, and comes back from it.
            match next.clone() {
                Next::Again(event, care) => {
                    prop_assert_eq!(care, policy.care());
                    let at = care.next_attempt_at.expect("a time to dial again");
                    prop_assert!(at >= NOW + Duration::from_millis(700), "a pause after every failure");
                    apply(&mut row, &event, NOW);
                    care.write(&mut row);
                    prop_assert_eq!(row.next_attempt_at, Some(at));
                    prop_assert_eq!(Care::of(&row), care);
                    let resumed = resume(&row, NOW, chance);
                    prop_assert_eq!(resumed, Resume::Wait(care), "a restart changes nothing");
                }
                Next::End(Some(event), care) => {
                    prop_assert_eq!(care.next_attempt_at, None);
                    apply(&mut row, &event, NOW);
                    care.write(&mut row);
                    prop_assert!(super::super::standing::is_ended(row.status));
                    prop_assert_eq!(resume(&row, NOW, chance), Resume::Not);
                }
                Next::End(None, _) => prop_assert!(matches!(end, End::Stopped)),
                Next::Dial => prop_assert!(matches!(end, End::QrCodesExhausted)),
            }
            // An operator's wish outranks every reason.
            let stopped = session::Model { desired_state: DesiredState::Stopped, ..row.clone() };
            prop_assert_eq!(resume(&stopped, NOW, chance), Resume::Not);
        }
    }

    #[test]
    fn nothing_is_dialled_before_a_ban_ends_or_a_rate_limit_allows(
        hours in 0u64..100_000, asked in 5u64..80_000, chance in 0.0f64..1.0
    ) {
        let next = policy().after(&banned(hours), about(true, chance));
        prop_assert!(seconds(&next).unwrap() >= hours * 3600 + 30);
        prop_assert!(seconds(&next).unwrap() <= hours * 3600 + 300);

        let retry_after = Some(Duration::from_secs(asked));
        let limited = End::Dial(DialFailure::Upgrade { status: 429, retry_after });
        let next = policy().after(&limited, about(false, chance));
        prop_assert!((asked..=asked * 6 / 5 + 1).contains(&seconds(&next).unwrap()));
        let Next::Again(_, care) = next else { panic!("it is dialled again") };
        // The others wait with it, for an hour at most.
        let all = care.next_attempt_at.map(|at| at.min(NOW + Duration::from_hours(1)));
        prop_assert_eq!(care.throttled_until, all);
    }
}

#[test]
fn codes_are_renewed_so_many_times_and_then_nobody_dials_any_more() {
    let mut policy = policy();
    assert_eq!(failed(&mut policy, &End::QrCodesExhausted), Next::Dial);
    // A blip in between does not make an unattended session show codes for ever.
    assert!(seconds(&failed(&mut policy, &End::Lost(Loss::ConnectionLost))).is_some());
    assert_eq!(failed(&mut policy, &End::QrCodesExhausted), Next::Dial);
    let next = failed(&mut policy, &End::QrCodesExhausted);
    assert_eq!(seconds(&next), None);
    assert_eq!(event(next), Some(Event::Disconnected(Disconnect::QrCodesExhausted)));
}

/// Shows a code of a new series, and is asked what is remembered, as the next process is.
fn shows_a_code(row: &mut session::Model) -> Policy {
    apply(row, &Event::ChangeState(Change::Connecting), NOW);
    apply(row, &Event::Qr { qr: "2@code".to_owned(), expires_at: NOW }, NOW);
    Policy::new(RULES, Care::of(row))
}

#[test]
fn a_restart_forgets_no_series_of_codes_and_one_that_it_cuts_off_is_shown_once_more() {
    let mut row = row();
    // Two series are shown to their end, by one process.
    let mut policy = policy();
    for _ in 0..2 {
        shows_a_code(&mut row);
        assert_eq!(failed(&mut policy, &End::QrCodesExhausted), Next::Dial);
        apply(&mut row, &Event::ChangeState(Change::Connecting), NOW);
        policy.care().write(&mut row);
        assert_eq!(Care::of(&row), policy.care());
    }
    // The last one is cut off, and the same one again.
    assert_eq!(shows_a_code(&mut row).exhausted(), None);
    let again = shows_a_code(&mut row);
    let care = again.care();
    let said = Event::Disconnected(Disconnect::QrCodesExhausted);
    assert_eq!(again.exhausted(), Some(Next::End(Some(said.clone()), care)));
    apply(&mut row, &said, NOW);
    care.write(&mut row);
    assert_eq!(resume(&row, NOW, MIDDLE), Resume::Not, "until somebody asks");

    // One that is shown to its end is the last, also if it is the second one.
    let mut row = after(&[]);
    for _ in 0..2 {
        shows_a_code(&mut row);
    }
    let mut policy = shows_a_code(&mut row);
    assert_eq!(policy.exhausted(), None);
    let next = failed(&mut policy, &End::QrCodesExhausted);
    assert_eq!((seconds(&next), event(next)), (None, Some(said)));
}

#[test]
fn who_was_paired_has_shown_no_codes() {
    let mut row = row();
    for _ in 0..9 {
        shows_a_code(&mut row);
    }
    apply(&mut row, &Event::Authenticated, NOW);
    assert_eq!(Care::of(&row).qr_rounds, 0);
    let mut policy = Policy::new(RULES, Care { qr_rounds: 3, ..Care::default() });
    policy.after(&End::Lost(Loss::ConnectionLost), about(true, MIDDLE));
    assert_eq!(policy.care().qr_rounds, 0);
}

#[test]
fn waits_grow_until_a_connection_has_lasted() {
    let mut policy = policy();
    let lost = End::Lost(Loss::ConnectionLost);
    let waits: Vec<_> = [unreachable(), unreachable(), End::Lost(Loss::Silent), lost.clone()]
        .iter()
        .filter_map(|end| seconds(&failed(&mut policy, end)))
        .collect();
    assert_eq!(waits, [1, 2, 4, 8]);
    policy.dialling();
    assert_eq!(seconds(&policy.after(&lost, about(true, MIDDLE))), Some(1));
    assert_eq!(seconds(&failed(&mut policy, &lost)), Some(2));
}

#[test]
fn a_server_that_is_not_whatsapp_is_given_up_and_one_that_is_away_is_not() {
    let mut policy = policy();
    let refused = End::Dial(DialFailure::ServerRefused);
    for end in [&refused, &refused, &unreachable(), &refused, &refused] {
        assert!(seconds(&failed(&mut policy, end)).is_some());
    }
    let next = failed(&mut policy, &refused);
    assert_eq!(seconds(&next), None);
    assert_eq!(event(next), Some(Event::AuthFailure(AuthFailure::ServerNotTrusted)));
}

#[test]
fn a_locked_account_is_left_alone_for_longer_each_time() {
    let locked = End::Refused(AuthFailure::AccountLocked);
    let mut policy = policy();
    let mut minutes = |end: &End| {
        policy.dialling();
        seconds(&policy.after(end, about(false, LEAST))).unwrap() / 60
    };
    assert_eq!(minutes(&locked), 5);
    // A lost connection on the way is no sign that the lock is gone.
    assert_eq!(minutes(&End::Lost(Loss::ConnectionLost)), 0);
    assert_eq!([minutes(&locked), minutes(&locked), minutes(&locked)], [15, 60, 60]);
    // And neither is a restart of the process.
    let mut again = Policy::new(RULES, policy.care());
    assert_eq!(seconds(&again.after(&locked, about(false, LEAST))), Some(3600));
    // A connection that has lasted is.
    assert_eq!(seconds(&again.after(&locked, about(true, LEAST))), Some(300));
}

#[test]
fn an_outdated_client_and_an_unknown_refusal_are_tried_again_slowly() {
    for (failure, expected) in [
        (AuthFailure::ClientOutdated, [1, 5, 15, 60, 60]),
        (AuthFailure::ConnectRefused { code: 418 }, [5, 15, 60, 60, 60]),
    ] {
        let mut policy = policy();
        let end = End::Refused(failure);
        let waits = expected.map(|_| {
            policy.dialling();
            seconds(&policy.after(&end, about(false, LEAST))).unwrap() / 60
        });
        assert_eq!(waits, expected);
    }
}

#[test]
fn a_rate_limit_without_a_time_grows_and_one_that_asks_for_years_does_not_bind() {
    let mut policy = policy();
    let limited = End::Lost(Loss::RateLimited);
    let waits = [0; 7].map(|_: i32| {
        policy.dialling();
        seconds(&policy.after(&limited, about(false, LEAST))).unwrap()
    });
    assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900]);
    for status in [429, 503] {
        let years = Some(Duration::from_hours(100_000));
        let end = End::Dial(DialFailure::Upgrade { status, retry_after: years });
        assert_eq!(seconds(&policy.after(&end, about(false, LEAST))), Some(24 * 3600));
    }
}

#[test]
fn whoever_is_replaced_stays_so_or_tries_once_more_and_never_again() {
    let replaced = End::Ended(Disconnect::Replaced);
    let said = Some(Event::Disconnected(Disconnect::Replaced));
    let next = policy().after(&replaced, about(true, LEAST));
    assert_eq!((seconds(&next), event(next)), (None, said.clone()));

    let late = Rules { replaced_retry_after: Some(Duration::from_mins(10)), ..RULES };
    let mut policy = Policy::new(late, Care::default());
    let next = policy.after(&replaced, about(true, LEAST));
    assert_eq!((seconds(&next), event(next)), (Some(600), said.clone()));
    policy.dialling();
    // It was connected for hours, until the other one came again.
    let next = policy.after(&replaced, about(true, LEAST));
    assert_eq!((seconds(&next), event(next)), (None, said));
}

#[test]
fn what_only_a_human_can_mend_ends_the_run() {
    for (end, said) in [
        (
            End::Ended(Disconnect::LoggedOut { code: Some(401) }),
            Some(Event::Disconnected(Disconnect::LoggedOut { code: Some(401) })),
        ),
        (
            End::Refused(AuthFailure::CredentialsRefused { code: 401 }),
            Some(Event::AuthFailure(AuthFailure::CredentialsRefused { code: 401 })),
        ),
        (
            End::Refused(AuthFailure::MultideviceUnavailable),
            Some(Event::AuthFailure(AuthFailure::MultideviceUnavailable)),
        ),
        (End::Stopped, None),
        (End::LoggedOut, None),
    ] {
        let next = policy().after(&end, about(true, MIDDLE));
        assert_eq!(seconds(&next), None);
        assert_eq!(event(next), said);
    }
}

#[test]
fn a_ban_that_outlasts_its_claim_is_dialled_into_less_and_less() {
    let mut policy = policy();
    let waits = [(); 5].map(|()| seconds(&policy.after(&banned(0), about(false, LEAST))));
    assert_eq!(waits, [30, 300, 900, 3600, 3600].map(Some));
}

#[test]
fn a_task_that_panics_again_and_again_is_left_alone() {
    let (mut row, mut waits) = (row(), Vec::new());
    let last = loop {
        let next = after_panic(&row, NOW, LEAST);
        let (Next::Again(event, care) | Next::End(Some(event), care)) = &next else {
            panic!("it is said")
        };
        apply(&mut row, event, NOW);
        care.write(&mut row);
        let Some(wait) = seconds(&next) else { break event.clone() };
        waits.push(wait);
        assert_eq!(resume(&row, NOW, LEAST), Resume::Wait(*care));
        // Dialled again, connected, and so on.
        apply(&mut row, &Event::Ready(Account::default()), NOW);
    };
    assert_eq!(waits, [30, 60, 120, 240]);
    assert_eq!(last, Event::Disconnected(Disconnect::Failed));
    assert_eq!(
        (row.status, row.last_disconnect_reason.as_deref()),
        (SessionStatus::Error, Some("failed"))
    );
    assert_eq!(resume(&row, NOW, LEAST), Resume::Not);

    // The same for a task of its client's, which the session itself outlives.
    let mut policy = policy();
    let mut panicked = |connected| {
        policy.dialling();
        policy.after(&End::Panicked, Circumstances { connected, ..about(false, LEAST) })
    };
    let waits = [None, Some(STABLE_AFTER), None, None].map(|it| seconds(&panicked(it)));
    assert_eq!(waits, [30, 60, 120, 240].map(Some));
    assert_eq!(seconds(&panicked(Some(SOUND_AFTER))), Some(30), "nothing was wrong for so long");
    let last = [(); 4].map(|()| event(panicked(None)));
    assert_eq!(last[3], Some(Event::Disconnected(Disconnect::Failed)));

    // A panic after a long sound connection is a first one.
    apply(&mut row, &Event::Ready(Account::default()), NOW);
    let later = NOW + SOUND_AFTER;
    assert!(matches!(after_panic(&row, later, LEAST), Next::Again(..)));
}

fn ready() -> Event {
    Event::Ready(Account::default())
}

fn after(events: &[Event]) -> session::Model {
    let mut row = row();
    for event in events {
        apply(&mut row, event, NOW);
    }
    row
}

#[test]
fn what_is_wanted_is_resumed_unless_only_a_human_can_help() {
    let now = |row: &session::Model| matches!(resume(row, NOW, MIDDLE), Resume::Now(_));
    assert!(now(&after(&[])), "created, and cut off before its first dial");
    assert!(now(&after(&[ready()])));
    let stopped = after(&[ready(), Event::Disconnected(Disconnect::Stopped)]);
    assert!(now(&stopped), "wanted again since it was stopped");
    let logged_out = Event::Disconnected(Disconnect::LoggedOut { code: Some(401) });
    assert_eq!(resume(&after(&[ready(), logged_out]), NOW, MIDDLE), Resume::Not);
}

#[test]
fn a_process_that_crashes_again_and_again_dials_no_more_often_than_one_that_cannot_connect() {
    // Every process dials as soon as it may, connects, and crashes a second later.
    let (mut row, mut now, mut dials) = (row(), NOW, Vec::new());
    while dials.len() < 8 {
        match resume(&row, now, MIDDLE) {
            Resume::Now(care) => {
                let mut policy = Policy::new(RULES, care);
                row.dial_failures = i32::try_from(policy.dialling()).unwrap();
                row.last_dial_at = Some(now);
                apply(&mut row, &ready(), now);
                dials.push(now.since(NOW).as_secs());
            }
            resumed => assert!(matches!(resumed, Resume::WaitAnew(_)), "{resumed:?}"),
        }
        now = now + Duration::from_secs(1);
    }
    let waits: Vec<_> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64]);

    // Had the last connection lasted, the row would say so, and the next process would dial at once.
    row.dial_failures = 0;
    assert_eq!(resume(&row, now, MIDDLE), Resume::Now(Care::default()));
}

#[test]
fn a_rate_limit_is_about_the_address_only_when_it_refuses_the_dial_itself() {
    let mut own = policy();
    let end = End::Lost(Loss::RateLimited);
    failed(&mut own, &end);
    assert_eq!(own.care().throttled_until, None, "the others may dial");
    assert_eq!(pause(&end, own.care()), None);

    // An hour at most, whatever was asked of this one.
    for (asked, paused) in [(60, 66), (600, 660), (86_400, 3_600)] {
        let mut policy = policy();
        let retry_after = Some(Duration::from_secs(asked));
        let end = End::Dial(DialFailure::Upgrade { status: 429, retry_after });
        let next = failed(&mut policy, &end);
        assert!(seconds(&next).unwrap() >= asked);
        let until = pause(&end, policy.care()).unwrap();
        assert_eq!(until.since(NOW).as_secs(), paused);
        // One that the account itself is told later says nothing of the others.
        let end = End::Lost(Loss::RateLimited);
        failed(&mut policy, &end);
        assert_eq!(pause(&end, policy.care()), None);
    }
}

/// The dial was answered with 429, and this many seconds were asked for.
fn limited(asked: u64) -> End {
    let retry_after = Some(Duration::from_secs(asked));
    End::Dial(DialFailure::Upgrade { status: 429, retry_after })
}

#[test]
fn a_pause_of_all_dials_is_shortened_by_nothing_but_a_connection_that_lasts() {
    let mut policy = policy();
    failed(&mut policy, &limited(600));
    let until = policy.care().throttled_until;
    assert!(until.is_some());
    for end in [limited(60), End::Lost(Loss::ConnectionLost), unreachable()] {
        failed(&mut policy, &end);
        assert_eq!(policy.care().throttled_until, until, "after {end:?}");
    }
    policy.dialling();
    policy.after(&End::Lost(Loss::ConnectionLost), about(true, MIDDLE));
    assert_eq!(policy.care().throttled_until, None);
}

#[test]
fn who_asks_for_fewer_dials_and_for_no_wait_is_left_alone_for_a_moment() {
    let next = policy().after(&limited(0), about(false, LEAST));
    assert_eq!(seconds(&next), Some(5));
}

#[test]
fn a_clock_that_was_set_back_keeps_no_session_away() {
    let dialled = NOW + Duration::from_hours(1);
    let row = session::Model { dial_failures: 2, last_dial_at: Some(dialled), ..after(&[]) };
    let Resume::WaitAnew(care) = resume(&row, NOW, LEAST) else { panic!("it waits") };
    assert_eq!(care.next_attempt_at.unwrap().since(NOW), Duration::from_millis(2_400));

    // Nor does a time to dial again that was written down before.
    let asked = Some(Duration::from_hours(24));
    let unavailable = End::Dial(DialFailure::Upgrade { status: 503, retry_after: asked });
    for (end, seconds) in [
        (End::Lost(Loss::ConnectionLost), 288),
        (End::Refused(AuthFailure::AccountLocked), 4_320),
        (End::Refused(AuthFailure::ClientOutdated), 4_320),
        (End::Refused(AuthFailure::ConnectRefused { code: 418 }), 4_320),
        (End::Lost(Loss::RateLimited), 103_680),
        (unavailable, 103_680),
    ] {
        let (waiting, care) = waits_after(&end);
        assert_eq!(resume(&waiting, NOW, LEAST), Resume::Wait(care), "after {end:?}");
        let before = UnixMillis(0);
        let Resume::WaitAnew(anew) = resume(&waiting, before, LEAST) else {
            panic!("it waits for no such time after {end:?}")
        };
        let waits = care.next_attempt_at.unwrap().since(NOW);
        assert!(waits <= Duration::from_secs(seconds), "{waits:?} after {end:?}");
        let latest = before + waits;
        assert_eq!(anew, Care { next_attempt_at: Some(latest), ..care }, "after {end:?}");
    }

    // A ban ends when it ends.
    let (waiting, care) = waits_after(&banned(100_000));
    assert_eq!(resume(&waiting, UnixMillis(0), LEAST), Resume::Wait(care));
}

/// A session that waits after its client has ended so, and what is remembered of it.
fn waits_after(end: &End) -> (session::Model, Care) {
    let mut row = row();
    let Next::Again(event, care) = failed(&mut policy(), end) else {
        panic!("it is dialled again")
    };
    apply(&mut row, &event, NOW);
    care.write(&mut row);
    (row, care)
}

#[test]
fn a_restored_session_is_dialled_without_a_wait_that_would_hide_that_it_is_one() {
    let unproved = |reason| session::Model {
        dial_failures: 5,
        last_dial_at: Some(NOW),
        ..after(&[ready(), Event::Disconnected(reason)])
    };
    let resumed = resume(&unproved(Disconnect::Restored), NOW, MIDDLE);
    assert!(matches!(resumed, Resume::Now(_)), "{resumed:?}");
    let resumed = resume(&unproved(Disconnect::Stopped), NOW, MIDDLE);
    assert!(matches!(resumed, Resume::WaitAnew(_)), "{resumed:?}");
}
