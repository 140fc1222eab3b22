//! Which secrets a body is tried with, of those that it may be signed with, and in which order. Pure.
//!
//! On the addresses that many share, a body is tried with the secrets of all accounts that it may be about, whosever they
//! are. An organization can have many accounts, each with a secret, and point them at another's business account: so
//! they are tried in turns, one of each organization in each turn.
//!
//! Whoever posts has proved nothing yet, so what it costs is bounded: by the secrets that are opened and by the bytes that are
//! hashed. Of a body of 4 MiB sixteen secrets are tried, of a usual one as many as there are.

use std::collections::BTreeSet;

use entity::{id::OrganizationId, meta::account};

use super::Open;

/// The most secrets that are tried for one body. The first two of each organization, an app's secret and the one
/// before, are tried whatever others have, as long as there is [`WORK`] left.
const MOST: usize = 64;

/// The most that are opened for it, those among them that are tried already.
const LOOKS: usize = 4 * MOST;

/// Bytes that are hashed for one body: some 50 ms of a processor. Some secrets are tried however long the body is.
const WORK: usize = 64 << 20;
const LEAST: usize = 16;

/// One of an account's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    Previous,
}

/// A secret to try, and how many of its organization's come before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    before: usize,
    pub(super) row: &'a account::Model,
    pub(super) which: Which,
}

/// The order in which secrets are tried: those of numbers that the body names before those of their business accounts. Accounts
/// of one app have one secret.
pub(super) fn turns<'a>(rows: &'a [account::Model], numbers: &BTreeSet<String>) -> Vec<Turn<'a>> {
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|row| !numbers.contains(&row.phone_number_id));
    let mut by_owner: Vec<(&OrganizationId, Vec<Turn<'a>>)> = Vec::new();
    let mut apps = BTreeSet::new();
    for row in sorted {
        let owner = &row.organization_id;
        let at = by_owner.iter().position(|(it, _)| *it == owner).unwrap_or_else(|| {
            by_owner.push((owner, Vec::new()));
            by_owner.len() - 1
        });
        let theirs = &mut by_owner[at].1;
        let is_new = apps.insert((owner, &row.app_print));
        let current = is_new.then_some(Which::Current);
        let previous = row.previous_secret.as_ref().map(|_| Which::Previous);
        for which in current.into_iter().chain(previous) {
            if theirs.len() < LOOKS {
                theirs.push(Turn { before: theirs.len(), row, which });
            }
        }
    }
    let mut all: Vec<_> = by_owner.into_iter().flat_map(|(_, theirs)| theirs).collect();
    all.sort_by_key(|it| it.before);
    all
}

/// Secrets to try, each once, and as many as may be.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) secrets: Vec<Open>,
    looks: usize,
    most: usize,
}

impl Tries {
    /// For a body of this length.
    pub(super) fn of(length: usize) -> Self {
        let most = (WORK / length.max(1)).max(LEAST);
        Self { secrets: Vec::new(), looks: 0, most }
    }

    /// Whether this one is to be opened and tried.
    pub(super) fn takes(&self, turn: Turn<'_>) -> bool {
        let is_first = turn.before <= 1;
        self.secrets.len() < self.most
            && (is_first || (self.secrets.len() < MOST && self.looks < LOOKS))
    }

    /// Whether one more is to be opened and tried of a body that names nobody whom it could be about. Whoever has many
    /// organizations tried by a name gets no more than that.
    pub(super) fn takes_stray(&self) -> bool {
        self.secrets.len() < self.most.min(MOST) && self.looks < LOOKS
    }

    pub(super) fn add(&mut self, secret: Option<Open>) {
        self.looks += 1;
        if let Some(secret) = secret.filter(|it| !self.secrets.contains(it)) {
            self.secrets.push(secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use entity::{UnixMillis, id::MetaAccountId, meta::state::MetaStatus};

    use super::*;

    fn open(secret: &str) -> Open {
        secret.to_owned().into()
    }

    fn account(owner: u128, number: usize, secret: &str) -> account::Model {
        let now = UnixMillis(0);
        account::Model {
            id: MetaAccountId::new(now, u128::from(rand::random::<u64>())),
            organization_id: OrganizationId::new(now, owner),
            label: None,
            phone_number_id: number.to_string(),
            waba_id: None,
            display_phone_number: None,
            app_id: None,
            app_secret: Some(secret.into()),
            app_print: secret.to_owned(),
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
            claimed_at: None,
            version: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// What is tried of a body of this length that names a number. Sealed is as open here.
    fn tried_of(rows: &[account::Model], number: &str, length: usize) -> Vec<Open> {
        let numbers = BTreeSet::from([number.to_owned()]);
        let mut tries = Tries::of(length);
        for turn in turns(rows, &numbers) {
            if tries.takes(turn) {
                let sealed = match turn.which {
                    Which::Current => &turn.row.app_secret,
                    Which::Previous => &turn.row.previous_secret,
                };
                tries.add(sealed.clone().map(|it| open(&String::from_utf8(it).unwrap())));
            }
        }
        tries.secrets
    }

    fn is_tried(rows: &[account::Model], number: &str, secret: &str) -> bool {
        tried_of(rows, number, 1000).contains(&open(secret))
    }

    #[test]
    fn no_organization_has_so_many_secrets_that_another_s_are_not_tried() {
        let mut rows: Vec<_> =
            (0..500).map(|number| account(1, number, &format!("theirs-{number}"))).collect();
        let mut ours = account(2, 1000, "ours");
        ours.previous_secret = Some("before".into());
        rows.push(ours);
        for secret in ["ours", "before", "theirs-61"] {
            assert!(is_tried(&rows, "nobody's", secret), "{secret}");
        }
        // So many are tried, and no more, but those of a number that is named come first.
        assert!(!is_tried(&rows, "nobody's", "theirs-62"));
        assert!(is_tried(&rows, "64", "theirs-64"));
    }

    #[test]
    fn each_of_many_organizations_is_tried_and_a_secret_of_many_accounts_once() {
        let rows: Vec<_> = (0..200_u32)
            .map(|owner| account(owner.into(), 1, &format!("of-{owner}")))
            .chain((0..200).map(|number| account(200, number, "of-200")))
            .collect();
        for owner in [0, 100, 200] {
            assert!(is_tried(&rows, "1", &format!("of-{owner}")));
        }
        assert_eq!(tried_of(&rows, "nobody's", 1000).len(), 201);
    }

    #[test]
    fn the_longer_a_body_is_the_fewer_secrets_are_tried_and_each_organization_has_its_turn() {
        let mut rows: Vec<_> =
            (0..500).map(|number| account(1, number, &format!("theirs-{number}"))).collect();
        rows.push(account(2, 1000, "ours"));
        for (length, most) in [(0, 64), (1 << 20, 64), (2 << 20, 32), (4 << 20, 16), (1 << 30, 16)]
        {
            let tried = tried_of(&rows, "nobody's", length);
            assert_eq!(tried.len(), most, "{length}");
            assert!(tried.contains(&open("ours")));
        }
    }

    #[test]
    fn a_body_that_names_nobody_is_tried_with_no_more_than_is_left_and_each_organization_has_its_turn()
     {
        let rows: Vec<_> = (0..200_u32)
            .map(|owner| account(owner.into(), 1, &format!("of-{owner}")))
            .chain((0..500).map(|number| account(200, number, &format!("theirs-{number}"))))
            .collect();
        for (length, known, most) in
            [(1000, 0, 64), (1000, 10, 54), (4 << 20, 0, 16), (4 << 20, 16, 0)]
        {
            let mut tries = Tries::of(length);
            for n in 0..known {
                tries.add(Some(open(&format!("known-{n}"))));
            }
            for turn in turns(&rows, &BTreeSet::new()) {
                if tries.takes_stray() {
                    let secret = turn.row.app_secret.clone().unwrap();
                    tries.add(Some(open(&String::from_utf8(secret).unwrap())));
                }
            }
            assert_eq!(tries.secrets.len() - known, most, "{length} {known}");
            let theirs = |it: &&Open| it.expose().starts_with("theirs");
            assert!(tries.secrets.iter().filter(theirs).count() <= 1);
        }
    }

    #[test]
    fn what_is_opened_is_bounded_though_it_is_all_the_same() {
        let rows: Vec<_> = (0..500)
            .map(|number| account::Model {
                previous_secret: Some("before".into()),
                ..account(1, number, "now")
            })
            .collect();
        let all = turns(&rows, &BTreeSet::new());
        assert_eq!(all.len(), LOOKS);
        let mut tries = Tries::of(1000);
        let opened = all.iter().filter(|turn| {
            let takes = tries.takes(**turn);
            if takes {
                tries.add(Some(open("before")));
            }
            takes
        });
        assert_eq!((opened.count(), tries.secrets.len()), (LOOKS, 1));
    }
}
