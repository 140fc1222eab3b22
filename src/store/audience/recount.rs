//! Counting an audience anew, and setting the sums right.
//!
//! Rows and sums are read in one statement, and so as they were at one moment; nobody waits for that. Whatever changes
//! meanwhile changes both by as much, so by what they differed then they differ still, and that is what is added in a
//! short transaction: unless somebody else has done so in between, which the row of the sums counts.

use entity::{
    UnixMillis, campaign_statistics,
    id::{CampaignId, OrganizationId},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement,
    sea_query::{Expr, ExprTrait as _},
};

use super::{Audience, Counts, apply::add};
use crate::store::{Error, Patience, organizations};

/// What counting anew came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What the sums were, and what they should have been, at one moment.
    pub before: Counts,
    pub counted: Counts,
}

/// What an audience was found to be, and how often that was set right before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub drift: Drift,
    recounts: i64,
}

/// Members and sums of a campaign. What a row counts for is said by `Counts::of` as well.
const MEASURE: &str = "\
    SELECT a.*, coalesce(s.recounts, 0) AS recounts, \
        coalesce(s.audience, 0) AS s_audience, coalesce(s.attached, 0) AS s_attached, \
        coalesce(s.sent, 0) AS s_sent, coalesce(s.delivered, 0) AS s_delivered, \
        coalesce(s.read, 0) AS s_read, coalesce(s.played, 0) AS s_played, \
        coalesce(s.failed, 0) AS s_failed \
    FROM (SELECT count(*) AS audience, count(wa_id) AS attached, \
            count(CASE WHEN reached >= 1 THEN 1 END) AS sent, \
            count(CASE WHEN reached >= 2 THEN 1 END) AS delivered, \
            count(CASE WHEN reached >= 3 THEN 1 END) AS read, \
            count(CASE WHEN reached >= 4 THEN 1 END) AS played, \
            count(CASE WHEN state = 'failed' THEN 1 END) AS failed \
        FROM campaign_audience WHERE campaign_id = $1) AS a \
    LEFT JOIN campaign_statistics AS s ON s.campaign_id = $2";

impl Audience {
    /// Counts a campaign's audience, and changes nothing.
    pub async fn measure(&self, campaign: &CampaignId) -> Result<Measured, Error> {
        let reader = self.store.reader();
        let values = [campaign.as_str().into(), campaign.as_str().into()];
        let ask = Statement::from_sql_and_values(reader.get_database_backend(), MEASURE, values);
        let row = reader.query_one_raw(ask).await?;
        let row = row.ok_or_else(|| {
            sea_orm::DbErr::RecordNotFound("a count, of which there is always one".to_owned())
        })?;
        let counts = |prefix: &str| {
            let count = |name: &str| row.try_get::<i64>(prefix, name);
            Ok::<_, sea_orm::DbErr>(Counts {
                audience: count("audience")?,
                attached: count("attached")?,
                sent: count("sent")?,
                delivered: count("delivered")?,
                read: count("read")?,
                played: count("played")?,
                failed: count("failed")?,
            })
        };
        let drift = Drift { before: counts("s_")?, counted: counts("")? };
        Ok(Measured { drift, recounts: row.try_get("", "recounts")? })
    }

    /// Adds what the sums lacked when they were measured. False if somebody else has set them right since: then that is
    /// no longer what they lack.
    pub async fn correct(
        &self,
        organization: &OrganizationId,
        campaign: &CampaignId,
        measured: Measured,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        let work = (organization.clone(), campaign.clone());
        let lane = organization.to_string();
        self.store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, campaign) = work.clone();
                Box::pin(async move {
                    // As whoever changes the sums does.
                    organizations::lock(txn, &organization).await?;
                    let found =
                        campaign_statistics::Entity::find_by_id(campaign.clone()).one(txn).await?;
                    if found.map_or(0, |row| row.recounts) != measured.recounts {
                        return Ok(false);
                    }
                    let Drift { before, counted } = measured.drift;
                    add(txn, (&organization, &campaign), counted.minus(before), now).await?;
                    let counted = looked_at(now)
                        .filter(campaign_statistics::COLUMN.campaign_id.eq(campaign.clone()));
                    counted.exec(txn).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// It was looked at once more.
fn looked_at(now: UnixMillis) -> sea_orm::UpdateMany<campaign_statistics::Entity> {
    use campaign_statistics::Column;

    campaign_statistics::Entity::update_many()
        .col_expr(Column::Recounts, Expr::col(Column::Recounts).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(now))
}
