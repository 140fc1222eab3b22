//! Stories of sessions, at random: what may happen to them, in any order.

use std::time::Duration;

use entity::{
    id::{MessageId, in_order},
    kind::MessageKind,
    state::{Direction, MessageStatus},
};
use proptest::prelude::*;
use wagate::event::{
    Account, Ack, AckLevel, AuthFailure, Care, Change, Disconnect, Event, Loss, NewMessage,
    PairingFailure,
};

use crate::{
    http_app::App,
    story_ends::{disconnects, losses, one_of, pairing_failures, refusals},
};

pub(crate) const SESSIONS: [&str; 3] = ["a", "b", "c"];

/// What one step of a story does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Something happens on a session; `stale` when a run says it that is not the newest any more.
    Happen {
        session: usize,
        what: What,
        stale: bool,
    },
    Pass(Duration),
    /// The daemon was killed, and starts again.
    Restart,
    /// Settings are nobody's status.
    Rename {
        session: usize,
        user: u8,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Qr { code: u8, valid_for: Duration },
    Authenticated,
    Loading(u8),
    Ready(Option<u8>),
    Connecting,
    Reconnecting(Loss, Option<Duration>),
    Disconnected(Disconnect),
    Refused(AuthFailure),
    Banned(Duration),
    PairingCode(Duration),
    PairingFailed(PairingFailure),
    Passkey,
    Changed,
    Message(u8),
    Ack,
}

fn whats() -> impl Strategy<Value = What> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    prop_oneof![
        4 => (any::<u8>(), seconds(1..60))
            .prop_map(|(code, valid_for)| What::Qr { code, valid_for }),
        1 => Just(What::Authenticated),
        1 => any::<u8>().prop_map(What::Loading),
        3 => proptest::option::of(0..3u8).prop_map(What::Ready),
        1 => Just(What::Connecting),
        2 => (one_of(losses()), proptest::option::of(seconds(0..90)))
            .prop_map(|(loss, wait)| What::Reconnecting(loss, wait)),
        2 => one_of(disconnects()).prop_map(What::Disconnected),
        2 => one_of(refusals()).prop_map(What::Refused),
        1 => seconds(1..90).prop_map(What::Banned),
        1 => seconds(1..180).prop_map(What::PairingCode),
        1 => prop_oneof![
            one_of(pairing_failures()).prop_map(What::PairingFailed),
            Just(What::Passkey),
            Just(What::Changed),
        ],
        1 => (0..4u8).prop_map(What::Message),
        1 => Just(What::Ack),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..SESSIONS.len();
    let step = prop_oneof![
        8 => (session.clone(), whats(), prop::bool::weighted(0.1))
            .prop_map(|(session, what, stale)| Step::Happen { session, what, stale }),
        2 => (1..70_u64).prop_map(|seconds| Step::Pass(Duration::from_secs(seconds))),
        1 => Just(Step::Restart),
        1 => (session, any::<u8>()).prop_map(|(session, user)| Step::Rename { session, user }),
    ];
    proptest::collection::vec(step, 1..16)
}

/// One in which what depends on the time before it is looked at: codes that follow one another, and statuses
/// that are said again, by a client and by restarts.
pub(crate) fn repetitions() -> Vec<Step> {
    let minute = Duration::from_mins(1);
    let mut steps = Vec::new();
    for session in 0..SESSIONS.len() {
        for what in [
            What::Qr { code: 1, valid_for: minute },
            What::Qr { code: 2, valid_for: minute },
            What::Qr { code: 2, valid_for: minute / 2 },
            What::Authenticated,
            What::Loading(50),
            What::Ready(Some(1)),
            What::Ready(Some(1)),
            What::Connecting,
            What::Connecting,
        ] {
            steps.push(Step::Happen { session, what, stale: false });
            steps.push(Step::Pass(Duration::from_secs(7)));
        }
        steps.extend([Step::Restart, Step::Pass(minute), Step::Restart]);
        // The codes before were of a pairing that is over.
        let what = What::Qr { code: 3, valid_for: minute };
        steps.extend([Step::Happen { session, what, stale: false }, Step::Pass(minute)]);
    }
    steps
}

/// A ban is dialled into again when it is over, and the session says when.
pub(crate) fn care(what: &What, app: &App) -> Option<Care> {
    let What::Banned(lasts) = what else { return None };
    Some(Care { next_attempt_at: Some(app.clock.now() + *lasts), ..Care::default() })
}

pub(crate) fn event(what: &What, app: &App) -> Event {
    let now = app.clock.now();
    let own = "6281234567890@s.whatsapp.net".to_owned();
    let bob = "15550002222@s.whatsapp.net".to_owned();
    match what {
        What::Qr { code, valid_for } => {
            Event::Qr { qr: format!("2@{code}"), expires_at: now + *valid_for }
        }
        What::Authenticated => Event::Authenticated,
        What::Loading(percent) => {
            Event::LoadingScreen { percent: *percent, message: "Receiving".to_owned() }
        }
        What::Ready(None) => Event::Ready(Account::default()),
        What::Ready(Some(number)) => Event::Ready(Account {
            phone_number: Some(format!("1555000000{number}")),
            jid: Some(format!("1555000000{number}@s.whatsapp.net")),
            ..Account::default()
        }),
        What::Connecting => Event::ChangeState(Change::Connecting),
        What::Reconnecting(reason, wait) => Event::ChangeState(Change::Reconnecting {
            reason: *reason,
            next_attempt_at: wait.map(|wait| now + wait),
        }),
        What::Disconnected(reason) => Event::Disconnected(*reason),
        What::Refused(failure) => Event::AuthFailure(failure.clone()),
        What::Banned(lasts) => {
            Event::AuthFailure(AuthFailure::Banned { code: 101, until: now + *lasts })
        }
        What::PairingCode(valid_for) => Event::PairingCode {
            expires_at: now + *valid_for,
            is_last: valid_for.as_secs().is_multiple_of(2),
        },
        What::PairingFailed(failure) => Event::PairingFailed(*failure),
        What::Passkey => Event::PasskeyRequested,
        What::Changed => Event::AccountChanged(Account::default()),
        What::Message(number) => Event::Message(Box::new(NewMessage {
            id: MessageId::new(now, in_order(rand::random())),
            wa_id: format!("3EB0{number}"),
            chat: bob.clone(),
            sender: if *number % 2 == 0 { bob } else { own },
            direction: if *number % 2 == 0 { Direction::Inbound } else { Direction::Outbound },
            kind: MessageKind::Text,
            body: Some("hello".to_owned()),
            target_wa_id: None,
            interaction: None,
            raw: None,
            push_name: None,
            sent_at: now,
            is_group: false,
            offline: false,
            status: if *number % 2 == 0 { MessageStatus::Received } else { MessageStatus::Sending },
        })),
        What::Ack => Event::Ack(Ack {
            wa_id: "3EB01".to_owned(),
            chat: bob.clone(),
            by: bob,
            level: AckLevel::Read,
            error: None,
            at: now,
        }),
    }
}
