//! The statuses of messages that went out through Meta: each once, whatever came first.
//!
//! What a message has come to is computed from all that was told of it, so it does not depend on the order in which it was
//! told. Of a message that is not known yet the rows wait for it.

use std::collections::HashMap;

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    message_status,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    TryInsertResult,
};

/// What is told of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewStatus {
    pub wa_id: String,
    /// Meta's word.
    pub word: String,
    /// -1 failed, 1 sent, 2 delivered, 3 read, 4 played; 0 for a word that is not known.
    pub level: i16,
    /// Which member of a group; empty for a person's.
    pub participant: String,
    pub at: UnixMillis,
    pub error: Option<String>,
    /// JSON.
    pub pricing: Option<String>,
}

/// All that was told of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    rows: Vec<message_status::Model>,
}

/// What a message has come to. What was delivered has not failed, whatever was said of it; what was sent may have.
pub(super) const fn level(reached: i16, has_failed: bool) -> i16 {
    if has_failed && reached < 2 { -1 } else { reached }
}

impl Statuses {
    /// What was told of a message so far.
    pub(super) async fn read(
        txn: &DatabaseTransaction,
        session: &SessionKey,
        wa_id: &str,
    ) -> Result<Self, DbErr> {
        let rows = message_status::Entity::find()
            .filter(message_status::COLUMN.session_key.eq(session.clone()))
            .filter(message_status::COLUMN.wa_id.eq(wa_id))
            .order_by_asc(message_status::COLUMN.status)
            .order_by_asc(message_status::COLUMN.participant)
            .all(txn)
            .await?;
        Ok(Self { rows })
    }

    /// What was told of each of these messages; nothing of those that are missing.
    pub(super) async fn of_all(
        txn: &DatabaseTransaction,
        session: &SessionKey,
        wa_ids: &[&str],
    ) -> Result<HashMap<String, Self>, DbErr> {
        let rows = message_status::Entity::find()
            .filter(message_status::COLUMN.session_key.eq(session.clone()))
            .filter(message_status::COLUMN.wa_id.is_in(wa_ids.iter().copied()))
            .order_by_asc(message_status::COLUMN.wa_id)
            .order_by_asc(message_status::COLUMN.status)
            .order_by_asc(message_status::COLUMN.participant)
            .all(txn)
            .await?;
        let mut all = HashMap::<String, Self>::new();
        for row in rows {
            all.entry(row.wa_id.clone()).or_default().rows.push(row);
        }
        Ok(all)
    }

    /// Adds what is told now. False if it was told before.
    pub(super) async fn add(
        &mut self,
        txn: &DatabaseTransaction,
        organization: &OrganizationId,
        session: &SessionKey,
        new: &NewStatus,
        now: UnixMillis,
    ) -> Result<bool, DbErr> {
        let row = message_status::Model {
            session_key: session.clone(),
            wa_id: new.wa_id.clone(),
            status: new.word.clone(),
            participant: new.participant.clone(),
            organization_id: organization.clone(),
            level: new.level,
            occurred_at: new.at,
            error: new.error.clone(),
            pricing: new.pricing.clone(),
            created_at: now,
        };
        let inserted = message_status::Entity::insert(row.clone().into_active_model())
            .on_conflict_do_nothing_on([
                message_status::Column::SessionKey,
                message_status::Column::WaId,
                message_status::Column::Status,
                message_status::Column::Participant,
            ])
            .exec(txn)
            .await?;
        let is_new = matches!(inserted, TryInsertResult::Inserted(_));
        if is_new {
            self.rows.push(row);
        }
        Ok(is_new)
    }

    /// The highest level that was reached; 0 if none was.
    pub fn reached(&self) -> i16 {
        self.rows.iter().map(|row| row.level).max().unwrap_or(0).max(0)
    }

    /// Meta has said that it failed, whatever else it has said.
    pub fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.level < 0)
    }

    /// What the message has come to, as levels are counted.
    pub fn level(&self) -> i16 {
        level(self.reached(), self.has_failed())
    }

    /// Meta's code of why it failed: of several the lowest word, so that it is always the same.
    pub fn error(&self) -> Option<&str> {
        self.rows.iter().filter(|row| row.level < 0).filter_map(|row| row.error.as_deref()).min()
    }

    /// When a level was first reached by its own word.
    pub fn at(&self, level: i16) -> Option<UnixMillis> {
        self.rows.iter().filter(|row| row.level == level).map(|row| row.occurred_at).min()
    }
}

#[cfg(test)]
impl Statuses {
    /// Adds a row as [`Self::add`] does, without a database.
    pub(super) fn told(&mut self, word: &str, level: i16, at: UnixMillis) {
        let is_known = self.rows.iter().any(|row| row.status == word);
        if is_known {
            return;
        }
        self.rows.push(message_status::Model {
            session_key: SessionKey::new(UnixMillis(0), 1),
            wa_id: "wamid".to_owned(),
            status: word.to_owned(),
            participant: String::new(),
            organization_id: OrganizationId::new(UnixMillis(0), 1),
            level,
            occurred_at: at,
            error: (level < 0).then(|| "131026".to_owned()),
            pricing: None,
            created_at: at,
        });
    }
}
