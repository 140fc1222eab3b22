//! What sessions claim of a socket that went with its owner, and taking that back.

use entity::{
    UnixMillis,
    id::SessionKey,
    session,
    state::{DesiredState, Origin, SessionStatus},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait,
    QueryFilter, sea_query::Expr,
};

/// The statuses that claim a live socket, or one on its way.
pub(in crate::store) const LIVE: [SessionStatus; 4] = [
    SessionStatus::Connecting,
    SessionStatus::QrGenerated,
    SessionStatus::Loading,
    SessionStatus::SessionConnected,
];

/// Takes back what the rows of these sessions claim of a socket: their owners are gone.
pub(in crate::store) async fn take_back(
    txn: &DatabaseTransaction,
    keys: Vec<SessionKey>,
    now: UnixMillis,
) -> Result<(), DbErr> {
    reset(txn, keys.clone(), DesiredState::Running, SessionStatus::Connecting, now).await?;
    reset(txn, keys, DesiredState::Stopped, SessionStatus::SessionNotConnected, now).await
}

/// The same while an owner is there that may still say otherwise: it is not heard any more.
pub(in crate::store) async fn disclaim(
    txn: &DatabaseTransaction,
    keys: Vec<SessionKey>,
    now: UnixMillis,
) -> Result<(), DbErr> {
    session::Entity::update_many()
        .col_expr(session::Column::Generation, Expr::col(session::Column::Generation).add(1_i64))
        .filter(session::COLUMN.id.is_in(keys.clone()))
        .exec(txn)
        .await?;
    take_back(txn, keys, now).await
}

/// Puts every live embedded session among `keys` of which `desired` is wanted into `status`.
async fn reset(
    txn: &DatabaseTransaction,
    keys: Vec<SessionKey>,
    desired: DesiredState,
    status: SessionStatus,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let claims = Condition::all()
        .add(session::COLUMN.id.is_in(keys))
        .add(session::COLUMN.origin.eq(Origin::Embedded))
        .add(session::COLUMN.desired_state.eq(desired))
        .add(session::COLUMN.status.is_in(LIVE));
    // What waits for its next try goes on waiting, and says why.
    let claims = match desired {
        DesiredState::Running => claims.add(session::COLUMN.next_attempt_at.is_null()),
        DesiredState::Stopped => claims,
    };
    // Not for those already there: since when they are so is still true.
    session::Entity::update_many()
        .col_expr(session::Column::StatusSince, Expr::value(now))
        .col_expr(session::Column::UpdatedAt, Expr::value(now))
        .filter(claims.clone())
        .filter(session::COLUMN.status.ne(status))
        .exec(txn)
        .await?;
    session::Entity::update_many()
        .set(session::ActiveModel {
            status: Set(status),
            message: Set(None),
            reconnecting: Set(false),
            next_attempt_at: Set(None),
            loading_percent: Set(None),
            qr: Set(None),
            qr_issued_at: Set(None),
            qr_expires_at: Set(None),
            ..Default::default()
        })
        .filter(claims)
        .exec(txn)
        .await?;
    Ok(())
}
