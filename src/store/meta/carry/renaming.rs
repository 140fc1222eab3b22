//! Notices that somebody is called otherwise from now on: has another number, or another id of Meta's.

use entity::{id::ContactId, state::IdentityKind};
use sea_orm::DbErr;

use super::message::Door;
use crate::store::contacts::{self, Person, Renamed, Told};

/// Who it is. From then on `person` is what they are called by now.
pub(super) async fn of(
    door: &Door<'_>,
    told: Told<'_>,
    person: &mut Person,
    (mut to, no_longer): (Person, Person),
) -> Result<Option<ContactId>, DbErr> {
    let (txn, now) = (door.txn, door.now);
    let has_new_number = to.ids.iter().any(|(kind, _)| *kind == IdentityKind::WaId);
    // Whoever had the new number before, and another id, is somebody else; as is whoever was given it since.
    contacts::hand_on(txn, told, &mut to, now).await?;
    let (mut all, present) = names(person, &to, &no_longer);
    if present.ids.is_empty() {
        // Nothing is said of what they are called by now.
        return contacts::resolve(txn, told, person, now).await;
    }
    // Whoever else has written under the new number is the same, by whatever id.
    let anywhere = Told { waba: None, ..told };
    let contact = contacts::resolve(txn, anywhere, &mut all, now).await?;
    if let Some(contact) = &contact {
        let renamed = Renamed {
            present: &present,
            to: &to,
            no_longer: &no_longer,
            waba: told.waba,
            has_new_number,
        };
        contacts::forget(txn, contact, renamed).await?;
        contacts::readdress(txn, told.organization, contact, now).await?;
    }
    *person = present;
    Ok(contact)
}

/// All that somebody is called by who is called otherwise from now on: whoever has written under any of it is the same. And what
/// of it they are called by now, the new first.
fn names(person: &Person, to: &Person, no_longer: &Person) -> (Person, Person) {
    let (mut all, mut present) = (person.clone(), person.clone());
    for id in to.ids.iter().chain(&no_longer.ids) {
        if !all.ids.contains(id) {
            all.ids.push(id.clone());
        }
    }
    present.ids = to.ids.iter().chain(&person.ids).cloned().collect();
    present.ids.retain(|id| !no_longer.ids.contains(id));
    (all, present)
}
