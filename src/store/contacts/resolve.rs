//! Who somebody is. Whoever is called by several things that were several people's is one person from then on.

use std::collections::BTreeSet;

use entity::{
    UnixMillis, contact, contact_identity, conversation,
    id::{ContactId, in_order},
    state::IdentityKind,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::{
    Person,
    addresses::move_messages,
    owners::{Told, hand_on},
};

/// Finds the contact that a person is, or makes one; None if nothing is known of the person. Names are learnt. A number that is
/// somebody else's by now is taken out of `person`.
pub(in crate::store) async fn resolve(
    txn: &DatabaseTransaction,
    told: Told<'_>,
    person: &mut Person,
    now: UnixMillis,
) -> Result<Option<ContactId>, DbErr> {
    let Told { organization, waba, .. } = told;
    if person.ids.is_empty() {
        return Ok(None);
    }
    let known = hand_on(txn, told, person, now).await?;
    // The oldest stays: ids are in order of time.
    let mut found: BTreeSet<ContactId> = known.iter().map(|row| row.contact_id.clone()).collect();
    let id = if let Some(id) = found.pop_first() {
        for other in found {
            merge(txn, &id, &other, now).await?;
        }
        learn(txn, &id, person, now).await?;
        id
    } else {
        let row = contact::Model {
            id: ContactId::new(now, in_order(rand::random())),
            organization_id: organization.clone(),
            name: person.name.clone(),
            username: person.username.clone(),
            created_at: now,
            updated_at: now,
        };
        let id = row.id.clone();
        contact::Entity::insert(row.into_active_model()).exec_without_returning(txn).await?;
        id
    };
    let is_new = |(kind, value): &&(_, String)| {
        !known.iter().any(|row| row.kind == *kind && row.value == *value)
    };
    let new = person.ids.iter().filter(is_new).map(|(kind, value)| {
        contact_identity::Model {
            organization_id: organization.clone(),
            kind: *kind,
            value: value.clone(),
            contact_id: id.clone(),
            created_at: now,
            waba_id: waba.filter(|_| *kind == IdentityKind::UserId).map(str::to_owned),
        }
        .into_active_model()
    });
    let new: Vec<_> = new.collect();
    if !new.is_empty() {
        contact_identity::Entity::insert_many(new).exec_without_returning(txn).await?;
    }
    Ok(Some(id))
}

/// Somebody is called otherwise from now on.
#[derive(Clone, Debug)]
pub(in crate::store) struct Renamed<'a> {
    /// What they are called by now.
    pub(in crate::store) present: &'a Person,
    /// What of that is new.
    pub(in crate::store) to: &'a Person,
    pub(in crate::store) no_longer: &'a Person,
    /// The business account that was told of it.
    pub(in crate::store) waba: Option<&'a str>,
    /// The number is another. Then so are all numbers and ids of Meta's that they had: it makes new ones with a number.
    pub(in crate::store) has_new_number: bool,
}

/// Lets what a person was called by be anybody's, as far as it is this contact's.
pub(in crate::store) async fn forget(
    txn: &DatabaseTransaction,
    contact: &ContactId,
    renamed: Renamed<'_>,
) -> Result<(), DbErr> {
    let Renamed { present, no_longer, has_new_number, .. } = renamed;
    let mut old = called(no_longer);
    if has_new_number {
        let kinds = [IdentityKind::WaId, IdentityKind::Phone, IdentityKind::UserId];
        let other = Condition::all()
            .add(contact_identity::COLUMN.kind.is_in(kinds))
            .add(called(present).not());
        old = old.add(other);
    }
    if !old.is_empty() {
        contact_identity::Entity::delete_many()
            .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
            .filter(old)
            .exec(txn)
            .await?;
    }
    tell_apart(txn, contact, renamed).await
}

/// Writes down which id of Meta's a business has for somebody from now on. Where another one goes with the new number, and is not
/// told, it is left open until somebody is heard of by it.
async fn tell_apart(
    txn: &DatabaseTransaction,
    contact: &ContactId,
    Renamed { present, to, waba, has_new_number, .. }: Renamed<'_>,
) -> Result<(), DbErr> {
    let told = if has_new_number { to } else { present };
    let ids = told.ids.iter().filter(|(kind, _)| *kind == IdentityKind::UserId);
    let ids: Vec<String> = ids.map(|(_, value)| value.clone()).collect();
    let theirs = contact_identity::Entity::update_many()
        .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
        .filter(contact_identity::COLUMN.kind.eq(IdentityKind::UserId));
    let column = contact_identity::Column::WabaId;
    if !ids.is_empty() {
        let Some(waba) = waba else { return Ok(()) };
        let those = theirs.filter(contact_identity::COLUMN.value.is_in(ids));
        those.col_expr(column, Expr::value(waba)).exec(txn).await?;
    } else if has_new_number {
        theirs.col_expr(column, Expr::value(None::<String>)).exec(txn).await?;
    }
    Ok(())
}

pub(super) fn called(person: &Person) -> Condition {
    person.ids.iter().fold(Condition::any(), |any, (kind, value)| {
        any.add(
            Condition::all()
                .add(contact_identity::COLUMN.kind.eq(*kind))
                .add(contact_identity::COLUMN.value.eq(value.as_str())),
        )
    })
}

async fn learn(
    txn: &DatabaseTransaction,
    id: &ContactId,
    person: &Person,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let Some(row) = contact::Entity::find_by_id(id.clone()).one(txn).await? else { return Ok(()) };
    let name = person.name.clone().or_else(|| row.name.clone());
    let username = person.username.clone().or_else(|| row.username.clone());
    let is_known = (&name, &username) == (&row.name, &row.username);
    if is_known && !super::is_stale(row.updated_at, now) {
        return Ok(());
    }
    let mut row = row.into_active_model();
    (row.name, row.username, row.updated_at) = (Set(name), Set(username), Set(now));
    row.update(txn).await?;
    Ok(())
}

/// Makes two people one: what the second is called by, and has said, is the first's.
async fn merge(
    txn: &DatabaseTransaction,
    one: &ContactId,
    other: &ContactId,
    now: UnixMillis,
) -> Result<(), DbErr> {
    contact_identity::Entity::update_many()
        .col_expr(contact_identity::Column::ContactId, Expr::value(one.clone()))
        .filter(contact_identity::COLUMN.contact_id.eq(other.clone()))
        .exec(txn)
        .await?;
    let theirs = conversation::Entity::find()
        .filter(conversation::COLUMN.contact_id.eq(other.clone()))
        .order_by_asc(conversation::COLUMN.id)
        .all(txn)
        .await?;
    for from in theirs {
        let into = conversation::Entity::find()
            .filter(conversation::COLUMN.contact_id.eq(one.clone()))
            .filter(conversation::COLUMN.session_key.eq(from.session_key.clone()))
            .one(txn)
            .await?;
        let Some(into) = into else {
            let mut row = from.into_active_model();
            (row.contact_id, row.updated_at) = (Set(Some(one.clone())), Set(now));
            row.update(txn).await?;
            continue;
        };
        join(txn, into, from, now).await?;
    }
    let gone = contact::Entity::find_by_id(other.clone()).one(txn).await?;
    let person = gone.map(|row| Person { ids: Vec::new(), name: row.name, username: row.username });
    contact::Entity::delete_by_id(other.clone()).exec(txn).await?;
    let Some(kept) = contact::Entity::find_by_id(one.clone()).one(txn).await? else {
        return Ok(());
    };
    let unnamed = Person {
        ids: Vec::new(),
        name: person.as_ref().and_then(|it| it.name.clone()).filter(|_| kept.name.is_none()),
        username: person.and_then(|it| it.username).filter(|_| kept.username.is_none()),
    };
    learn(txn, one, &unnamed, now).await
}

/// Makes two conversations of one session one: the messages of the second have the first's address from then on.
async fn join(
    txn: &DatabaseTransaction,
    into: conversation::Model,
    from: conversation::Model,
    now: UnixMillis,
) -> Result<(), DbErr> {
    move_messages(txn, &from.session_key, (&from.chat, &into.chat)).await?;
    let last = into.last_message_at.max(from.last_message_at);
    let inbound = into.last_inbound_at.max(from.last_inbound_at);
    conversation::Entity::delete_by_id(from.id).exec(txn).await?;
    let mut row = into.into_active_model();
    (row.last_message_at, row.last_inbound_at) = (Set(last), Set(inbound));
    row.updated_at = Set(now);
    row.update(txn).await?;
    Ok(())
}
