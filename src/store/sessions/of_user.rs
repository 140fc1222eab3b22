//! The session of a user who asks to be connected: one that he has, or a new one, and never two.

use std::collections::BTreeSet;

use entity::{
    id::OrganizationId,
    organization, session,
    state::{Origin, SessionStatus},
};
use sea_orm::{EntityTrait, QuerySelect};

use super::{
    Sessions,
    create::{Created, NewSession, insert, is_full},
    external::of_user,
};
use crate::store::{Error, audit::By, writer::Patience};

/// The session of a user who asks to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfUser {
    New(Box<session::Model>),
    /// He has one that can be used for it.
    Before(Box<session::Model>),
    /// He has one that is connected.
    Connected,
    TooMany,
    /// The id that was made up is taken.
    Exists,
}

impl Sessions {
    /// The session for a user who asks to be connected with this phone number: one that he has and that is
    /// not connected, or `new`. One that was linked to another number is left alone.
    ///
    /// Two requests at the same time get the same one.
    pub async fn for_user(
        &self,
        organization: &OrganizationId,
        (user_id, phone_number): (&str, &str),
        new: NewSession,
        by: By,
    ) -> Result<OfUser, Error> {
        let row = self.new_row(organization, new).await?;
        let known = self.store.writer().known().clone();
        let (user_id, phone_number) = (user_id.to_owned(), phone_number.to_owned());
        let (found, touched) = self
            .store
            .writer()
            .run(organization.as_str(), Patience::Fail, move |txn| {
                let (row, known, by) = (row.clone(), known.clone(), by.clone());
                let (user_id, phone_number) = (user_id.clone(), phone_number.clone());
                Box::pin(async move {
                    let nobody = BTreeSet::new();
                    let owner = &row.organization_id;
                    // As whoever makes sessions does, so that two daemons do not both make one.
                    organization::Entity::find_by_id(owner.clone())
                        .lock_exclusive()
                        .one(txn)
                        .await?;
                    let his = of_user(txn, owner, &user_id).await?;
                    if his.iter().any(|it| it.status == SessionStatus::SessionConnected) {
                        return Ok((OfUser::Connected, nobody));
                    }
                    if let Some(usable) = usable(his, &phone_number) {
                        return Ok((OfUser::Before(Box::new(usable)), nobody));
                    }
                    if is_full(txn, owner).await?.is_some() {
                        return Ok((OfUser::TooMany, nobody));
                    }
                    let (created, touched) = insert(txn, &known, &row, &by).await?;
                    Ok(match created {
                        Created::New(row) => (OfUser::New(row), touched),
                        _ => (OfUser::Exists, touched),
                    })
                })
            })
            .await?;
        self.store.webhooks().touch(touched);
        Ok(found)
    }
}

/// The one of a user's sessions, the newest first, that is to be used for this number: made for it, or not
/// linked to any. One that has handed over to another is none.
fn usable(his: Vec<session::Model>, phone_number: &str) -> Option<session::Model> {
    let mut fitting: Vec<_> = his
        .into_iter()
        .filter(|row| row.origin == Origin::Embedded && row.migrated_to.is_none())
        .filter(|row| {
            row.account_jid.is_none() || row.phone_number.as_deref() == Some(phone_number)
        })
        .collect();
    let made_for_it = |row: &session::Model| row.phone_number.as_deref() == Some(phone_number);
    let best = fitting.iter().position(made_for_it).unwrap_or(0);
    (!fitting.is_empty()).then(|| fitting.swap_remove(best))
}
