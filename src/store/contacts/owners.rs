//! Whose a number is by now. Meta calls somebody by another id of its own when his number is another: so whoever has the
//! number of somebody else of the same business, and another id, is somebody else who was given it.

use std::collections::BTreeSet;

use entity::{
    UnixMillis, contact_identity,
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

/// Takes the number of a person from those who had it before, and leaves in `known` what is the person's. `waba` is the
/// business account that was told of the person.
pub(super) async fn hand_on(
    txn: &DatabaseTransaction,
    (organization, waba): (&OrganizationId, Option<&str>),
    person: &Person,
    known: &mut Vec<contact_identity::Model>,
    now: UnixMillis,
) -> Result<(), DbErr> {
    let has_id = person.ids.iter().any(|(kind, _)| *kind == IdentityKind::UserId);
    let Some(waba) = waba.filter(|_| has_id) else { return Ok(()) };
    for row in known.iter_mut().filter(|row| row.kind == IdentityKind::UserId) {
        if row.waba_id.is_none() {
            // Of a time when that was not written down.
            let mut told = row.clone().into_active_model();
            told.waba_id = Set(Some(waba.to_owned()));
            *row = told.update(txn).await?;
        }
    }
    let contacts: BTreeSet<ContactId> = known.iter().map(|row| row.contact_id.clone()).collect();
    for contact in contacts {
        let (theirs, others): (Vec<_>, Vec<_>) =
            known.iter().cloned().partition(|row| row.contact_id == contact);
        if theirs.iter().any(|row| !is_number(row.kind)) {
            continue;
        }
        let other = contact_identity::Entity::find()
            .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
            .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
            .filter(contact_identity::COLUMN.kind.eq(IdentityKind::UserId))
            .filter(contact_identity::Column::WabaId.eq(waba))
            .one(txn)
            .await?;
        if other.is_none() {
            continue;
        }
        let ids = theirs.into_iter().map(|row| (row.kind, row.value)).collect();
        contact_identity::Entity::delete_many()
            .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
            .filter(contact_identity::COLUMN.contact_id.eq(contact.clone()))
            .filter(called(&Person { ids, ..Person::default() }))
            .exec(txn)
            .await?;
        *known = others;
        readdress(txn, organization, &contact, now).await?;
    }
    Ok(())
}
