//! Handovers that could not be at `ready` are looked at again.
//!
//! A session may be idle and have its number beside a connected one because its row was being changed when the other
//! became ready. [`Handovers::sweep`] has such sessions hand over, each connected one in a transaction of its own, by the
//! rules of `ready`. It is asked for now and then (`maintenance/`), by every daemon; what is done is not done again.
//!
//! What has ended since is left alone: no `ready` took over from it, and somebody may mean to start or to scan it again,
//! which what has handed over cannot be. So is what was never connected, as somebody may be about to pair it. Both hand
//! over at the next `ready`, or by hand.

use std::collections::BTreeSet;

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId, SessionKey},
    session,
    state::SessionStatus,
};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Alias, BinOper, Expr, Query, SimpleExpr},
};

use super::{Handovers, Sources, asked_for, carry::carry, of_organization, sort, unlocked};
use crate::store::{
    Error, audit::By, organizations, sessions::LIVE, webhooks::Known, writer::Patience,
};

/// What an idle session is called in a statement, beside the one that it would hand over to.
const IDLE: &str = "idle";

/// Sessions that take over in one sweep at most.
const MOST: u64 = 200;

impl Handovers {
    /// Has sessions hand over that are idle beside a connected one of their account. Says how many did. What nobody can
    /// send any more has failed then.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let mut swept = 0;
        for (organization, heir) in self.waited_for().await? {
            swept += self.look_again(&organization, &heir).await?;
        }
        self.give_up(None).await?;
        Ok(swept)
    }

    /// Connected sessions beside which there are idle ones, the one that was connected last first.
    async fn waited_for(&self) -> Result<Vec<(OrganizationId, SessionKey)>, Error> {
        let heirs = session::Entity::find()
            .select_only()
            .column(session::Column::OrganizationId)
            .column(session::Column::Id)
            .filter(session::COLUMN.status.eq(SessionStatus::SessionConnected))
            .filter(session::COLUMN.phone_number.is_not_null())
            .filter(is_known_by_number())
            .filter(is_waited_for())
            .order_by_desc(session::COLUMN.connected_at)
            .order_by_asc(session::COLUMN.id)
            .limit(MOST)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        Ok(heirs)
    }

    async fn look_again(
        &self,
        organization: &OrganizationId,
        heir: &SessionKey,
    ) -> Result<u64, Error> {
        let now = self.store.clock().now();
        let known = self.store.writer().known().clone();
        let (lane, organization, heir) = (heir.to_string(), organization.clone(), heir.clone());
        let (swept, touched) = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, heir) = (organization.clone(), heir.clone());
                let known = known.clone();
                Box::pin(async move { swept(txn, &known, now, &organization, &heir).await })
            })
            .await?;
        self.store.webhooks().touch(touched);
        Ok(swept)
    }
}

async fn swept(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    organization: &OrganizationId,
    heir: &SessionKey,
) -> Result<(u64, BTreeSet<EndpointId>), DbErr> {
    let nothing = (0, BTreeSet::new());
    organizations::lock(txn, organization).await?;
    let found = of_organization(organization)
        .filter(session::COLUMN.id.eq(heir.clone()))
        .filter(session::COLUMN.status.eq(SessionStatus::SessionConnected))
        .filter(session::COLUMN.phone_number.is_not_null());
    let found = found.filter(is_known_by_number());
    let Some(heir) = found.one(txn).await? else { return Ok(nothing) };
    let rows = unlocked(asked_for(&heir, &Sources::All).filter(is_waiting_for(&heir)));
    let rows = rows.all(txn).await?;
    let Ok(sorted) = sort(txn, &heir, rows, &Sources::All).await? else { return Ok(nothing) };
    let (given, touched) = carry(txn, known, now, &By::default(), &heir, sorted.sources).await?;
    Ok((given.len() as u64, touched))
}

/// Whether a session's number is that of the account that it is connected as, or the one that it was made with, and not
/// merely what somebody has said.
fn is_known_by_number() -> SimpleExpr {
    let own = |column| Expr::col((session::Entity, column));
    let number = || own(session::Column::PhoneNumber);
    let address = number().binary(BinOper::Custom("||"), Expr::val("@s.whatsapp.net"));
    let is_given = own(session::Column::GivenPhoneNumber).eq(number());
    own(session::Column::AccountJid).eq(address).or(is_given)
}

/// A column of a session.
type Of<'a> = &'a dyn Fn(session::Column) -> SimpleExpr;

/// Whether a session is idle, and was when the other one became connected.
fn waits(idle: Of<'_>, connected_at: SimpleExpr) -> Condition {
    Condition::all()
        .add(idle(session::Column::MigratedTo).is_null())
        .add(idle(session::Column::Status).is_not_in(LIVE))
        .add(idle(session::Column::ConnectedAt).is_not_null())
        .add(idle(session::Column::StatusSince).lte(connected_at))
}

fn is_waiting_for(heir: &session::Model) -> Condition {
    let own = |column| Expr::col((session::Entity, column));
    waits(&own, Expr::value(heir.connected_at))
}

fn is_waited_for() -> SimpleExpr {
    let heir = |column| Expr::col((session::Entity, column));
    let idle = |column: session::Column| Expr::col((Alias::new(IDLE), column));
    let is_same = |column| idle(column).eq(heir(column));
    // Of another account it never is: that must not stand before others at each sweep.
    let lid = session::Column::AccountLid;
    let may_be_same =
        Condition::any().add(idle(lid).is_null()).add(heir(lid).is_null()).add(is_same(lid));
    let mut waiting = Query::select();
    waiting
        .expr(Expr::val(1_i64))
        .from_as(session::Entity, Alias::new(IDLE))
        .and_where(is_same(session::Column::OrganizationId))
        .and_where(is_same(session::Column::PhoneNumber))
        .and_where(idle(session::Column::Id).ne(heir(session::Column::Id)))
        .cond_where(may_be_same)
        .cond_where(waits(&idle, heir(session::Column::ConnectedAt)));
    Expr::exists(waiting)
}
