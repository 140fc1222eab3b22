//! Which secrets a body is signed with, of those that it may be signed with. Pure.
//!
//! On the addresses that many share, a body is tried with the secrets of all accounts that it may be about, whosever they
//! are. An organization can have many accounts, each with a secret, and point them at another's business account: so
//! they are tried in turns, one of each organization in each turn.

use std::collections::BTreeSet;

use entity::{
    id::{MetaAccountId, OrganizationId},
    meta::account,
};

use super::Open;

/// The most secrets that are tried for one body, and of one organization. The first two of each organization,
/// an app's secret and the one before, are tried whatever others have.
const MOST: usize = 64;

/// An account that a body may be about, and what it may be signed with.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) row: account::Model,
    pub(super) current: Option<Open>,
    pub(super) previous: Option<Open>,
}

/// The secrets that fit. Each is tried once: those of the account whose own address it came to first of all, and those of
/// numbers that it names before those of their business accounts.
pub(super) fn good(
    claims: &[Claim],
    own: Option<&MetaAccountId>,
    numbers: &BTreeSet<String>,
    fits: impl Fn(&Open) -> bool,
) -> Vec<Open> {
    let mut sorted: Vec<_> = claims.iter().collect();
    sorted.sort_by_key(|claim| {
        (Some(&claim.row.id) != own, !numbers.contains(&claim.row.phone_number_id))
    });
    let mut by_owner: Vec<(&OrganizationId, Vec<&Open>)> = Vec::new();
    for claim in sorted {
        let owner = &claim.row.organization_id;
        let at = by_owner.iter().position(|(it, _)| *it == owner).unwrap_or_else(|| {
            by_owner.push((owner, Vec::new()));
            by_owner.len() - 1
        });
        let theirs = &mut by_owner[at].1;
        for secret in claim.current.iter().chain(&claim.previous) {
            if theirs.len() < MOST && !theirs.contains(&secret) {
                theirs.push(secret);
            }
        }
    }
    let mut tried = Vec::<&Open>::new();
    let mut good = Vec::new();
    for turn in 0..MOST {
        for (_, theirs) in &by_owner {
            let Some(secret) = theirs.get(turn).filter(|it| !tried.contains(it)) else { continue };
            if turn > 1 && tried.len() >= MOST {
                return good;
            }
            tried.push(secret);
            if fits(secret) {
                good.push((*secret).clone());
            }
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use entity::{UnixMillis, meta::state::MetaStatus};

    use super::*;

    fn open(secret: &str) -> Open {
        secret.to_owned().into()
    }

    fn claim(owner: u128, number: usize, secret: &str) -> Claim {
        let now = UnixMillis(0);
        let row = account::Model {
            id: MetaAccountId::new(now, u128::from(rand::random::<u64>())),
            organization_id: OrganizationId::new(now, owner),
            label: None,
            phone_number_id: number.to_string(),
            waba_id: None,
            display_phone_number: None,
            app_id: None,
            app_secret: None,
            app_print: String::new(),
            previous_secret: None,
            previous_until: None,
            access_token: None,
            verify_hash: String::new(),
            callback_path: String::new(),
            callback_key: String::new(),
            status: MetaStatus::Unverified,
            last_verified_at: None,
            session_key: None,
            silent_since: None,
            version: 0,
            created_at: now,
            updated_at: now,
        };
        Claim { row, current: Some(open(secret)), previous: None }
    }

    fn good_of(claims: &[Claim], own: Option<&MetaAccountId>, number: &str, secret: &str) -> usize {
        let numbers = BTreeSet::from([number.to_owned()]);
        good(claims, own, &numbers, |it| *it == open(secret)).len()
    }

    #[test]
    fn no_organization_has_so_many_secrets_that_another_s_are_not_tried() {
        let mut claims: Vec<_> =
            (0..500).map(|number| claim(1, number, &format!("theirs-{number}"))).collect();
        let mut ours = claim(2, 1000, "ours");
        ours.previous = Some(open("before"));
        claims.push(ours);
        for secret in ["ours", "before", "theirs-61"] {
            assert_eq!(good_of(&claims, None, "nobody's", secret), 1, "{secret}");
        }
        // So many are tried, and no more, but those of a number that is named come first.
        assert_eq!(good_of(&claims, None, "nobody's", "theirs-62"), 0);
        assert_eq!(good_of(&claims, None, "64", "theirs-64"), 1);
        let own = claims[65].row.id.clone();
        assert_eq!(good_of(&claims, Some(&own), "nobody's", "theirs-65"), 1);
    }

    #[test]
    fn each_of_many_organizations_is_tried_and_a_secret_of_many_accounts_once() {
        let claims: Vec<_> = (0..200_u32)
            .map(|owner| claim(owner.into(), 1, &format!("of-{owner}")))
            .chain((0..200).map(|number| claim(200, number, "of-200")))
            .collect();
        for owner in [0, 100, 200] {
            assert_eq!(good_of(&claims, None, "1", &format!("of-{owner}")), 1);
        }
        let tried = std::cell::Cell::new(0);
        good(&claims, None, &BTreeSet::new(), |_| {
            tried.set(tried.get() + 1);
            false
        });
        assert_eq!(tried.get(), 201);
    }
}
