//! The session of a user who asks to be connected: one that he has, or a new one, and never two.

use std::collections::BTreeSet;

use entity::{
    UnixMillis,
    id::OrganizationId,
    session,
    state::{Origin, SessionStatus},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Sessions,
    create::{Created, NewSession, insert, is_full},
    external::of_user,
    is_there,
};
use crate::store::{
    Error, Made,
    audit::By,
    idempotency::{Key, made_before, reassign, unclaim, used_at},
    organizations,
    writer::Patience,
};

/// The session of a user who asks to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfUser {
    New(Box<session::Model>),
    /// He has one that can be used for it.
    Before(Box<session::Model>),
    /// He has one that is connected.
    Connected,
    /// The same request came to it before, at this time.
    Replayed(Box<session::Model>, UnixMillis),
    /// The key was used for another request.
    KeyReused,
    /// The same request came to one before that is gone.
    Gone,
    TooMany,
    /// The id that was made up is taken.
    Exists,
}

impl Sessions {
    /// The session for a user who asks to be connected with this phone number: one that he has and that is
    /// not connected, or `new`. One that was linked to another number is left alone.
    ///
    /// Two requests at the same time get the same one, and so do two with one key, whatever came between them.
    pub async fn for_user(
        &self,
        organization: &OrganizationId,
        (user_id, phone_number): (&str, &str),
        (new, key): (NewSession, Option<Key>),
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
                let key = key.clone();
                let (user_id, phone_number) = (user_id.clone(), phone_number.clone());
                Box::pin(async move {
                    let nobody = BTreeSet::new();
                    let owner = &row.organization_id;
                    // As whoever makes sessions does, so that two daemons do not both make one.
                    organizations::lock(txn, owner).await?;
                    let key = key.as_ref();
                    let of = |id| {
                        session::Entity::find()
                            .filter(session::COLUMN.organization_id.eq(owner.clone()))
                            .filter(session::COLUMN.id.eq(id))
                            .filter(is_there())
                    };
                    let (id, now) = (row.id.as_str(), row.created_at);
                    match made_before(txn, owner, key, id, now, of).await? {
                        None => {}
                        Some(Made::New(row) | Made::Before(row)) => {
                            // Not when the session was made: it may be much older.
                            let at = match key {
                                Some(key) => used_at(txn, owner, key).await?,
                                None => None,
                            };
                            return Ok((
                                OfUser::Replayed(Box::new(row), at.unwrap_or(now)),
                                nobody,
                            ));
                        }
                        Some(Made::KeyReused) => return Ok((OfUser::KeyReused, nobody)),
                        Some(Made::Gone) => return Ok((OfUser::Gone, nobody)),
                    }
                    let his = of_user(txn, owner, &user_id).await?;
                    let is_connected =
                        his.iter().any(|it| it.status == SessionStatus::SessionConnected);
                    let (found, touched) = if is_connected {
                        (OfUser::Connected, nobody)
                    } else if let Some(usable) = usable(his, &phone_number) {
                        (OfUser::Before(Box::new(usable)), nobody)
                    } else if is_full(txn, owner).await?.is_some() {
                        (OfUser::TooMany, nobody)
                    } else {
                        let (created, touched) = insert(txn, &known, &row, &by).await?;
                        let made = match created {
                            Created::New(row) => OfUser::New(row),
                            _ => OfUser::Exists,
                        };
                        (made, touched)
                    };
                    match (&found, key) {
                        (_, None) | (OfUser::New(_), _) => {}
                        (OfUser::Before(row), Some(key)) => {
                            reassign(txn, owner, key, row.id.as_str()).await?;
                        }
                        (_, Some(key)) => unclaim(txn, owner, key).await?,
                    }
                    Ok((found, touched))
                })
            })
            .await?;
        self.store.webhooks().touch(touched);
        Ok(found)
    }

    /// Frees a key whose request has come to nothing after all: the same again is tried again.
    pub async fn free_key(&self, organization: &OrganizationId, key: &Key) -> Result<(), Error> {
        let (owner, key) = (organization.clone(), key.clone());
        let freed = self.store.writer().run(organization.as_str(), Patience::Fail, move |txn| {
            let (owner, key) = (owner.clone(), key.clone());
            Box::pin(async move { unclaim(txn, &owner, &key).await })
        });
        freed.await
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
