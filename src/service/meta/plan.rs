//! What an account is to become: which of it a request changes, and whether it may.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::{
    id::{MetaAccountId, OrganizationId, in_order},
    meta::{account, state::MetaStatus},
    state::Role,
};
use serde_json::{Map, Value, json};

use super::{AccountInput, DEFAULT_PATH, Meta};
use crate::{
    service::{Conflict, Error, Principal, sessions::Change, webhooks::OVERLAP},
    store::meta::{Open, Secrets},
};

const UNREADABLE: Error = Error::Unavailable {
    what: "the secret of the account's app does not open: give it again",
    retry_after: Duration::from_mins(1),
};

/// A row as it shall be, and what of it is new.
pub(super) struct Plan {
    pub(super) row: account::Model,
    pub(super) secrets: Secrets,
    pub(super) access_token: Option<Open>,
    pub(super) changed: Vec<&'static str>,
}

impl Meta {
    /// An account as it begins.
    pub(super) fn fresh(&self, organization: &OrganizationId, number: &str) -> account::Model {
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
            claimed_at: None,
            version: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// What an account is to become.
    pub(super) async fn plan(
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
        if is_new
            || row.phone_number_id != before.phone_number_id
            || row.app_print != before.app_print
        {
            let number = &row.phone_number_id;
            let was = self.store.meta().was_anothers(&row.organization_id, number).await?;
            row.claimed_at = was.then(|| self.now());
        }
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
        }
        // What Meta has verified was another token, another app or another address.
        let is_other = row.verify_hash != before.verify_hash
            || row.app_print != before.app_print
            || row.callback_path != before.callback_path;
        if is_other && row.status == MetaStatus::Verified {
            row.status = MetaStatus::Unverified;
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
pub(super) fn detail(row: &account::Model, changed: &[&'static str]) -> Value {
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
pub(super) fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
