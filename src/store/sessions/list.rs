//! Lists of sessions and counts by group.

use entity::{
    UnixMillis,
    id::{OrganizationId, SessionKey},
    session,
    state::{Origin, SessionStatus},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use super::{Error, LIVE, Sessions, is_there};
use crate::{event::Group, store::page::Page};

/// Which sessions to list, by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    /// The stored word.
    Word(SessionStatus),
    Group(Group),
}

/// Whether sessions that have handed over to another one are wanted. One of them that is at work again, as what runs
/// elsewhere may be, is among the others as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrated {
    #[default]
    Without,
    With,
    Only,
}

impl Migrated {
    pub(super) fn condition(self) -> Condition {
        // A number at Meta's is no session that anybody runs: it is among the accounts.
        let all = Condition::all().add(session::COLUMN.origin.ne(Origin::Cloud)).add(is_there());
        match self {
            // What runs elsewhere may be at work again, be its history another one's: that is seen.
            Self::Without => all.add(
                Condition::any()
                    .add(session::COLUMN.migrated_to.is_null())
                    .add(session::COLUMN.status.is_in(LIVE)),
            ),
            Self::With => all,
            Self::Only => all.add(session::COLUMN.migrated_to.is_not_null()),
        }
    }
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub user_id: Option<String>,
    pub status: Option<StatusFilter>,
    pub migrated: Migrated,
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

/// How many sessions have one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusCount {
    pub status: SessionStatus,
    pub sessions: u64,
    /// Those of them that show a QR code which has not expired.
    pub scannable: u64,
    /// Those of them that are coming back after their connection was lost.
    pub reconnecting: u64,
}

impl StatusCount {
    /// The groups that these sessions are in, and how many of them.
    pub fn groups(&self) -> [(Group, u64); 2] {
        let others = self.sessions.saturating_sub(self.scannable);
        [(Group::of(self.status, true), self.scannable), (Group::of(self.status, false), others)]
    }
}

impl Summary {
    fn add(&mut self, group: Group, sessions: u64) {
        *match group {
            Group::Connected => &mut self.connected,
            Group::Disconnected => &mut self.disconnected,
            Group::Loading => &mut self.loading,
            Group::NeedsQr => &mut self.needs_qr,
            Group::Error => &mut self.error,
        } += sessions;
    }

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
            .filter(of_user(filter.user_id.as_deref()))
            .filter(filter.migrated.condition());
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

    /// Counts sessions by group, whatever status is asked for.
    pub async fn summary(
        &self,
        organization: &OrganizationId,
        filter: &Filter,
    ) -> Result<Summary, Error> {
        let of_caller = Condition::all()
            .add(session::COLUMN.organization_id.eq(organization.clone()))
            .add(of_user(filter.user_id.as_deref()))
            .add(filter.migrated.condition());
        let mut summary = Summary::default();
        for count in self.count(of_caller).await? {
            for (group, sessions) in count.groups() {
                summary.add(group, sessions);
            }
        }
        Ok(summary)
    }

    /// Counts the sessions of all organizations by status. A status that none has is left out, and so are
    /// sessions that have handed over.
    pub async fn count_all(&self) -> Result<Vec<StatusCount>, Error> {
        self.count(Migrated::Without.condition()).await
    }

    async fn count(&self, which: Condition) -> Result<Vec<StatusCount>, Error> {
        let now = self.store.clock().now();
        let scannable = Expr::case(scannable(now), 1);
        let reconnecting = Expr::case(session::COLUMN.reconnecting.eq(true), 1);
        let counts: Vec<(SessionStatus, i64, i64, i64)> = session::Entity::find()
            .select_only()
            .column(session::Column::Status)
            .column_as(session::COLUMN.id.count(), "sessions")
            .column_as(Expr::expr(scannable).count(), "scannable")
            .column_as(Expr::expr(reconnecting).count(), "reconnecting")
            .filter(which)
            .group_by(session::COLUMN.status)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let counts =
            counts.into_iter().map(|(status, sessions, scannable, reconnecting)| StatusCount {
                status,
                sessions: number(sessions),
                scannable: number(scannable),
                reconnecting: number(reconnecting),
            });
        Ok(counts.collect())
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
