//! One session takes over from others of the same account.
//!
//! When a session becomes connected, every other one of its organization with its number that nobody runs
//! hands over to it, in the transaction of the `ready`, or of what else says so ([`at_ready`]). What could not then is
//! looked at again ([`Handovers::sweep`]). By hand it is asked for with [`Handovers::carry_out`]; [`Handovers::plan`] says
//! what would come of it.
//!
//! # What is moved, and what is not
//!
//! A pointer is written ([`entity::session::Model::migrated_to`]), and what is small is changed with it:
//! settings, webhook filters, campaigns (`carry.rs`). Messages stay where they are, be they a million: who reads
//! the history of the new session reads that of those which point to it
//! ([`Messages::list`](super::messages::Messages::list)). So there is nothing to interrupt, and what is sealed for a row
//! of the old session opens. What waits to be sent is moved by the new session's outbox, in bites
//! ([`Messages::adopt`](super::messages::Messages::adopt)); where that session runs elsewhere it has none, and what waits
//! has failed (`stranded.rs`).
//!
//! # Locks
//!
//! The organization's row is locked first, as by every event: so of two handovers in one organization the second sees
//! what the first has done, and of two sessions that become ready at once neither takes the other for idle. Then
//! the rows of the old sessions, *skipping* those that somebody else has locked: nothing is ever waited for, and what is
//! being changed at this moment is left alone, until it is looked at again (`sweep.rs`). A session comes to run by a change of its own
//! row ([`Sessions::begin_run`](super::sessions::Sessions::begin_run)), which a handover forbids and which is seen by it: one of
//! both wins.

mod carry;
mod judge;
mod stranded;
mod sweep;

use std::collections::{BTreeSet, HashSet};

use entity::{
    UnixMillis,
    id::{EndpointId, OrganizationId, SessionId, SessionKey},
    session,
    state::Origin,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Select,
    sea_query::{Expr, LockBehavior, LockType},
};

pub(super) use self::judge::{Verdict, judge};
pub use self::{
    carry::Given,
    judge::{Obstacle, Unfit},
    stranded::HANDED_OVER,
};
use self::{carry::carry, judge::unfit};
use super::{
    Error, Store,
    audit::By,
    leases::owned_among,
    organizations,
    sessions::{LIVE, is_there},
    webhooks::{Known, choosing},
    writer::Patience,
};
use crate::fault::moment;

/// What a handover came to, or would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub given: Vec<Given>,
    /// Sessions that were asked for, or have the number, and do not hand over.
    pub left: Vec<(SessionId, Obstacle)>,
}

/// Why nothing was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The session that is to take over is gone.
    Gone,
    /// It cannot take over.
    Unfit(Unfit),
    /// Of those that were named, these cannot hand over. The others have not either.
    Left(Vec<(SessionId, Obstacle)>),
}

/// Who shall hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// All that can.
    All,
    /// These, or none.
    These(Vec<SessionKey>),
}

/// Handovers that somebody asks for.
#[derive(Clone, Debug)]
pub struct Handovers {
    store: Store,
}

impl Handovers {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// What would come of a handover at this moment. Writes nothing.
    pub async fn plan(
        &self,
        organization: &OrganizationId,
        heir: &SessionKey,
        from: &Sources,
    ) -> Result<Result<Report, Refused>, Error> {
        let db = self.store.reader();
        let found = of_organization(organization).filter(session::COLUMN.id.eq(heir.clone()));
        let Some(heir) = found.one(db).await? else { return Ok(Err(Refused::Gone)) };
        if let Some(unfit) = unfit(&heir) {
            return Ok(Err(Refused::Unfit(unfit)));
        }
        let rows = asked_for(&heir, from).all(db).await?;
        let sorted = match sort(db, &heir, rows, from).await? {
            Ok(sorted) => sorted,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(Report { given: carry::plan(db, &heir, &sorted.sources).await?, left: sorted.left }))
    }

    /// Has sessions hand over to another one. Asked for again, it changes nothing.
    pub async fn carry_out(
        &self,
        organization: &OrganizationId,
        heir: &SessionKey,
        from: &Sources,
        by: By,
    ) -> Result<Result<Report, Refused>, Error> {
        let now = self.store.clock().now();
        let known = self.store.writer().known().clone();
        let (lane, organization) = (heir.to_string(), organization.clone());
        let (heir_key, heir, from) = (heir.clone(), heir.clone(), from.clone());
        let (done, touched) = self
            .store
            .writer()
            .run(&lane, Patience::Fail, move |txn| {
                let (organization, heir) = (organization.clone(), heir.clone());
                let (from, by, known) = (from.clone(), by.clone(), known.clone());
                Box::pin(async move {
                    by_hand(txn, &known, now, (&organization, &heir), &from, &by).await
                })
            })
            .await?;
        self.store.webhooks().touch(touched);
        if done.is_ok() {
            // They have handed over whatever comes of this, which the sweep does as well.
            if let Err(error) = self.give_up(Some(&heir_key)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "What waits to be sent of sessions that have handed over is not given up yet"
                );
            }
        }
        Ok(done)
    }
}

/// Has every idle session of the same account hand over to one that has become ready, in the transaction
/// that says so; if that is told late, every one that was idle `by` then. The organization's row is locked already.
/// Returns who is owed word of it; none when there was nothing to hand over.
pub(super) async fn at_ready(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    heir: &session::Model,
    by: Option<UnixMillis>,
) -> Result<Option<BTreeSet<EndpointId>>, DbErr> {
    if heir.account_jid.is_none() && !has_its_number(txn, heir).await? {
        return Ok(None);
    }
    if heir.migrated_to.is_some() {
        // What runs elsewhere asks nobody whether it may come back.
        session::Entity::update_many()
            .col_expr(session::Column::MigratedTo, Expr::value(None::<SessionKey>))
            .col_expr(session::Column::MigratedAt, Expr::value(None::<UnixMillis>))
            .filter(session::COLUMN.id.eq(heir.id.clone()))
            .exec(txn)
            .await?;
    }
    if heir.phone_number.is_none() {
        return Ok(None);
    }
    let idle = Condition::all()
        .add(session::COLUMN.status.is_not_in(LIVE))
        .add(session::COLUMN.migrated_to.is_null())
        .add_option(by.map(|by| session::COLUMN.status_since.lte(by)));
    let rows = unlocked(asked_for(heir, &Sources::All).filter(idle)).all(txn).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    // Whoever cannot is left alone: nobody has asked.
    let Ok(sorted) = sort(txn, heir, rows, &Sources::All).await? else { return Ok(None) };
    if sorted.sources.is_empty() {
        return Ok(None);
    }
    let (_, touched) = carry(txn, known, now, &By::default(), heir, sorted.sources).await?;
    moment!("handover.written");
    Ok(Some(touched))
}

/// Whether a session that has the number it was made with has it still: a caller may have changed it since the session was
/// read. Its row has been written by now, so that nobody can any more.
async fn has_its_number(txn: &DatabaseTransaction, heir: &session::Model) -> Result<bool, DbErr> {
    let found = of_organization(&heir.organization_id)
        .filter(session::COLUMN.id.eq(heir.id.clone()))
        .filter(session::Column::PhoneNumber.eq(heir.phone_number.clone()));
    Ok(found.one(txn).await?.is_some())
}

async fn by_hand(
    txn: &DatabaseTransaction,
    known: &Known,
    now: UnixMillis,
    (organization, heir): (&OrganizationId, &SessionKey),
    from: &Sources,
    by: &By,
) -> Result<(Result<Report, Refused>, BTreeSet<EndpointId>), DbErr> {
    let nobody = BTreeSet::new();
    organizations::lock(txn, organization).await?;
    let found = of_organization(organization).filter(session::COLUMN.id.eq(heir.clone()));
    let Some(heir) = found.one(txn).await? else { return Ok((Err(Refused::Gone), nobody)) };
    if let Some(unfit) = unfit(&heir) {
        return Ok((Err(Refused::Unfit(unfit)), nobody));
    }
    let there = asked_for(&heir, from).all(txn).await?;
    let rows = unlocked(asked_for(&heir, from)).all(txn).await?;
    let locked: HashSet<&SessionKey> = rows.iter().map(|row| &row.id).collect();
    let busy: Vec<_> = there
        .iter()
        .filter(|row| !locked.contains(&row.id))
        .map(|row| (row.session_id.clone(), Obstacle::Busy))
        .collect();
    if matches!(from, Sources::These(_)) && !busy.is_empty() {
        return Ok((Err(Refused::Left(busy)), nobody));
    }
    let mut sorted = match sort(txn, &heir, rows, from).await? {
        Ok(sorted) => sorted,
        Err(refused) => return Ok((Err(refused), nobody)),
    };
    sorted.left.extend(busy);
    let (given, touched) = carry(txn, known, now, by, &heir, sorted.sources).await?;
    Ok((Ok(Report { given, left: sorted.left }), touched))
}

/// Sessions by what becomes of them.
struct Sorted {
    /// They hand over, the most recently connected first: its settings go before those of others.
    sources: Vec<session::Model>,
    left: Vec<(SessionId, Obstacle)>,
}

async fn sort<C: ConnectionTrait>(
    db: &C,
    heir: &session::Model,
    rows: Vec<session::Model>,
    from: &Sources,
) -> Result<Result<Sorted, Refused>, DbErr> {
    let keys = rows.iter().map(|row| row.id.clone()).collect();
    let owned = owned_among(db, keys).await?;
    let mut sorted = Sorted { sources: Vec::new(), left: Vec::new() };
    for row in rows {
        match judge(&row, heir, owned.contains(&row.id)) {
            Verdict::HandsOver => sorted.sources.push(row),
            Verdict::HasHandedOver => {}
            Verdict::Not(obstacle) => sorted.left.push((row.session_id, obstacle)),
        }
    }
    if matches!(from, Sources::These(_)) && !sorted.left.is_empty() {
        return Ok(Err(Refused::Left(sorted.left)));
    }
    sorted.sources.sort_by(|a, b| {
        (b.connected_at, b.updated_at, &b.id).cmp(&(a.connected_at, a.updated_at, &a.id))
    });
    Ok(Ok(sorted))
}

fn of_organization(organization: &OrganizationId) -> Select<session::Entity> {
    session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(is_there())
}

/// Those that are named, or all others with the number of `heir`; in one order always.
fn asked_for(heir: &session::Model, from: &Sources) -> Select<session::Entity> {
    // A number at Meta's stays what it is, whatever else has the number besides.
    let rows = of_organization(&heir.organization_id)
        .filter(session::COLUMN.origin.ne(Origin::Cloud))
        .order_by_asc(session::COLUMN.id);
    match from {
        Sources::These(keys) => rows.filter(session::COLUMN.id.is_in(keys.iter().cloned())),
        Sources::All => rows
            .filter(session::Column::PhoneNumber.eq(heir.phone_number.clone()))
            .filter(session::COLUMN.id.ne(heir.id.clone())),
    }
}

/// Locks the rows that nobody else has locked, and answers those.
fn unlocked(rows: Select<session::Entity>) -> Select<session::Entity> {
    rows.lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked)
}

/// The webhook endpoints that choose any of these sessions.
async fn webhooks_of<C: ConnectionTrait>(
    db: &C,
    organization: &OrganizationId,
    sources: &[session::Model],
) -> Result<Vec<choosing::Choice>, DbErr> {
    let ids: Vec<&SessionId> = sources.iter().map(|row| &row.session_id).collect();
    choosing::choices(db, organization, &ids).await
}
