//! Audiences and their sums, for their owner; and counting anew.

use entity::{
    audience, campaign_statistics,
    id::{AudienceId, CampaignId, OrganizationId},
    organization,
    state::AudienceState,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};

use super::{Audience, Counts, apply::add};
use crate::store::{Error, Patience};

/// Rows that are counted at a time.
const CHUNK: u64 = 1000;

/// What counting anew came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What the sums were, and what they are.
    pub before: Counts,
    pub counted: Counts,
}

impl Audience {
    /// The sums of a campaign; all 0 before anybody is added.
    pub async fn statistics(&self, campaign: &CampaignId) -> Result<Counts, Error> {
        let found = campaign_statistics::Entity::find_by_id(campaign.clone())
            .one(self.store.reader())
            .await?;
        Ok(found.as_ref().map(Counts::from).unwrap_or_default())
    }

    /// A page of an audience, in the order in which they were added; one more than asked for, if there is.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        campaign: &CampaignId,
        state: Option<AudienceState>,
        after: Option<&AudienceId>,
        limit: u64,
    ) -> Result<Vec<audience::Model>, Error> {
        let mut query = audience::Entity::find()
            .filter(audience::COLUMN.organization_id.eq(organization.clone()))
            .filter(audience::COLUMN.campaign_id.eq(campaign.clone()))
            .order_by_asc(audience::COLUMN.id)
            .limit(limit);
        if let Some(state) = state {
            query = query.filter(audience::COLUMN.state.eq(state));
        }
        if let Some(after) = after {
            query = query.filter(audience::COLUMN.id.gt(after.clone()));
        }
        Ok(query.all(self.store.reader()).await?)
    }

    /// Counts a campaign's audience anew, and sets the sums right.
    pub async fn recount(
        &self,
        organization: &OrganizationId,
        campaign: &CampaignId,
    ) -> Result<Drift, Error> {
        let now = self.store.clock().now();
        let (organization, campaign) = (organization.clone(), campaign.clone());
        let lane = organization.to_string();
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, campaign) = (organization.clone(), campaign.clone());
                Box::pin(async move {
                    organization::Entity::find_by_id(organization.clone())
                        .lock(LockType::NoKeyUpdate)
                        .one(txn)
                        .await?;
                    let found =
                        campaign_statistics::Entity::find_by_id(campaign.clone()).one(txn).await?;
                    let before = found.as_ref().map(Counts::from).unwrap_or_default();
                    let counted = count(txn, &campaign).await?;
                    let change = counted.minus(before);
                    add(txn, (&organization, &campaign), change, now).await?;
                    if let Some(row) = found.filter(|_| change == Counts::default()) {
                        // Looked at, and right.
                        let mut row = row.into_active_model();
                        row.updated_at = Set(now);
                        campaign_statistics::Entity::update(row).exec(txn).await?;
                    }
                    Ok(Drift { before, counted })
                })
            })
            .await
    }
}

async fn count(txn: &DatabaseTransaction, campaign: &CampaignId) -> Result<Counts, DbErr> {
    let (mut counts, mut after) = (Counts::default(), None::<AudienceId>);
    loop {
        let mut query = audience::Entity::find()
            .filter(audience::COLUMN.campaign_id.eq(campaign.clone()))
            .order_by_asc(audience::COLUMN.id)
            .limit(CHUNK);
        if let Some(after) = after {
            query = query.filter(audience::COLUMN.id.gt(after));
        }
        let rows = query.all(txn).await?;
        for row in &rows {
            counts = counts.plus(Counts::of(row));
        }
        match rows.last() {
            Some(last) => after = Some(last.id.clone()),
            None => return Ok(counts),
        }
    }
}
