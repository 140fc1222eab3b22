//! Where somebody can be answered, and conversations that are called by where that is.
//!
//! A number that somebody has given up is given to somebody else. Whatever was called by it is called by what its person
//! has now, so that nobody answers a stranger.

use entity::{
    UnixMillis, contact_identity, conversation,
    id::{ContactId, OrganizationId, SessionKey},
    message,
    meta::outbox,
    state::IdentityKind,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr,
    EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::{Contacts, Person};
use crate::store::Error;

impl Contacts {
    /// Where a contact can be answered at present; None if there is no such contact, or nothing that they are called by.
    pub async fn address(
        &self,
        organization: &OrganizationId,
        contact: &ContactId,
    ) -> Result<Option<String>, Error> {
        let person = known(self.store.reader(), organization, contact).await?;
        Ok(Some(address_of(&person)).filter(|address| !address.is_empty()))
    }
}

/// The address of a person, as messages keep it.
pub(in crate::store) fn address_of(person: &Person) -> String {
    let of = |wanted: IdentityKind| {
        person.ids.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    if let Some(number) = of(IdentityKind::WaId).or_else(|| of(IdentityKind::Phone)) {
        return format!("{number}@s.whatsapp.net");
    }
    if let Some(lid) = of(IdentityKind::Lid) {
        return format!("{lid}@lid");
    }
    let id = of(IdentityKind::UserId).or_else(|| of(IdentityKind::ParentUserId));
    id.map(|id| format!("{id}@bsuid")).unwrap_or_default()
}

/// Where somebody can be answered at present: also where Meta hides his number now, and has told it before.
pub(in crate::store) async fn present_address(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    contact: Option<&ContactId>,
    person: &Person,
) -> Result<String, DbErr> {
    let has_number = person.ids.iter().any(|(kind, _)| is_number(*kind));
    let Some(contact) = contact.filter(|_| !has_number) else { return Ok(address_of(person)) };
    Ok(address_of(&known(txn, organization, contact).await?))
}

pub(super) const fn is_number(kind: IdentityKind) -> bool {
    matches!(kind, IdentityKind::WaId | IdentityKind::Phone)
}

/// All that somebody is called by, what was learnt last first.
async fn known(
    db: &impl ConnectionTrait,
    organization: &OrganizationId,
    contact: &ContactId,
) -> Result<Person, DbErr> {
    let rows = contact_identity::Entity::find()
        .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
        .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
        .order_by_desc(contact_identity::COLUMN.created_at)
        .order_by_asc(contact_identity::COLUMN.value)
        .all(db)
        .await?;
    let ids = rows.into_iter().map(|row| (row.kind, row.value)).collect();
    Ok(Person { ids, ..Person::default() })
}

/// Has the conversations with somebody be called by what they are called by: those that are called by something else.
pub(in crate::store) async fn readdress(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    contact: &ContactId,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let person = known(txn, organization, contact).await?;
    let theirs = person.ids.iter().map(|id| {
        let ids = vec![id.clone()];
        address_of(&Person { ids, ..Person::default() })
    });
    let theirs: Vec<String> = theirs.collect();
    let present = address_of(&person);
    let rows = conversation::Entity::find()
        .filter(conversation::COLUMN.contact_id.eq(contact.clone()))
        .all(txn)
        .await?;
    for row in rows.into_iter().filter(|row| !theirs.contains(&row.chat)) {
        let is_free = !present.is_empty()
            && conversation_at(txn, &row.session_key, &present).await?.is_none();
        let chat = if is_free { present.clone() } else { own_address(contact) };
        if chat == row.chat {
            continue;
        }
        move_messages(txn, &row.session_key, (&row.chat, &chat)).await?;
        let mut row = row.into_active_model();
        (row.chat, row.updated_at) = (Set(chat), Set(now));
        row.update(txn).await?;
    }
    Ok(())
}

/// What a conversation is called by with somebody of whom nothing else is free.
pub(super) fn own_address(contact: &ContactId) -> String {
    format!("{contact}@contact")
}

/// The conversation that is called so.
pub(super) async fn conversation_at(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    chat: &str,
) -> Result<Option<conversation::Model>, DbErr> {
    conversation::Entity::find()
        .filter(conversation::COLUMN.session_key.eq(session.clone()))
        .filter(conversation::COLUMN.chat.eq(chat))
        .one(txn)
        .await
}

/// Has the messages of a conversation be another's, with those of them that are still to be sent.
pub(super) async fn move_messages(
    txn: &DatabaseTransaction,
    session: &SessionKey,
    (from, to): (&str, &str),
) -> Result<(), DbErr> {
    message::Entity::update_many()
        .col_expr(message::Column::Chat, Expr::value(to))
        .filter(message::COLUMN.session_key.eq(session.clone()))
        .filter(message::COLUMN.chat.eq(from))
        .exec(txn)
        .await?;
    outbox::Entity::update_many()
        .col_expr(outbox::Column::Chat, Expr::value(to))
        .filter(outbox::COLUMN.session_key.eq(session.clone()))
        .filter(outbox::COLUMN.chat.eq(from))
        .exec(txn)
        .await?;
    Ok(())
}
