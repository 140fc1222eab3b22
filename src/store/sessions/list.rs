//! Lists of sessions and counts by group.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    session,
    state::SessionStatus,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{Error, Sessions};
use crate::store::page::Page;

/// The five groups that lists count by. Every session is in exactly one at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Connected,
    /// Also sessions whose last QR code has expired: there is nothing to scan.
    Disconnected,
    Loading,
    NeedsQr,
    Error,
}

/// Which sessions to list, by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// The stored word.
    Word(SessionStatus),
    Group(Group),
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub user_id: Option<String>,
    pub status: Option<StatusFilter>,
}

/// How many sessions are in each group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub connected: u64,
    pub disconnected: u64,
    pub loading: u64,
    pub needs_qr: u64,
    pub error: u64,
}

impl Summary {
    /// All sessions.
    pub const fn total(&self) -> u64 {
        self.connected + self.disconnected + self.loading + self.needs_qr + self.error
    }
}

impl Sessions {
    /// Lists sessions, the oldest first.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        filter: &Filter,
        page: &Page<SessionKey>,
    ) -> Result<Vec<session::Model>, Error> {
        let now = self.store.clock().now();
        let mut query = session::Entity::find()
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(of_user(filter.user_id.as_deref()));
        if let Some(status) = filter.status {
            query = query.filter(has_status(status, now));
        }
        if let Some(after) = &page.after {
            let later = session::COLUMN.created_at.gt(after.at);
            let same_time = session::COLUMN.created_at.eq(after.at);
            let higher_id = session::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        let rows = query
            .order_by_asc(session::COLUMN.created_at)
            .order_by_asc(session::COLUMN.id)
            .limit(page.limit)
            .all(self.store.reader())
            .await?;
        self.store.open_sessions(rows).await
    }

    /// Counts sessions by group.
    pub async fn summary(
        &self,
        organization: &OrganizationId,
        user_id: Option<&str>,
    ) -> Result<Summary, Error> {
        let now = self.store.clock().now();
        let scannable = Expr::case(scannable(now), 1);
        let counts: Vec<(SessionStatus, i64, i64)> = session::Entity::find()
            .select_only()
            .column(session::Column::Status)
            .column_as(session::COLUMN.id.count(), "sessions")
            .column_as(Expr::expr(scannable).count(), "scannable")
            .filter(session::COLUMN.organization_id.eq(organization.clone()))
            .filter(of_user(user_id))
            .group_by(session::COLUMN.status)
            .into_tuple()
            .all(self.store.reader())
            .await?;

        let mut summary = Summary::default();
        for (status, sessions, scannable) in counts {
            let sessions = u64::try_from(sessions).unwrap_or(0);
            let scannable = u64::try_from(scannable).unwrap_or(0);
            match status {
                SessionStatus::SessionConnected => summary.connected += sessions,
                SessionStatus::SessionNotConnected => summary.disconnected += sessions,
                SessionStatus::Connecting | SessionStatus::Loading => summary.loading += sessions,
                SessionStatus::QrGenerated => {
                    summary.needs_qr += scannable;
                    summary.disconnected += sessions.saturating_sub(scannable);
                }
                SessionStatus::AuthFailure | SessionStatus::Error => summary.error += sessions,
            }
        }
        Ok(summary)
    }
}

/// Sessions of this user, or of all users.
fn of_user(user_id: Option<&str>) -> Condition {
    Condition::all().add_option(user_id.map(|user_id| session::COLUMN.user_id.eq(user_id)))
}

/// Sessions that show a QR code at `now`. The same rule as `session::view`, in SQL.
fn scannable(now: UnixMillis) -> Condition {
    Condition::all()
        .add(session::COLUMN.status.eq(SessionStatus::QrGenerated))
        .add(session::COLUMN.qr.is_not_null())
        .add(session::COLUMN.qr_expires_at.gt(now))
}

fn has_status(filter: StatusFilter, now: UnixMillis) -> Condition {
    let word = |word: SessionStatus| Condition::all().add(session::COLUMN.status.eq(word));
    match filter {
        StatusFilter::Word(status) => word(status),
        StatusFilter::Group(Group::Connected) => word(SessionStatus::SessionConnected),
        StatusFilter::Group(Group::NeedsQr) => scannable(now),
        StatusFilter::Group(Group::Disconnected) => Condition::any()
            .add(word(SessionStatus::SessionNotConnected))
            .add(word(SessionStatus::QrGenerated).add(unscannable(now))),
        StatusFilter::Group(Group::Loading) => {
            Condition::any().add(word(SessionStatus::Loading)).add(word(SessionStatus::Connecting))
        }
        StatusFilter::Group(Group::Error) => {
            Condition::any().add(word(SessionStatus::AuthFailure)).add(word(SessionStatus::Error))
        }
    }
}

/// The code is missing or has expired; spelt out, because `NOT` of a comparison with a missing
/// time is neither true nor false.
fn unscannable(now: UnixMillis) -> Condition {
    Condition::any()
        .add(session::COLUMN.qr.is_null())
        .add(session::COLUMN.qr_expires_at.is_null())
        .add(session::COLUMN.qr_expires_at.lte(now))
}
