//! Whom a group of events waits for before anything is read for it.

use std::collections::BTreeSet;

use entity::{id::OrganizationId, organization};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Order,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockType},
};

use super::NewEvent;
use crate::event::Event;

/// Locks the organizations of a group in which something is decided by what is known of a session or its account.
///
/// What is decided must not be by what somebody else is about to change: another lane, or another daemon. A session that
/// becomes connected would be handed over to one that becomes connected at the same moment, an older event would
/// count after a newer one, one that is told twice would be news twice, and an acknowledgement and its message would
/// each look for the other before it is there. So whoever writes such a thing waits for the others' commits first, and
/// sees what they have done. All of the group's organizations are locked, in the order in which numbers are taken from
/// them: two lanes do not wait for each other.
pub(super) async fn one_at_a_time(
    txn: &DatabaseTransaction,
    events: &[&NewEvent],
) -> Result<(), DbErr> {
    // On SQLite whoever writes is alone anyway.
    if txn.get_database_backend() == DbBackend::Sqlite || !events.iter().any(|it| needs_it(it)) {
        return Ok(());
    }
    let all: BTreeSet<_> = events.iter().map(|event| &event.organization_id).collect();
    // Rows are locked one by one as they come: in our order, which is that of bytes.
    let _locked: Vec<OrganizationId> = organization::Entity::find()
        .select_only()
        .column(organization::Column::Id)
        .filter(organization::COLUMN.id.is_in(all.into_iter().cloned()))
        .order_by(Expr::cust("organization.id COLLATE \"C\""), Order::Asc)
        .lock(LockType::NoKeyUpdate)
        .into_tuple()
        .all(txn)
        .await?;
    Ok(())
}

/// Anybody may post anything to any daemon. What our own clients tell comes from the session's one owner: of that, only
/// what becomes connected may meet somebody else's handing over.
fn needs_it(event: &NewEvent) -> bool {
    event.posted.is_some() || matches!(event.event, Event::Ready(_))
}
