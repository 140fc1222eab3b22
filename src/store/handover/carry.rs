//! What goes with a handover: settings, webhook filters, campaigns, and word of it.

use std::collections::BTreeSet;

use entity::{
    UnixMillis, campaign,
    id::{EndpointId, SessionId},
    kind::AuditAction,
    session,
    state::DesiredState,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, PaginatorTrait as _,
    QueryFilter, sea_query::Expr,
};
use serde_json::json;

use super::webhooks_of;
use crate::{
    store::{
        audit::{self, By},
        webhooks::{About, Known, announce, choosing},
    },
    webhook::EventType,
};

/// What one session gave, or would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub session_id: SessionId,
    /// Settings that the new session had none of its own of, by their names in the API.
    pub settings: Vec<&'static str>,
    /// Endpoints that chose the old session, and choose the new one as well.
    pub webhooks: Vec<EndpointId>,
    pub campaigns: u64,
}

/// What the sessions `sources` would give.
pub(super) async fn plan<C: ConnectionTrait>(
    db: &C,
    heir: &session::Model,
    sources: &[session::Model],
) -> Result<Vec<Given>, DbErr> {
    let choices = webhooks_of(db, &heir.organization_id, sources).await?;
    let mut settings = Settings::of(heir);
    let mut given = Vec::new();
    for source in sources {
        let campaigns = campaign::Entity::find()
            .filter(campaign::COLUMN.organization_id.eq(heir.organization_id.clone()))
            .filter(campaign::COLUMN.session_key.eq(source.id.clone()))
            .count(db)
            .await?;
        given.push(Given {
            session_id: source.session_id.clone(),
            settings: settings.take(source),
            webhooks: choosing::of(&choices, &source.session_id, &heir.session_id),
            campaigns,
        });
    }
    Ok(given)
}

/// Has `sources` hand over to `heir`: both are locked, or their organization is.
pub(super) async fn carry(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    by: &By,
    heir: &session::Model,
    sources: Vec<session::Model>,
) -> Result<(Vec<Given>, BTreeSet<EndpointId>), DbErr> {
    let mut touched = BTreeSet::new();
    let mut all_given = Vec::new();
    if sources.is_empty() {
        return Ok((all_given, touched));
    }
    let choices = webhooks_of(txn, &heir.organization_id, &sources).await?;
    choosing::add(txn, &heir.organization_id, now, &choices, &heir.session_id).await?;
    let mut settings = Settings::of(heir);
    for source in sources {
        let given = Given {
            session_id: source.session_id.clone(),
            settings: settings.take(&source),
            webhooks: choosing::of(&choices, &source.session_id, &heir.session_id),
            campaigns: move_campaigns(txn, now, heir, &source).await?,
        };
        point(txn, now, heir, &source).await?;
        let detail = json!({
            "to": heir.session_id,
            "settings": given.settings,
            "webhooks": given.webhooks,
            "campaigns": given.campaigns,
        });
        let what = (AuditAction::SessionMigrated, source.session_id.as_str());
        audit::write(txn, &heir.organization_id, by, now, what, &detail).await?;
        let data = json!({
            "sessionId": source.session_id,
            "reason": "handed_over",
            "message": "Another session of the account has taken over",
            "migratedTo": heir.session_id,
            "phoneNumber": heir.phone_number,
        });
        let kind = EventType::SessionMigrated;
        touched.extend(announce(txn, known, now, About::Session(&source), kind, &data).await?);
        all_given.push(given);
    }
    settings.write(txn, now, heir).await?;
    Ok((all_given, touched))
}

/// Writes the pointer: of the session, and of those that have handed over to it before.
async fn point(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    heir: &session::Model,
    source: &session::Model,
) -> Result<(), DbErr> {
    session::Entity::update_many()
        .col_expr(session::Column::MigratedTo, Expr::value(heir.id.clone()))
        .filter(session::COLUMN.migrated_to.eq(source.id.clone()))
        .exec(txn)
        .await?;
    session::Entity::update_many()
        .col_expr(session::Column::MigratedTo, Expr::value(heir.id.clone()))
        .col_expr(session::Column::MigratedAt, Expr::value(now))
        // It is not to run, also should it come back: the one place besides the API that writes this.
        .col_expr(session::Column::DesiredState, Expr::value(DesiredState::Stopped))
        .col_expr(session::Column::UpdatedAt, Expr::value(now))
        .filter(session::COLUMN.id.eq(source.id.clone()))
        .exec(txn)
        .await?;
    Ok(())
}

async fn move_campaigns(
    txn: &DatabaseTransaction,
    now: UnixMillis,
    heir: &session::Model,
    source: &session::Model,
) -> Result<u64, DbErr> {
    let moved = campaign::Entity::update_many()
        .col_expr(campaign::Column::SessionKey, Expr::value(heir.id.clone()))
        .col_expr(campaign::Column::UpdatedAt, Expr::value(now))
        .filter(campaign::COLUMN.organization_id.eq(heir.organization_id.clone()))
        .filter(campaign::COLUMN.session_key.eq(source.id.clone()))
        .exec(txn)
        .await?;
    Ok(moved.rows_affected)
}

/// Settings of the new session, filled up with those of old ones.
struct Settings {
    has_notification: bool,
    has_ai_config: bool,
    is_notification: Option<bool>,
    ai_config: Option<String>,
}

impl Settings {
    fn of(heir: &session::Model) -> Self {
        Self {
            has_notification: heir.is_notification.is_some(),
            has_ai_config: heir.ai_config.is_some(),
            is_notification: None,
            ai_config: None,
        }
    }

    /// Takes what is missing from an old session, and says what that was.
    fn take(&mut self, source: &session::Model) -> Vec<&'static str> {
        let mut taken = Vec::new();
        if !self.has_notification && source.is_notification.is_some() {
            self.has_notification = true;
            self.is_notification = source.is_notification;
            taken.push("isNotification");
        }
        if !self.has_ai_config && source.ai_config.is_some() {
            self.has_ai_config = true;
            self.ai_config.clone_from(&source.ai_config);
            taken.push("aiConfig");
        }
        taken
    }

    /// Writes what was taken, where nobody has set it since the row was read.
    async fn write(
        self,
        txn: &DatabaseTransaction,
        now: UnixMillis,
        heir: &session::Model,
    ) -> Result<(), DbErr> {
        let one = || {
            session::Entity::update_many()
                .col_expr(session::Column::UpdatedAt, Expr::value(now))
                .filter(session::COLUMN.id.eq(heir.id.clone()))
        };
        if let Some(is_notification) = self.is_notification {
            one()
                .col_expr(session::Column::IsNotification, Expr::value(is_notification))
                .filter(session::COLUMN.is_notification.is_null())
                .exec(txn)
                .await?;
        }
        if let Some(ai_config) = self.ai_config {
            one()
                .col_expr(session::Column::AiConfig, Expr::value(ai_config))
                .filter(session::COLUMN.ai_config.is_null())
                .exec(txn)
                .await?;
        }
        Ok(())
    }
}
