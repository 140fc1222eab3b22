//! Who may hand over to whom. Pure.

use entity::session;

use crate::store::sessions::LIVE;

/// Why a session does not hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is the one that is to take over.
    Itself,
    /// It has handed over to another one.
    MigratedElsewhere,
    /// It is connected, or on its way to be, or a daemon runs it.
    Running,
    /// It has no number, or another one.
    OtherNumber,
    /// It has the number, and was another account's: numbers are given to other people in time.
    OtherAccount,
    /// It is being changed at this moment.
    Busy,
}

impl Obstacle {
    /// A stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::MigratedElsewhere => "migrated_elsewhere",
            Self::Running => "running",
            Self::OtherNumber => "other_number",
            Self::OtherAccount => "other_account",
            Self::Busy => "busy",
        }
    }
}

/// Why a session cannot take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has handed over itself.
    Migrated,
    /// It was never connected: whose number it has is not known.
    NeverConnected,
}

/// What becomes of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Verdict {
    HandsOver,
    /// To this one, before.
    HasHandedOver,
    Not(Obstacle),
}

/// Whether a session cannot take over, and why.
pub(super) fn unfit(heir: &session::Model) -> Option<Unfit> {
    if heir.migrated_to.is_some() {
        Some(Unfit::Migrated)
    } else if heir.phone_number.is_none() || heir.connected_at.is_none() {
        Some(Unfit::NeverConnected)
    } else {
        None
    }
}

/// Whether `row` hands over to `heir`; `is_owned` if a daemon runs it.
pub(in crate::store) fn judge(
    row: &session::Model,
    heir: &session::Model,
    is_owned: bool,
) -> Verdict {
    if row.id == heir.id {
        return Verdict::Not(Obstacle::Itself);
    }
    match &row.migrated_to {
        Some(to) if *to == heir.id => return Verdict::HasHandedOver,
        Some(_) => return Verdict::Not(Obstacle::MigratedElsewhere),
        None => {}
    }
    if row.phone_number.is_none() || row.phone_number != heir.phone_number {
        return Verdict::Not(Obstacle::OtherNumber);
    }
    // The hidden identity is the account; the number is what it is called at present.
    let differ =
        row.account_lid.as_ref().zip(heir.account_lid.as_ref()).is_some_and(|(a, b)| a != b);
    if differ {
        return Verdict::Not(Obstacle::OtherAccount);
    }
    if is_owned || LIVE.contains(&row.status) {
        return Verdict::Not(Obstacle::Running);
    }
    Verdict::HandsOver
}

#[cfg(test)]
mod tests {
    use entity::{UnixMillis, id::SessionKey, state::SessionStatus};

    use super::*;
    use crate::event::status::tests::row;

    fn of_account(n: u128, status: SessionStatus) -> session::Model {
        session::Model {
            id: SessionKey::new(UnixMillis(1), n),
            phone_number: Some("15550001111".to_owned()),
            connected_at: Some(UnixMillis(1)),
            status,
            ..row()
        }
    }

    #[test]
    fn only_what_nobody_runs_and_is_of_the_same_account_hands_over() {
        let heir = of_account(1, SessionStatus::SessionConnected);
        let old = |status| of_account(2, status);
        for status in [SessionStatus::SessionNotConnected, SessionStatus::AuthFailure] {
            assert_eq!(judge(&old(status), &heir, false), Verdict::HandsOver);
            assert_eq!(judge(&old(status), &heir, true), Verdict::Not(Obstacle::Running));
        }
        for status in LIVE {
            assert_eq!(judge(&old(status), &heir, false), Verdict::Not(Obstacle::Running));
        }
        assert_eq!(judge(&heir, &heir, false), Verdict::Not(Obstacle::Itself));
        let idle = old(SessionStatus::SessionNotConnected);
        let other = session::Model { phone_number: None, ..idle.clone() };
        assert_eq!(judge(&other, &heir, false), Verdict::Not(Obstacle::OtherNumber));
        let done = session::Model { migrated_to: Some(heir.id.clone()), ..idle.clone() };
        assert_eq!(judge(&done, &heir, false), Verdict::HasHandedOver);
        let elsewhere = SessionKey::new(UnixMillis(1), 3);
        let elsewhere = session::Model { migrated_to: Some(elsewhere), ..idle };
        assert_eq!(judge(&elsewhere, &heir, false), Verdict::Not(Obstacle::MigratedElsewhere));
    }

    #[test]
    fn a_number_that_was_given_to_somebody_else_hands_nothing_over() {
        let heir = of_account(1, SessionStatus::SessionConnected);
        let heir = session::Model { account_lid: Some("1@lid".to_owned()), ..heir };
        let old = of_account(2, SessionStatus::SessionNotConnected);
        let of = |lid: Option<&str>| session::Model {
            account_lid: lid.map(str::to_owned),
            ..old.clone()
        };
        assert_eq!(judge(&of(Some("2@lid")), &heir, false), Verdict::Not(Obstacle::OtherAccount));
        assert_eq!(judge(&of(Some("1@lid")), &heir, false), Verdict::HandsOver);
        assert_eq!(judge(&of(None), &heir, false), Verdict::HandsOver);
    }
}
