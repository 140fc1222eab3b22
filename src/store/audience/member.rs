//! What one of an audience has come to, and what that counts for. Pure.

use entity::{UnixMillis, audience, campaign_statistics, state::AudienceState};

use crate::store::statuses::Statuses;

/// How many have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub audience: i64,
    pub attached: i64,
    pub sent: i64,
    pub delivered: i64,
    pub read: i64,
    pub played: i64,
    pub failed: i64,
}

impl Counts {
    /// What one member counts for.
    pub fn of(member: &audience::Model) -> Self {
        let reached = |level| i64::from(member.reached >= level);
        Self {
            audience: 1,
            attached: i64::from(member.wa_id.is_some()),
            sent: reached(1),
            delivered: reached(2),
            read: reached(3),
            played: reached(4),
            failed: i64::from(member.state == AudienceState::Failed),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            audience: self.audience + other.audience,
            attached: self.attached + other.attached,
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            read: self.read + other.read,
            played: self.played + other.played,
            failed: self.failed + other.failed,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let Self { audience, attached, sent, delivered, read, played, failed } = other;
        self.plus(Self {
            audience: -audience,
            attached: -attached,
            sent: -sent,
            delivered: -delivered,
            read: -read,
            played: -played,
            failed: -failed,
        })
    }
}

impl From<&campaign_statistics::Model> for Counts {
    fn from(row: &campaign_statistics::Model) -> Self {
        Self {
            audience: row.audience,
            attached: row.attached,
            sent: row.sent,
            delivered: row.delivered,
            read: row.read,
            played: row.played,
            failed: row.failed,
        }
    }
}

/// What a member is by all that was told of their message: of none, nothing.
pub(super) fn judged(member: &audience::Model, statuses: &Statuses) -> audience::Model {
    let told = audience::Model {
        reached: statuses.reached(),
        is_failed: statuses.has_failed(),
        error: statuses.error().map(str::to_owned),
        sent_at: statuses.at(1),
        delivered_at: statuses.at(2),
        read_at: statuses.at(3),
        played_at: statuses.at(4),
        failed_at: statuses.at(-1),
        ..member.clone()
    };
    audience::Model { state: state(&told), ..told }
}

/// What a member is by that and by what they were: what was told of their message is not all there for as long as they
/// are, and what they had come to they have come to.
pub(super) fn moved_on(member: &audience::Model, statuses: &Statuses) -> audience::Model {
    let told = judged(member, statuses);
    let first =
        |one: Option<UnixMillis>, other: Option<UnixMillis>| one.into_iter().chain(other).min();
    let both = audience::Model {
        reached: told.reached.max(member.reached),
        is_failed: told.is_failed || member.is_failed,
        // As of several that were told.
        error: told.error.clone().into_iter().chain(member.error.clone()).min(),
        sent_at: first(told.sent_at, member.sent_at),
        delivered_at: first(told.delivered_at, member.delivered_at),
        read_at: first(told.read_at, member.read_at),
        played_at: first(told.played_at, member.played_at),
        failed_at: first(told.failed_at, member.failed_at),
        ..told
    };
    audience::Model { state: state(&both), ..both }
}

/// What was delivered has not failed, whatever was said of it; what was sent may have.
const fn state(member: &audience::Model) -> AudienceState {
    match member.reached {
        _ if member.wa_id.is_none() => AudienceState::Pending,
        ..2 if member.is_failed => AudienceState::Failed,
        ..1 => AudienceState::Attached,
        1 => AudienceState::Sent,
        2 => AudienceState::Delivered,
        3 => AudienceState::Read,
        _ => AudienceState::Played,
    }
}
