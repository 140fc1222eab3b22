//! Whose something is when it is carried out. Accounts come, go and are pointed at other numbers while it waits, and it may be carried
//! out again much later; so it is by the number that it names, and not by the account that had the number when it came.

use entity::{
    id::{MetaAccountId, OrganizationId},
    meta::{account, state::MetaStatus},
    session,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter,
    QueryOrder as _, QuerySelect as _, Statement,
};

use super::{
    Work,
    message::Door,
    session::{left_of, of_account},
};
use crate::store::meta::Closed;

/// Where something belongs.
pub(super) enum Place {
    /// Under this session.
    Under(Box<session::Model>),
    /// Nobody has the number, or the business account, any more or yet. The row says so.
    Nowhere,
    /// It was refused, and its account still takes nothing.
    Refused(Closed),
}

/// Finds where something belongs, and writes down whose it is if that is another's than it was.
pub(super) async fn of(door: &mut Door<'_>, work: &Work) -> Result<Place, DbErr> {
    let (txn, event) = (door.txn, &work.event);
    let owner = &event.organization_id;
    let told = match &event.account_id {
        Some(id) => of_id(txn, owner, id).await?,
        None => None,
    };
    let found = match (&work.number, told) {
        (Some(number), Some(told)) if told.phone_number_id == *number => Some(told),
        (Some(number), _) => of_number(txn, owner, number).await?,
        (None, Some(told)) => Some(told),
        (None, None) => of_waba(txn, owner, work.waba.as_deref()).await?,
    };
    let Some(account) = found else {
        // Its messages are where those before it are, though its account has another number by now, or is gone.
        if let Some(number) = work.number.as_ref().filter(|_| !event.is_unrouted)
            && let Some(session) = left_of(door, owner, number).await?
        {
            return Ok(Place::Under(Box::new(session)));
        }
        route(txn, work, None, true).await?;
        return Ok(Place::Nowhere);
    };
    if let Some(why) = Closed::again(event, &account) {
        return Ok(Place::Refused(why));
    }
    let is_its_own = work.number.is_some() || event.account_id.as_ref() == Some(&account.id);
    // Of a business account's several it is about none in particular.
    route(txn, work, Some(&account.id).filter(|_| is_its_own), false).await?;
    let session = of_account(door, &account, work.own.as_deref()).await?;
    Ok(Place::Under(Box::new(session)))
}

async fn of_id(
    txn: &DatabaseTransaction,
    owner: &OrganizationId,
    id: &MetaAccountId,
) -> Result<Option<account::Model>, DbErr> {
    account::Entity::find_by_id(id.clone())
        .filter(account::COLUMN.organization_id.eq(owner.clone()))
        .one(txn)
        .await
}

async fn of_number(
    txn: &DatabaseTransaction,
    owner: &OrganizationId,
    number: &str,
) -> Result<Option<account::Model>, DbErr> {
    account::Entity::find()
        .filter(account::COLUMN.organization_id.eq(owner.clone()))
        .filter(account::COLUMN.phone_number_id.eq(number))
        .one(txn)
        .await
}

/// The oldest account of a business account that is not switched off, or the oldest.
async fn of_waba(
    txn: &DatabaseTransaction,
    owner: &OrganizationId,
    waba: Option<&str>,
) -> Result<Option<account::Model>, DbErr> {
    let Some(waba) = waba else { return Ok(None) };
    let all = || {
        account::Entity::find()
            .filter(account::COLUMN.organization_id.eq(owner.clone()))
            .filter(account::COLUMN.waba_id.eq(waba))
            .order_by_asc(account::COLUMN.created_at)
            .order_by_asc(account::COLUMN.id)
            .limit(1)
    };
    let open = all().filter(account::COLUMN.status.ne(MetaStatus::Disabled)).one(txn).await?;
    if open.is_some() { Ok(open) } else { all().one(txn).await }
}

/// Writes down whose something is, if its row says otherwise.
async fn route(
    txn: &DatabaseTransaction,
    work: &Work,
    account: Option<&MetaAccountId>,
    is_unrouted: bool,
) -> Result<(), DbErr> {
    let event = &work.event;
    if (event.account_id.as_ref(), event.is_unrouted) == (account, is_unrouted) {
        return Ok(());
    }
    let write = "UPDATE meta_event SET is_unrouted = $1, account_id = $2 WHERE id = $3";
    let account = account.map(MetaAccountId::as_str);
    let values = [is_unrouted.into(), account.into(), event.id.as_str().into()];
    let write = Statement::from_sql_and_values(txn.get_database_backend(), write, values);
    txn.execute_raw(write).await?;
    Ok(())
}
