//! What callers may set of a session.

use entity::{
    id::{OrganizationId, SessionKey},
    kind::AuditAction,
    session,
};
use sea_orm::{
    ActiveValue::{self, Set},
    ColumnTrait, Condition, EntityTrait, PaginatorTrait as _, QueryFilter, Value,
};
use serde_json::json;

use super::{
    Act, Receiver, SessionData, Sessions,
    external::{SealedReceiver, claimed_at, is_taken},
    is_there,
};
use crate::store::{Error, audit::By, secrets::seal_data, writer::Patience};

/// What to do with one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    #[default]
    Keep,
    Clear,
    To(T),
}

impl<T> Change<T> {
    /// Whether there is anything to do.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    fn into_active(self) -> ActiveValue<Option<T>>
    where
        Option<T>: Into<Value>,
    {
        match self {
            Self::Keep => ActiveValue::NotSet,
            Self::Clear => Set(None),
            Self::To(value) => Set(Some(value)),
        }
    }
}

/// Changes of what the caller may set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub user_id: Change<String>,
    /// Digits only.
    pub phone_number: Change<String>,
    pub is_notification: Change<bool>,
    /// JSON text.
    pub ai_config: Change<String>,
    /// Of an external session.
    pub session_data: Change<SessionData>,
    /// Of an external session.
    pub receiver: Option<Receiver>,
}

impl Settings {
    /// Whether there is anything to do.
    pub const fn is_keep(&self) -> bool {
        self.user_id.is_keep()
            && self.phone_number.is_keep()
            && self.is_notification.is_keep()
            && self.ai_config.is_keep()
            && self.session_data.is_keep()
            && self.receiver.is_none()
    }
}

/// What became of a change of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done(Box<session::Model>),
    /// There is no such session any more.
    Gone,
    /// Another session is called the same where it runs.
    VpsTaken,
    /// It has the number of its account, and no other can be said of it.
    NumberKnown,
}

/// Whether no account is known that it belongs to.
pub(super) fn is_unlinked() -> Condition {
    Condition::all().add(session::COLUMN.account_jid.is_null())
}

impl Sessions {
    /// Changes settings. The number is changed only while that of its account is not known; to say again which it is
    /// changes nothing.
    pub async fn change(
        &self,
        organization: &OrganizationId,
        key: &SessionKey,
        settings: Settings,
        (action, by): (AuditAction, By),
    ) -> Result<Changed, Error> {
        let changed = [
            ("userId", !settings.user_id.is_keep()),
            ("phoneNumber", !settings.phone_number.is_keep()),
            ("isNotification", !settings.is_notification.is_keep()),
            // Its name alone: what it says is the tenant's own.
            ("aiConfig", !settings.ai_config.is_keep()),
            ("sessionData", !settings.session_data.is_keep()),
            ("webhookAuth", settings.receiver.is_some()),
        ];
        let changed: Vec<_> = changed
            .into_iter()
            .filter(|(_, is_changed)| *is_changed)
            .map(|(name, _)| name)
            .collect();
        let detail = json!({ "changed": changed });
        let act = Act { action, detail, by };
        let only = match &settings.phone_number {
            Change::Keep => Condition::all(),
            Change::Clear => is_unlinked(),
            Change::To(number) => {
                let is_it = session::Column::PhoneNumber.eq(number.as_str());
                Condition::any().add(is_unlinked()).add(is_it)
            }
        };
        let is_of_number = !settings.phone_number.is_keep();
        let mut change = session::ActiveModel {
            user_id: settings.user_id.into_active(),
            phone_number: settings.phone_number.into_active(),
            is_notification: settings.is_notification.into_active(),
            ai_config: settings.ai_config.into_active(),
            ..Default::default()
        };
        match settings.session_data {
            Change::Keep => {}
            Change::Clear => {
                change.session_data = Set(None);
                change.vps_session_id = Set(None);
                change.vps_claimed_at = Set(None);
            }
            Change::To(data) => {
                let (reader, now) = (self.store.reader(), self.store.clock().now());
                let id = data.vps_session_id.as_deref();
                if is_taken(reader, organization, key, id).await? {
                    return Ok(Changed::VpsTaken);
                }
                change.vps_claimed_at = Set(claimed_at(reader, organization, key, id, now).await?);
                let sealer = self.store.sealer(organization, Patience::Fail).await?;
                change.session_data = Set(Some(seal_data(&sealer, key, &data.json)));
                change.vps_session_id = Set(data.vps_session_id);
            }
        }
        if let Some(receiver) = &settings.receiver {
            let SealedReceiver { auth, secret } = self.sealed(organization, key, receiver).await?;
            change.receiver_auth = Set(Some(auth));
            // Who changes how it is let in wants nothing else to let it in.
            change.previous_receiver_secret = Set(None);
            change.previous_receiver_until = Set(None);
            if secret.is_some() {
                change.receiver_secret = Set(secret);
            }
        }
        match self.update_if(organization, key, change, Some(act), only).await {
            // Another request has just given another session that name.
            Err(error) if error.is_unique_violation() => Ok(Changed::VpsTaken),
            changed => match changed? {
                Some(row) => Ok(Changed::Done(Box::new(row))),
                None if is_of_number && self.is_of(organization, key).await? => {
                    Ok(Changed::NumberKnown)
                }
                None => Ok(Changed::Gone),
            },
        }
    }

    /// Whether the organization has such a session.
    async fn is_of(&self, organization: &OrganizationId, key: &SessionKey) -> Result<bool, Error> {
        let found = session::Entity::find_by_id(key.clone())
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(is_there())
            .count(self.store.reader())
            .await?;
        Ok(found > 0)
    }
}
