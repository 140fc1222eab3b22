//! Writing how far a member's message has come, with the sums of its campaign.

use entity::{
    UnixMillis, audience, campaign_statistics,
    id::{CampaignId, OrganizationId, SessionKey},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, sea_query::Expr,
};

use super::{CHUNK, Counts, member::moved_on};
use crate::store::statuses::Statuses;

/// Writes what was told of a message into the row of whom it was for, if it was a campaign's.
pub(in crate::store) async fn apply(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    wa_id: &str,
    statuses: &Statuses,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let found = audience::Entity::find()
        .filter(audience::COLUMN.session_key.eq(session.clone()))
        .filter(audience::COLUMN.wa_id.eq(wa_id))
        .one(txn)
        .await?;
    let Some(before) = found else { return Ok(()) };
    let after = moved_on(&before, statuses);
    if after == before {
        return Ok(());
    }
    write(txn, &after, now).await?;
    let change = Counts::of(&after).minus(Counts::of(&before));
    add(txn, (&after.organization_id, &after.campaign_id), change, now).await
}

/// Writes a member's row as it is now.
pub(super) async fn write(
    txn: &DatabaseTransaction,
    member: &audience::Model,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let row = audience::Model { updated_at: now, ..member.clone() };
    audience::Entity::update(row.into_active_model().reset_all()).exec(txn).await?;
    Ok(())
}

/// Writes rows of one campaign as they are now, whatever they were: in two statements, however many there are of a
/// chunk. Two of them may have changed places, with what must be had by one alone.
pub(super) async fn write_all(
    txn: &DatabaseTransaction,
    members: Vec<audience::Model>,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let ids: Vec<_> = members.iter().map(|it| it.id.clone()).collect();
    for chunk in ids.chunks(CHUNK) {
        audience::Entity::delete_many()
            .filter(audience::COLUMN.id.is_in(chunk.iter().cloned()))
            .exec(txn)
            .await?;
    }
    let rows = members.into_iter().map(|it| audience::Model { updated_at: now, ..it }).collect();
    insert_all(txn, rows).await
}

/// Writes rows that are new.
pub(super) async fn insert_all(
    txn: &DatabaseTransaction,
    mut members: Vec<audience::Model>,
) -> Result<(), DbErr> {
    while !members.is_empty() {
        let rest = members.split_off(members.len().min(CHUNK));
        let rows = members.into_iter().map(IntoActiveModel::into_active_model);
        audience::Entity::insert_many::<audience::ActiveModel, _>(rows)
            .exec_without_returning(txn)
            .await?;
        members = rest;
    }
    Ok(())
}

/// Adds to the sums of a campaign. Nothing if nothing has changed.
pub(super) async fn add(
    txn: &DatabaseTransaction,
    (organization, campaign): (&OrganizationId, &CampaignId),
    change: Counts,
    now: UnixMillis,
) -> Result<(), DbErr> {
    use campaign_statistics::Column;

    if change == Counts::default() {
        return Ok(());
    }
    let row = campaign_statistics::Model {
        campaign_id: campaign.clone(),
        organization_id: organization.clone(),
        audience: 0,
        attached: 0,
        sent: 0,
        delivered: 0,
        read: 0,
        played: 0,
        failed: 0,
        updated_at: now,
        recounts: 0,
    };
    campaign_statistics::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing_on([Column::CampaignId])
        .exec(txn)
        .await?;
    let plus = |column: Column, count: i64| Expr::col(column).add(count);
    campaign_statistics::Entity::update_many()
        .col_expr(Column::Audience, plus(Column::Audience, change.audience))
        .col_expr(Column::Attached, plus(Column::Attached, change.attached))
        .col_expr(Column::Sent, plus(Column::Sent, change.sent))
        .col_expr(Column::Delivered, plus(Column::Delivered, change.delivered))
        .col_expr(Column::Read, plus(Column::Read, change.read))
        .col_expr(Column::Played, plus(Column::Played, change.played))
        .col_expr(Column::Failed, plus(Column::Failed, change.failed))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(campaign_statistics::COLUMN.campaign_id.eq(campaign.clone()))
        .exec(txn)
        .await?;
    Ok(())
}
