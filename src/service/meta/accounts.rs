//! An organization's accounts: made, changed, given another verify token, switched off and on.

use std::{collections::HashMap, time::Duration};

use entity::{
    UnixMillis,
    id::{MetaAccountId, OrganizationId, SessionId, SessionKey},
    kind::AuditAction,
    meta::{account, state::MetaStatus},
    organization,
    state::Role,
};

use super::{
    AccountFilter, AccountInput, Meta, NOT_FOUND,
    plan::{Plan, detail, random},
};
use crate::{
    service::{
        Conflict, Error, Principal, Thing,
        created::{self, Created},
        text,
    },
    store::{
        Made, Patience,
        idempotency::Key,
        meta::{MOST_ACCOUNTS, Put, Putting},
        page::{Page, Position},
    },
};

/// How often a change is tried again because somebody else was faster.
const TRIES: usize = 8;

/// An account that was made or changed.
#[derive(Clone, Debug)]
pub struct Upserted {
    pub account: account::Model,
    /// The verify token, if it was made here: it is shown this once.
    pub verify_token: Option<String>,
    pub is_new: bool,
    /// An earlier request with the same key has done it.
    pub replayed: bool,
}

/// An organization's accounts, as one configuration.
#[derive(Clone, Debug)]
pub struct Overview {
    pub organization: organization::Model,
    /// The oldest account of all, whatever page was asked for.
    pub first: Option<account::Model>,
    /// There is an account, and each has all that it needs.
    pub is_complete: bool,
    /// The page that was asked for, the oldest first.
    pub page: Listing,
}

/// A page of accounts.
#[derive(Clone, Debug)]
pub struct Listing {
    pub accounts: Vec<account::Model>,
    pub next: Option<Position<MetaAccountId>>,
}

impl Meta {
    /// Lists accounts.
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &AccountFilter,
        page: Page<MetaAccountId>,
    ) -> Result<Listing, Error> {
        caller.require(Role::Viewer)?;
        self.page(&caller.organization_id, filter, page).await
    }

    async fn page(
        &self,
        organization: &OrganizationId,
        filter: &AccountFilter,
        page: Page<MetaAccountId>,
    ) -> Result<Listing, Error> {
        let meta = self.store.meta();
        let mut accounts = meta.accounts(organization, filter, &page.one_more()).await?;
        let next =
            page.cut(&mut accounts, |row| Position { at: row.created_at, id: row.id.clone() });
        Ok(Listing { accounts, next })
    }

    /// Looks an account up.
    pub async fn find(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
    ) -> Result<account::Model, Error> {
        caller.require(Role::Viewer)?;
        self.store.meta().account(&caller.organization_id, id).await?.ok_or(NOT_FOUND)
    }

    /// An organization's configuration, and a page of its accounts. Another than the caller's is there for
    /// operators alone.
    pub async fn overview(
        &self,
        caller: &Principal,
        organization: &OrganizationId,
        filter: &AccountFilter,
        page: Page<MetaAccountId>,
    ) -> Result<Overview, Error> {
        caller.require(Role::Viewer)?;
        let is_own = *organization == caller.organization_id || caller.role >= Role::Operator;
        let found = self.store.organizations().find(organization).await?.filter(|_| is_own);
        let organization = found.ok_or(Error::NotFound(Thing::Organization))?;
        let all = AccountFilter::default();
        let all = self.store.meta().accounts(&organization.id, &all, &Page::all()).await?;
        let is_complete = !all.is_empty() && all.iter().all(|row| self.missing(row).is_empty());
        let first = all.first().cloned();
        let is_whole = *filter == AccountFilter::default()
            && page.after.is_none()
            && page.limit.is_none_or(|limit| all.len() as u64 <= limit);
        let page = if is_whole {
            Listing { accounts: all, next: None }
        } else {
            self.page(&organization.id, filter, page).await?
        };
        Ok(Overview { organization, first, is_complete, page })
    }

    /// The names of the sessions that accounts' messages are kept under.
    pub async fn session_names(
        &self,
        organization: &OrganizationId,
        accounts: &[account::Model],
    ) -> Result<HashMap<SessionKey, SessionId>, Error> {
        let keys: Vec<_> = accounts.iter().filter_map(|row| row.session_key.clone()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.store.sessions().names(organization, keys).await?)
    }

    /// Makes an account of a phone number, or changes the one that the organization has.
    pub async fn upsert(
        &self,
        caller: &Principal,
        input: AccountInput,
        key: Option<String>,
    ) -> Result<Upserted, Error> {
        caller.require(Role::Manager)?;
        let input = input.checked(self.now())?;
        let number = input.phone_number_id.clone().unwrap_or_default();
        let key = self.key(caller, key, &input).await?;
        for _ in 0..TRIES {
            let meta = self.store.meta();
            let there = meta.account_of_number(&caller.organization_id, &number).await?;
            let mut input = input.clone();
            let mut token = None;
            if there.is_none() && input.verify_token.is_none() {
                let made = random();
                input.verify_token = Some(made.clone());
                token = Some(made);
            }
            let action = match &there {
                None => AuditAction::MetaAccountCreated,
                Some(_) => AuditAction::MetaAccountChanged,
            };
            let seen = there.as_ref().map(|row| row.version);
            let row = there.unwrap_or_else(|| self.fresh(&caller.organization_id, &number));
            let plan = self.plan(caller, row, &input, seen.is_none()).await?;
            if let Some(made) = self.put(caller, plan, (seen, key.clone()), action).await? {
                let Created { made: account, replayed } = made.try_into()?;
                let verify_token = token.filter(|_| !replayed);
                return Ok(Upserted { account, verify_token, is_new: seen.is_none(), replayed });
            }
        }
        Err(CROWDED)
    }

    /// Changes what is given of an account.
    pub async fn update(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        input: AccountInput,
    ) -> Result<account::Model, Error> {
        caller.require(Role::Manager)?;
        // What there is not is not there, whatever is asked of it.
        self.find(caller, id).await?;
        let input = input.checked(self.now())?;
        let status = input.status;
        let action = match status {
            Some(_) if input.is_status_only() => AuditAction::MetaAccountStatusSet,
            _ => AuditAction::MetaAccountChanged,
        };
        self.change(caller, id, &input, action).await
    }

    /// Switches an account off, or on again.
    pub async fn set_status(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        status: MetaStatus,
    ) -> Result<account::Model, Error> {
        let input = AccountInput { status: Some(status), ..AccountInput::default() };
        self.update(caller, id, input).await
    }

    /// Takes an account away. What it has is kept under its session.
    pub async fn delete(&self, caller: &Principal, id: &MetaAccountId) -> Result<(), Error> {
        caller.require(Role::Manager)?;
        let meta = self.store.meta();
        let gone = meta.delete_account(&caller.organization_id, id, caller.by()).await?;
        self.apps.forget().await;
        if gone { Ok(()) } else { Err(NOT_FOUND) }
    }

    /// Gives an account another verify token, once for each key, which is shown this once. Meta must show it in its turn.
    pub async fn rotate(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        key: Option<String>,
    ) -> Result<(account::Model, Option<String>), Error> {
        caller.require(Role::Manager)?;
        let token = random();
        let input = AccountInput { verify_token: Some(token.clone()), ..AccountInput::default() };
        let action = AuditAction::MetaVerifyTokenRotated;
        let key = key.map(|key| created::key(key, &["meta.verify-token", id.as_str()]));
        let changed = self.change_once(caller, id, &input, (action, key)).await?;
        let Created { made, replayed } = Created::try_from(changed)?;
        Ok((made, Some(token).filter(|_| !replayed)))
    }

    async fn change(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        input: &AccountInput,
        action: AuditAction,
    ) -> Result<account::Model, Error> {
        let changed = self.change_once(caller, id, input, (action, None)).await?;
        Created::try_from(changed).map(|it| it.made)
    }

    async fn change_once(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        input: &AccountInput,
        (action, key): (AuditAction, Option<Key>),
    ) -> Result<Made<account::Model>, Error> {
        for _ in 0..TRIES {
            let row = self.find(caller, id).await?;
            let seen = Some(row.version);
            let plan = self.plan(caller, row, input, false).await?;
            if plan.changed.is_empty() {
                return Ok(Made::New(plan.row));
            }
            if let Some(made) = self.put(caller, plan, (seen, key.clone()), action).await? {
                return Ok(made);
            }
        }
        Err(CROWDED)
    }

    /// Writes a plan down. None if somebody else was faster.
    async fn put(
        &self,
        caller: &Principal,
        plan: Plan,
        (seen, key): (Option<i64>, Option<Key>),
        action: AuditAction,
    ) -> Result<Option<Made<account::Model>>, Error> {
        let Plan { mut row, secrets, access_token, changed } = plan;
        let meta = self.store.meta();
        if changed.iter().any(|it| ["appSecret", "accessToken", "previousAppSecret"].contains(it)) {
            meta.seal(&mut row, &secrets, access_token.as_ref()).await?;
        }
        let detail = detail(&row, &changed);
        let putting = Putting {
            is_complete: self.missing(&row).is_empty(),
            row,
            seen,
            most: MOST_ACCOUNTS,
            key,
            by: caller.by(),
            action: (!changed.is_empty()).then_some(action),
            detail,
        };
        let put = meta.put(putting).await?;
        self.apps.forget().await;
        match put {
            Put::Done(made) => Ok(Some(*made)),
            Put::Raced => Ok(None),
            Put::TooMany => Err(Error::Conflict(Conflict::TooManyMetaAccounts)),
            Put::Taken => Err(Error::Conflict(Conflict::MetaNumberTaken)),
        }
    }

    async fn key(
        &self,
        caller: &Principal,
        key: Option<String>,
        input: &AccountInput,
    ) -> Result<Option<Key>, Error> {
        let Some(key) = key else { return Ok(None) };
        let request = format!("meta_account {}", input.written());
        let sealer = self.store.sealer(&caller.organization_id, Patience::Fail).await?;
        let fingerprint = text::hex(&sealer.sign("idempotency", request.as_bytes()));
        Ok(Some(Key { key, fingerprint }))
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.store.clock().now()
    }
}

impl AccountInput {
    fn is_status_only(&self) -> bool {
        let only = Self { status: self.status, ..Self::default() };
        self.written() == only.written()
    }
}

pub(super) const CROWDED: Error = Error::Unavailable {
    what: "the account is being changed by many at once",
    retry_after: Duration::from_secs(1),
};
