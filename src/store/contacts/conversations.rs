//! The one conversation of a session with a person, or with a group.

use entity::{
    UnixMillis, contact_identity, conversation,
    id::{ContactId, ConversationId, OrganizationId, SessionKey, in_order},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter,
};

use super::{
    Person,
    addresses::{address_of, conversation_at, is_number, own_address, present_address, readdress},
    resolve::called,
};

/// A message of a conversation.
#[derive(Clone, Debug)]
pub(in crate::store) struct Heard<'a> {
    pub(in crate::store) organization: &'a OrganizationId,
    pub(in crate::store) session: &'a SessionKey,
    /// The group's id, of a conversation with one.
    pub(in crate::store) group: Option<&'a str>,
    /// Who the other side is, of any other.
    pub(in crate::store) contact: Option<&'a ContactId>,
    pub(in crate::store) person: &'a Person,
    /// When it was written.
    pub(in crate::store) at: UnixMillis,
    pub(in crate::store) is_inbound: bool,
}

/// Writes down that a conversation had a message, and answers the address that its messages have.
pub(in crate::store) async fn heard(
    txn: &DatabaseTransaction,
    heard: Heard<'_>,
    now: UnixMillis,
) -> Result<String, DbErr> {
    let Heard { organization, session, group, contact, person, at, is_inbound } = heard;
    let address = group.map_or_else(|| address_of(person), |id| format!("{id}@g.us"));
    let mut rows =
        conversation::Entity::find().filter(conversation::COLUMN.session_key.eq(session.clone()));
    rows = match contact.filter(|_| group.is_none()) {
        Some(contact) => rows.filter(conversation::COLUMN.contact_id.eq(contact.clone())),
        None => rows.filter(conversation::COLUMN.chat.eq(address.as_str())),
    };
    let inbound = is_inbound.then_some(at);
    let mut found = rows.one(txn).await?;
    if let (Some(row), Some(contact)) = (&found, contact.filter(|_| group.is_none()))
        && row.chat != address
        // Who hides a number is called by it all the same.
        && row.chat != present_address(txn, organization, Some(contact), person).await?
    {
        readdress(txn, organization, contact, now).await?;
        found = conversation::Entity::find_by_id(row.id.clone()).one(txn).await?;
    }
    if let Some(row) = found {
        let chat = row.chat.clone();
        let (last, last_in) = (row.last_message_at.max(at), row.last_inbound_at.max(inbound));
        // A message of the past does not make it young; that it is there does.
        let is_forgotten = super::is_stale(row.updated_at, now);
        if (last, last_in) != (row.last_message_at, row.last_inbound_at) || is_forgotten {
            let mut row = row.into_active_model();
            (row.last_message_at, row.last_inbound_at) = (Set(last), Set(last_in));
            row.updated_at = Set(now);
            row.update(txn).await?;
        }
        return Ok(chat);
    }
    // The address may be another's, who had it before: numbers are given to new people.
    let mut taken = conversation_at(txn, session, &address).await?;
    if let Some(whose) = taken.as_ref().and_then(|it| it.contact_id.clone()) {
        readdress(txn, organization, &whose, now).await?;
        taken = conversation_at(txn, session, &address).await?;
    }
    let chat = match (taken, contact) {
        (Some(_), Some(contact)) => own_address(contact),
        _ => address,
    };
    let row = conversation::Model {
        id: ConversationId::new(now, in_order(rand::random())),
        organization_id: organization.clone(),
        session_key: session.clone(),
        chat: chat.clone(),
        contact_id: contact.filter(|_| group.is_none()).cloned(),
        last_message_at: at,
        last_inbound_at: inbound,
        created_at: now,
        updated_at: now,
    };
    conversation::Entity::insert(row.into_active_model()).exec_without_returning(txn).await?;
    Ok(chat)
}

/// The address of the conversation with a person, if there is one. Nobody is made for it.
pub(in crate::store) async fn known_address(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    session: &SessionKey,
    person: &Person,
) -> Result<Option<String>, DbErr> {
    let Some(known) = known(txn, organization, person).await? else { return Ok(None) };
    let row = conversation::Entity::find()
        .filter(conversation::COLUMN.session_key.eq(session.clone()))
        .filter(conversation::COLUMN.contact_id.eq(known.contact_id))
        .one(txn)
        .await?;
    Ok(row.map(|row| row.chat))
}

/// Where somebody is answered who is not made for it: at what they are called by at present.
pub(in crate::store) async fn answerable(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    person: &Person,
) -> Result<String, DbErr> {
    let known = known(txn, organization, person).await?;
    present_address(txn, organization, known.map(|it| it.contact_id).as_ref(), person).await
}

async fn known(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    person: &Person,
) -> Result<Option<contact_identity::Model>, DbErr> {
    if person.ids.is_empty() {
        return Ok(None);
    }
    let all = contact_identity::Entity::find()
        .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
        .filter(called(person))
        .all(txn)
        .await?;
    // A number is given to somebody else sooner than an id.
    Ok(all.into_iter().min_by_key(|row| is_number(row.kind)))
}
