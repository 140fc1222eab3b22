//! Whose a number is by now. Meta calls somebody by another id of its own when his number is another: so whoever has the
//! number of somebody else of the same business, and another id, is somebody else who was given it.
//!
//! Messages come late: what was written before its holder wrote last tells who had the number once, and not who has it.

use std::collections::BTreeSet;

use entity::{
    UnixMillis, contact_identity, conversation,
    id::{ContactId, OrganizationId},
    state::IdentityKind,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter,
};

use super::{
    Person,
    addresses::{is_number, readdress},
    resolve::called,
};

/// Where and when somebody was called so.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Told<'a> {
    pub(in crate::store) organization: &'a OrganizationId,
    /// The business account that was told of the person, if it was one.
    pub(in crate::store) waba: Option<&'a str>,
    /// When the person was called so: when a message was written, whenever it is carried out.
    pub(in crate::store) at: UnixMillis,
}

/// Takes the number of a person from those who had it before. A number whose holder has written since is not the person's any
/// more, and is taken out of `person`. Answers what is known of what is left: the identities, whosever they are.
pub(in crate::store) async fn hand_on(
    txn: &DatabaseTransaction,
    told: Told<'_>,
    person: &mut Person,
    now: UnixMillis,
) -> Result<Vec<contact_identity::Model>, DbErr> {
    let organization = told.organization;
    if person.ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = contact_identity::Entity::find()
        .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
        .filter(called(person))
        .all(txn)
        .await?;
    let has_id = person.ids.iter().any(|(kind, _)| *kind == IdentityKind::UserId);
    let Some(waba) = told.waba.filter(|_| has_id) else { return Ok(known) };
    for row in known.iter_mut().filter(|row| row.kind == IdentityKind::UserId) {
        if row.waba_id.is_none() {
            // Of a time when that was not written down, or of a notice that left it open.
            let mut told = row.clone().into_active_model();
            told.waba_id = Set(Some(waba.to_owned()));
            *row = told.update(txn).await?;
        }
    }
    let contacts: BTreeSet<ContactId> = known.iter().map(|row| row.contact_id.clone()).collect();
    for contact in contacts {
        let theirs = known.iter().filter(|row| row.contact_id == contact);
        if theirs.clone().any(|row| !is_number(row.kind))
            || !has_id_at(txn, organization, &contact, waba).await?
        {
            continue;
        }
        let numbers: BTreeSet<String> = theirs.map(|row| row.value.clone()).collect();
        if has_written_since(txn, &contact, told.at).await? {
            person.ids.retain(|(kind, value)| !is_number(*kind) || !numbers.contains(value));
        } else {
            contact_identity::Entity::delete_many()
                .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
                .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
                .filter(
                    contact_identity::COLUMN.kind.is_in([IdentityKind::WaId, IdentityKind::Phone]),
                )
                .filter(contact_identity::COLUMN.value.is_in(numbers))
                .exec(txn)
                .await?;
            readdress(txn, organization, &contact, now).await?;
        }
        known.retain(|row| row.contact_id != contact);
    }
    // A number may be known as two things, and each as somebody's.
    known.retain(|row| {
        person.ids.iter().any(|(kind, value)| (row.kind, &row.value) == (*kind, value))
    });
    Ok(known)
}

/// Whether a business calls somebody by an id of Meta's.
async fn has_id_at(
    txn: &DatabaseTransaction,
    organization: &OrganizationId,
    contact: &ContactId,
    waba: &str,
) -> Result<bool, DbErr> {
    let id = contact_identity::Entity::find()
        .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
        .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
        .filter(contact_identity::COLUMN.kind.eq(IdentityKind::UserId))
        .filter(contact_identity::Column::WabaId.eq(waba))
        .one(txn)
        .await?;
    Ok(id.is_some())
}

/// Whether somebody has written anything that is younger than a time.
async fn has_written_since(
    txn: &DatabaseTransaction,
    contact: &ContactId,
    at: UnixMillis,
) -> Result<bool, DbErr> {
    let later = conversation::Entity::find()
        .filter(conversation::COLUMN.contact_id.eq(contact.clone()))
        .filter(conversation::Column::LastInboundAt.gt(at))
        .one(txn)
        .await?;
    Ok(later.is_some())
}
