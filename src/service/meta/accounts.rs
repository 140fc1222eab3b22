//! An organization's accounts: made, changed, given another verify token, switched off and on.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::{
    UnixMillis,
    id::{MetaAccountId, OrganizationId, in_order},
    kind::AuditAction,
    meta::{account, state::MetaStatus},
    organization,
    state::Role,
};
use serde_json::{Map, Value, json};

use super::{AccountFilter, AccountInput, DEFAULT_PATH, Meta, NOT_FOUND};
use crate::{
    service::{
        Conflict, Error, Principal, Thing,
        created::{self, Created},
        sessions::Change,
        text,
    },
    store::{
        Made, Patience,
        idempotency::Key,
        meta::{MOST_ACCOUNTS, Open, Put, Putting, Secrets},
        page::{Page, Position},
    },
};

/// How often a change is tried again because somebody else was faster.
const TRIES: usize = 8;

/// How long an app's old secret is good beside its successor, if nobody says.
const OVERLAP: Duration = Duration::from_hours(24);

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

/// A row as it shall be, and what of it is new.
struct Plan {
    row: account::Model,
    secrets: Secrets,
    access_token: Option<Open>,
    changed: Vec<&'static str>,
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
                let (account, replayed) = match made {
                    Made::New(row) => (row, false),
                    Made::Before(row) => (row, true),
                    Made::KeyReused => return Err(Error::KeyReused),
                    Made::Gone => return Err(Error::MadeGone),
                };
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
            row,
            seen,
            most: MOST_ACCOUNTS,
            key,
            by: caller.by(),
            action: (!changed.is_empty()).then_some(action),
            detail,
        };
        match meta.put(putting).await? {
            Put::Done(made) => Ok(Some(*made)),
            Put::Raced => Ok(None),
            Put::TooMany => Err(Error::Conflict(Conflict::TooManyMetaAccounts)),
            Put::Taken => Err(Error::Conflict(Conflict::MetaNumberTaken)),
        }
    }

    fn fresh(&self, organization: &OrganizationId, number: &str) -> account::Model {
        let now = self.now();
        account::Model {
            id: MetaAccountId::new(now, in_order(rand::random())),
            organization_id: organization.clone(),
            label: None,
            phone_number_id: number.to_owned(),
            waba_id: None,
            display_phone_number: None,
            app_id: None,
            app_secret: None,
            app_print: String::new(),
            previous_secret: None,
            previous_until: None,
            access_token: None,
            verify_hash: String::new(),
            callback_path: DEFAULT_PATH.to_owned(),
            callback_key: random(),
            status: MetaStatus::Unverified,
            last_verified_at: None,
            session_key: None,
            silent_since: None,
            version: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// What an account is to become.
    async fn plan(
        &self,
        caller: &Principal,
        before: account::Model,
        input: &AccountInput,
        is_new: bool,
    ) -> Result<Plan, Error> {
        let mut row = before.clone();
        if let Some(number) = &input.phone_number_id {
            if row.phone_number_id != *number {
                // Another number's messages are none of this one's.
                row.session_key = None;
            }
            row.phone_number_id.clone_from(number);
        }
        set(&mut row.label, &input.label);
        set(&mut row.waba_id, &input.waba_id);
        set(&mut row.display_phone_number, &input.display_phone_number);
        set(&mut row.app_id, &input.app_id);
        if let Some(path) = &input.callback_path {
            row.callback_path.clone_from(path);
        }
        let points_elsewhere = is_new
            || row.phone_number_id != before.phone_number_id
            || (row.waba_id != before.waba_id && row.waba_id.is_some());
        let new_secret = input.new_app_secret();
        if caller.role < Role::Operator {
            if input.app_secret == Change::Clear {
                return Err(Error::Forbidden { needs: Role::Operator });
            }
            if points_elsewhere && new_secret.is_none() {
                let detail =
                    "is missing: whoever points an account at a number shows the secret of its app";
                return Err(Error::invalid("appSecret", detail));
            }
        }
        let secrets = self.app_secrets(&before, &mut row, input, new_secret).await?;
        let access_token = match &input.access_token {
            Change::To(token) => Some(Open::from(token.clone())),
            Change::Clear => {
                row.access_token = None;
                None
            }
            Change::Keep => None,
        };
        if let Some(token) = &input.verify_token {
            row.verify_hash = self.verify_hash(token).await?;
            if row.verify_hash != before.verify_hash && row.status == MetaStatus::Verified {
                row.status = MetaStatus::Unverified;
            }
        }
        let mut plan = Plan { changed: Vec::new(), row, secrets, access_token };
        plan.changed = changed(&before, &plan);
        if let Some(status) = input.status.filter(|it| *it != plan.row.status) {
            if status == MetaStatus::Verified {
                let mut sketch = plan.row.clone();
                sketch.access_token =
                    sketch.access_token.or_else(|| plan.access_token.is_some().then(Vec::new));
                sketch.app_secret = plan.secrets.app.is_some().then(Vec::new);
                if !self.missing(&sketch).is_empty() {
                    return Err(Error::Conflict(Conflict::MetaAccountIncomplete));
                }
            }
            plan.row.status = status;
        }
        if plan.row.status != before.status {
            plan.changed.push("status");
        }
        if is_new || !plan.changed.is_empty() {
            plan.row.updated_at = self.now();
        }
        Ok(plan)
    }

    /// The secrets of the app as they are to be, with what the row says of them.
    async fn app_secrets(
        &self,
        before: &account::Model,
        row: &mut account::Model,
        input: &AccountInput,
        new: Option<Open>,
    ) -> Result<Secrets, Error> {
        let now = self.now();
        let mut secrets = self.store.meta().secrets(before).await?;
        if before.app_secret.is_some() && secrets.app.is_none() && new.is_none() {
            // It would be sealed again as none.
            return Err(UNREADABLE);
        }
        if row.previous_until.is_some_and(|until| until <= now) {
            secrets.previous = None;
        }
        if input.app_secret == Change::Clear {
            secrets = Secrets::default();
        }
        if let Some(new) = new
            && secrets.app.as_ref() != Some(&new)
        {
            secrets.previous = secrets.app.replace(new);
            row.previous_until = Some(now + OVERLAP);
        }
        if let Some(until) = input.previous_until {
            row.previous_until = Some(until);
            if until <= now {
                secrets.previous = None;
            }
        }
        if secrets.previous.is_none() {
            row.previous_until = None;
        }
        row.app_print = self.app_print(secrets.app.as_ref()).await?;
        // To be sealed again, where anything of it has changed.
        if secrets.previous.is_none() {
            row.previous_secret = None;
        }
        Ok(secrets)
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

fn set(field: &mut Option<String>, change: &Change<String>) {
    match change {
        Change::Keep => {}
        Change::Clear => *field = None,
        Change::To(text) => *field = Some(text.clone()),
    }
}

/// The members that a plan changes, but for the status.
fn changed(before: &account::Model, plan: &Plan) -> Vec<&'static str> {
    let Plan { row, access_token, .. } = plan;
    let token = access_token.is_some() || row.access_token != before.access_token;
    [
        ("label", row.label != before.label),
        ("phoneNumberId", row.phone_number_id != before.phone_number_id),
        ("wabaId", row.waba_id != before.waba_id),
        ("displayPhoneNumber", row.display_phone_number != before.display_phone_number),
        ("appId", row.app_id != before.app_id),
        ("appSecret", row.app_print != before.app_print),
        ("previousAppSecret", row.previous_until != before.previous_until),
        ("accessToken", token),
        ("verifyToken", row.verify_hash != before.verify_hash),
        ("callbackPath", row.callback_path != before.callback_path),
    ]
    .into_iter()
    .filter_map(|(name, is_changed)| is_changed.then_some(name))
    .collect()
}

/// For the audit log: what was changed, and of what is no secret, to what.
fn detail(row: &account::Model, changed: &[&'static str]) -> Value {
    let mut detail = Map::new();
    detail.insert("phoneNumberId".to_owned(), json!(row.phone_number_id));
    detail.insert("changed".to_owned(), json!(changed));
    for name in changed {
        let value = match *name {
            "label" => json!(row.label),
            "wabaId" => json!(row.waba_id),
            "appId" => json!(row.app_id),
            "callbackPath" => json!(row.callback_path),
            "status" => json!(row.status),
            _ => continue,
        };
        detail.insert((*name).to_owned(), value);
    }
    Value::Object(detail)
}

/// 256 random bits, as a path can have them.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

const UNREADABLE: Error = Error::Unavailable {
    what: "the secret of the account's app does not open: give it again",
    retry_after: Duration::from_mins(1),
};

pub(super) const CROWDED: Error = Error::Unavailable {
    what: "the account is being changed by many at once",
    retry_after: Duration::from_secs(1),
};
