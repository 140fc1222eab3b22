//! What one of an audience has come to, and what that counts for. Pure.

use entity::{UnixMillis, audience, campaign_statistics, state::AudienceState};

use crate::store::statuses::{Statuses, level};

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

const fn state(member: &audience::Model) -> AudienceState {
    match level(member.reached, member.is_failed) {
        _ if member.wa_id.is_none() => AudienceState::Pending,
        ..0 => AudienceState::Failed,
        0 => AudienceState::Attached,
        1 => AudienceState::Sent,
        2 => AudienceState::Delivered,
        3 => AudienceState::Read,
        _ => AudienceState::Played,
    }
}

#[cfg(test)]
mod tests {
    use entity::id::{AudienceId, CampaignId, OrganizationId};
    use proptest::prelude::*;

    use super::*;

    const WORDS: [(&str, i16); 6] = [
        ("failed", -1),
        ("accepted", 0),
        ("sent", 1),
        ("delivered", 2),
        ("read", 3),
        ("played", 4),
    ];

    fn attached() -> audience::Model {
        let zero = UnixMillis(0);
        audience::Model {
            id: AudienceId::new(zero, 1),
            organization_id: OrganizationId::new(zero, 1),
            campaign_id: CampaignId::new(zero, 1),
            phone_number: "16505551234".to_owned(),
            name: None,
            session_key: None,
            wa_id: Some("wamid".to_owned()),
            state: AudienceState::Attached,
            reached: 0,
            is_failed: false,
            error: None,
            sent_at: None,
            delivered_at: None,
            read_at: None,
            played_at: None,
            failed_at: None,
            created_at: zero,
            updated_at: zero,
        }
    }

    /// Tells a member the words at these places, one after the other; before some of them all rows are lost.
    fn member(order: &[(usize, bool)]) -> (audience::Model, Counts) {
        let (mut member, mut statuses) = (attached(), Statuses::default());
        let mut sums = Counts::of(&member);
        for (place, is_lost) in order {
            let (word, level) = WORDS[*place];
            if *is_lost {
                statuses = Statuses::default();
            }
            // Each at a time of its own, that of the last the earliest.
            statuses.told(word, level, UnixMillis(100 - i64::from(level)));
            let after = moved_on(&member, &statuses);
            sums = sums.plus(Counts::of(&after).minus(Counts::of(&member)));
            member = after;
        }
        (member, sums)
    }

    proptest! {
        /// In any order, however often, and whatever is deleted in between: the member is what all of it comes to, and the
        /// sums are what the member counts for.
        #[test]
        fn what_is_told_comes_to_the_same_however_it_is_told(
            order in prop::collection::vec((0..WORDS.len(), prop::bool::weighted(0.2)), 0..24),
        ) {
            let (told, sums) = member(&order);
            let mut places: Vec<usize> = order.iter().map(|(place, _)| *place).collect();
            places.sort_unstable();
            places.dedup();
            let mut all = Statuses::default();
            for place in places {
                let (word, level) = WORDS[place];
                all.told(word, level, UnixMillis(100 - i64::from(level)));
            }
            prop_assert_eq!(&told, &judged(&attached(), &all));
            prop_assert_eq!(sums, Counts::of(&told));
        }
    }
}
