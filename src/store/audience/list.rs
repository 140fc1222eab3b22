//! Audiences and their sums, for their owner.

use entity::{
    audience, campaign_statistics,
    id::{AudienceId, CampaignId, OrganizationId},
    state::AudienceState,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Audience, Counts};
use crate::store::Error;

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
}
