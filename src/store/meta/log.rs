//! What was told, for its owner.

use entity::{
    UnixMillis,
    id::{MetaAccountId, MetaEventId, OrganizationId},
    meta::{body, event, state::MetaEventState},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Meta;
use crate::store::{Error, page::Page};

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    pub processed: Option<bool>,
    pub event_type: Option<String>,
    pub account: Option<MetaAccountId>,
    pub is_unrouted: Option<bool>,
    pub state: Option<MetaEventState>,
    /// From this time on, and before that one.
    pub from: Option<UnixMillis>,
    pub to: Option<UnixMillis>,
}

impl Meta {
    /// A page of what an organization was told, the newest first.
    pub async fn events(
        &self,
        organization: &OrganizationId,
        filter: &LogFilter,
        page: &Page<MetaEventId>,
    ) -> Result<Vec<event::Model>, Error> {
        let mut query = event::Entity::find()
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .order_by_desc(event::COLUMN.event_ts)
            .order_by_desc(event::COLUMN.id)
            .limit(page.limit);
        if let Some(processed) = filter.processed {
            query = query.filter(event::COLUMN.processed.eq(processed));
        }
        if let Some(kind) = &filter.event_type {
            query = query.filter(event::COLUMN.event_type.eq(kind.as_str()));
        }
        if let Some(account) = &filter.account {
            query = query.filter(event::Column::AccountId.eq(account.clone()));
        }
        if let Some(unrouted) = filter.is_unrouted {
            query = query.filter(event::COLUMN.is_unrouted.eq(unrouted));
        }
        if let Some(state) = filter.state {
            query = query.filter(event::COLUMN.state.eq(state));
        }
        if let Some(from) = filter.from {
            query = query.filter(event::COLUMN.event_ts.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(event::COLUMN.event_ts.lt(to));
        }
        if let Some(after) = &page.after {
            let earlier = event::COLUMN.event_ts.lt(after.at);
            let same_time = event::COLUMN.event_ts.eq(after.at);
            let lower_id = event::COLUMN.id.lt(after.id.clone());
            query = query.filter(
                Condition::any().add(earlier).add(Condition::all().add(same_time).add(lower_id)),
            );
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// One of them, with the body that it came in: its bytes are sealed. No body if that is gone.
    pub async fn event(
        &self,
        organization: &OrganizationId,
        id: &MetaEventId,
    ) -> Result<Option<(event::Model, Option<body::Model>)>, Error> {
        let found = event::Entity::find_by_id(id.clone())
            .filter(event::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        let Some(event) = found else { return Ok(None) };
        let body = body::Entity::find_by_id(event.body_id.clone())
            .filter(body::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(Some((event, body)))
    }
}
