//! What was told of accounts that take nothing, with something that another takes: kept as refused, until its owner asks for it or
//! it is told again.

use entity::{
    id::{MetaEventId, OrganizationId},
    meta::{
        account, event,
        state::{MetaEventState, MetaStatus},
    },
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Alias, Expr, OnConflict},
};

/// Why an account takes no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Disabled,
    /// Its app is not verified, and the operator wants that.
    Unverified,
}

const ALL: [Closed; 2] = [Closed::Disabled, Closed::Unverified];

impl Closed {
    /// As it stands in the row of what was refused.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disabled => "account_disabled",
            Self::Unverified => "account_unverified",
        }
    }

    /// Whether something that was refused is refused again, with the account as it is now.
    pub(super) fn again(row: &event::Model, account: &account::Model) -> Option<Self> {
        let word = row.error.as_deref()?;
        let before = ALL.into_iter().find(|it| it.word() == word)?;
        match (account.status, before) {
            (MetaStatus::Disabled, _) => Some(Self::Disabled),
            (MetaStatus::Unverified, Self::Unverified) => Some(Self::Unverified),
            (MetaStatus::Unverified | MetaStatus::Verified, _) => None,
        }
    }
}

/// What is known already stays as it is; but what was refused, and is taken now, waits to be carried out.
pub(super) fn on_conflict() -> OnConflict {
    let there = |column| Expr::col((event::Entity, column));
    let new = Expr::col((Alias::new("excluded"), event::Column::State));
    OnConflict::columns([event::Column::OrganizationId, event::Column::DedupKey])
        .value(event::Column::State, Expr::value(MetaEventState::Waiting))
        .value(event::Column::Error, Expr::value(None::<String>))
        .action_and_where(there(event::Column::State).eq(MetaEventState::Failed))
        .action_and_where(there(event::Column::Error).is_in(ALL.map(Closed::word)))
        .action_and_where(new.eq(MetaEventState::Waiting))
        .to_owned()
}

/// Has what was refused of a body wait to be carried out, as far as it is taken now.
pub(super) async fn take(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    keys: Vec<String>,
) -> Result<(), DbErr> {
    if keys.is_empty() {
        return Ok(());
    }
    event::Entity::update_many()
        .col_expr(event::Column::State, Expr::value(MetaEventState::Waiting))
        .col_expr(event::Column::Error, Expr::value(None::<String>))
        .filter(event::COLUMN.organization_id.eq(organization.clone()))
        .filter(event::Column::DedupKey.is_in(keys))
        .filter(event::COLUMN.state.eq(MetaEventState::Failed))
        .filter(event::Column::Error.is_in(ALL.map(Closed::word)))
        .exec(txn)
        .await?;
    Ok(())
}

/// Writes down that something is refused again.
pub(super) async fn refuse(
    txn: &DatabaseTransaction,
    id: &MetaEventId,
    why: Closed,
) -> Result<(), DbErr> {
    event::Entity::update_many()
        .col_expr(event::Column::State, Expr::value(MetaEventState::Failed))
        .col_expr(event::Column::Processed, Expr::value(false))
        .col_expr(event::Column::ProcessedAt, Expr::value(None::<entity::UnixMillis>))
        .col_expr(event::Column::Error, Expr::value(why.word()))
        .col_expr(event::Column::Claim, Expr::value(None::<i64>))
        .col_expr(event::Column::ClaimedBy, Expr::value(None::<String>))
        .col_expr(event::Column::LeaseUntil, Expr::value(0_i64))
        .filter(event::COLUMN.id.eq(id.clone()))
        .exec(txn)
        .await?;
    Ok(())
}
