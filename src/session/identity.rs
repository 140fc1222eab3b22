//! Which account a session belongs to.

use entity::session;

use crate::event::Account;

/// What to do when a session that belongs to one account is linked to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOtherAccount {
    /// Unlink the new device again, and stay with the account that is known.
    Refuse,
    /// Go on with the new account, and say so.
    Flag,
}

/// An account, as far as it is known. Its hidden identity comes first: a number can be changed, and the
/// account remains the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// `<digits>@lid`
    lid: Option<String>,
    /// `<digits>@s.whatsapp.net`
    jid: Option<String>,
}

impl Identity {
    /// The account that a session was linked to last; nothing is known of one that never was.
    pub(super) fn of(row: &session::Model) -> Self {
        Self { lid: row.account_lid.clone(), jid: row.account_jid.clone() }
    }

    /// Whether `account` is certainly another one.
    pub(super) fn is_not(&self, account: &Account) -> bool {
        match (&self.lid, &account.lid) {
            (Some(known), Some(lid)) => known != lid,
            _ => self.jid.as_ref().zip(account.jid.as_ref()).is_some_and(|(a, b)| a != b),
        }
    }

    /// It is `account` from now on. What is not known of it this time is kept if it is the same one.
    pub(super) fn learn(&mut self, account: &Account) {
        let before = if self.is_not(account) { Self::default() } else { std::mem::take(self) };
        self.lid = account.lid.clone().or(before.lid);
        self.jid = account.jid.clone().or(before.jid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(lid: Option<&str>, jid: Option<&str>) -> Account {
        Account {
            lid: lid.map(ToOwned::to_owned),
            jid: jid.map(ToOwned::to_owned),
            ..Account::default()
        }
    }

    #[test]
    fn an_account_is_its_hidden_identity_and_only_without_one_its_number() {
        let mut known = Identity::default();
        assert!(!known.is_not(&account(Some("1@lid"), Some("1@s"))), "nothing is known");

        known.learn(&account(None, Some("1@s")));
        assert!(known.is_not(&account(Some("2@lid"), Some("2@s"))));
        assert!(!known.is_not(&account(Some("1@lid"), Some("1@s"))));
        assert!(!known.is_not(&account(Some("1@lid"), None)), "nothing to compare");

        known.learn(&account(Some("1@lid"), Some("1@s")));
        assert!(!known.is_not(&account(Some("1@lid"), Some("9@s"))), "a new number");
        assert!(known.is_not(&account(Some("2@lid"), Some("1@s"))), "a number's new owner");

        known.learn(&account(None, Some("1@s")));
        assert_eq!(known.lid.as_deref(), Some("1@lid"), "not forgotten");
        known.learn(&account(None, Some("2@s")));
        assert_eq!(known.lid, None, "another account's");
    }
}
