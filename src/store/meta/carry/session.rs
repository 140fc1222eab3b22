//! The session that a number's messages are kept under, so that whatever reads sessions' messages, events and webhooks
//! reads a number's as well. It has no socket, and is no session that an organization counts.

use entity::{
    id::{OrganizationId, SessionId},
    meta::account,
    session,
    state::Origin,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, sea_query::Expr,
};

use super::message::Door;
use crate::store::{
    audit::By,
    sessions::{Created, cloud_row, insert, is_there},
};

/// What is said of a session without a socket.
const MESSAGE: &str = "A phone number at Meta's Cloud API: it has no connection of its own";

pub(in crate::store::meta) async fn of_account(
    door: &mut Door<'_>,
    account: &account::Model,
    own: Option<&str>,
) -> Result<session::Model, DbErr> {
    if let Some(key) = &account.session_key
        && let Some(row) =
            session::Entity::find_by_id(key.clone()).filter(is_there()).one(door.txn).await?
    {
        return know(door, row, own).await;
    }
    let number = &account.phone_number_id;
    if let Some(row) = left(door, account).await? {
        belong(door, account, &row).await?;
        return know(door, row, own).await;
    }
    let mut row = cloud_row(&account.organization_id, name(number, ""), MESSAGE, door.now);
    if let Some(own) = own {
        row.phone_number = Some(own.to_owned());
        row.account_jid = Some(format!("{own}@s.whatsapp.net"));
    }
    // The name may be taken; the key never is.
    for other in [String::new(), row.id.to_string()] {
        row.session_id = name(number, &other);
        let (created, touched) = insert(door.txn, door.known, &row, &By::default()).await?;
        if matches!(created, Created::New(_)) {
            door.touched.extend(touched);
            break;
        }
    }
    belong(door, account, &row).await?;
    Ok(row)
}

/// The session of the same number that another account of the organization has left behind.
async fn left(door: &Door<'_>, account: &account::Model) -> Result<Option<session::Model>, DbErr> {
    left_of(door, &account.organization_id, &account.phone_number_id).await
}

/// The session of a number that no account of the organization has any more.
pub(super) async fn left_of(
    door: &Door<'_>,
    organization: &OrganizationId,
    number: &str,
) -> Result<Option<session::Model>, DbErr> {
    let found = session::Entity::find()
        .filter(session::COLUMN.organization_id.eq(organization.clone()))
        .filter(session::COLUMN.session_id.eq(name(number, "")))
        .filter(session::COLUMN.origin.eq(Origin::Cloud))
        .one(door.txn)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let whose = account::Entity::find()
        .filter(account::COLUMN.organization_id.eq(organization.clone()))
        .filter(account::COLUMN.session_key.eq(row.id.clone()))
        .one(door.txn)
        .await?;
    Ok(whose.is_none().then_some(row))
}

/// Writes down whose session it is.
async fn belong(
    door: &Door<'_>,
    account: &account::Model,
    row: &session::Model,
) -> Result<(), DbErr> {
    // With another version, so that whoever is changing the account looks again.
    account::Entity::update_many()
        .col_expr(account::Column::SessionKey, Expr::value(row.id.clone()))
        .col_expr(account::Column::Version, Expr::col(account::Column::Version).add(1))
        .filter(account::COLUMN.id.eq(account.id.clone()))
        .exec(door.txn)
        .await?;
    Ok(())
}

/// Learns the number itself, if it was not known.
async fn know(
    door: &Door<'_>,
    row: session::Model,
    own: Option<&str>,
) -> Result<session::Model, DbErr> {
    let Some(own) = own.filter(|_| row.account_jid.is_none()) else { return Ok(row) };
    let mut row = row.into_active_model();
    row.phone_number = Set(Some(own.to_owned()));
    row.account_jid = Set(Some(format!("{own}@s.whatsapp.net")));
    row.updated_at = Set(door.now);
    row.update(door.txn).await
}

/// The account's number in digits, as far as its owner has said it.
pub(in crate::store::meta) fn own(account: &account::Model) -> Option<String> {
    let shown = account.display_phone_number.as_ref()?;
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    (5..=20).contains(&digits.len()).then_some(digits)
}

/// `meta_106540352242922`, with the end of a key behind it if there must be.
pub(in crate::store::meta) fn name(number: &str, key: &str) -> SessionId {
    let number: String = number.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let tail = key.get(key.len().saturating_sub(8)..).unwrap_or_default();
    let name =
        if tail.is_empty() { format!("meta_{number}") } else { format!("meta_{number}_{tail}") };
    name.parse().expect("letters, digits and `_`, of which the first is a letter, are an id")
}
