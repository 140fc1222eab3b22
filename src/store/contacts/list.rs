//! People and conversations, for their owner.

use std::collections::HashMap;

use entity::{
    contact, contact_identity, conversation,
    id::{ContactId, ConversationId, OrganizationId, SessionKey},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Contacts;
use crate::store::{Error, page::Page, sessions::of_one_that_is_there};

/// A contact, with what they are called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactEntry {
    pub row: contact::Model,
    pub identities: Vec<contact_identity::Model>,
}

/// A conversation, with whom it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationEntry {
    pub row: conversation::Model,
    pub contact: Option<contact::Model>,
}

impl Contacts {
    /// A page of an organization's contacts, the oldest first; those that are called so, if it is said.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        called: Option<&str>,
        page: &Page<ContactId>,
    ) -> Result<Vec<ContactEntry>, Error> {
        let mut query = contact::Entity::find()
            .filter(contact::COLUMN.organization_id.eq(organization.clone()))
            .order_by_asc(contact::COLUMN.created_at)
            .order_by_asc(contact::COLUMN.id)
            .limit(page.limit);
        if let Some(value) = called {
            let known = contact_identity::Entity::find()
                .filter(contact_identity::COLUMN.organization_id.eq(organization.clone()))
                .filter(contact_identity::COLUMN.value.eq(value))
                .all(self.store.reader())
                .await?;
            query =
                query.filter(contact::COLUMN.id.is_in(known.into_iter().map(|it| it.contact_id)));
        }
        if let Some(after) = &page.after {
            let later = contact::COLUMN.created_at.gt(after.at);
            let same_time = contact::COLUMN.created_at.eq(after.at);
            let higher_id = contact::COLUMN.id.gt(after.id.clone());
            query = query.filter(
                Condition::any().add(later).add(Condition::all().add(same_time).add(higher_id)),
            );
        }
        let rows = query.all(self.store.reader()).await?;
        let mut identities = HashMap::<ContactId, Vec<_>>::new();
        let all = contact_identity::Entity::find()
            .filter(
                contact_identity::COLUMN.contact_id.is_in(rows.iter().map(|row| row.id.clone())),
            )
            .order_by_asc(contact_identity::COLUMN.kind)
            .order_by_asc(contact_identity::COLUMN.value)
            .all(self.store.reader())
            .await?;
        for identity in all {
            identities.entry(identity.contact_id.clone()).or_default().push(identity);
        }
        let entry = |row: contact::Model| ContactEntry {
            identities: identities.remove(&row.id).unwrap_or_default(),
            row,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// A page of an organization's conversations, the youngest first: by when they began, which does not change while
    /// they are read.
    pub async fn conversations(
        &self,
        organization: &OrganizationId,
        (session, with): (Option<&SessionKey>, Option<&ContactId>),
        page: &Page<ConversationId>,
    ) -> Result<Vec<ConversationEntry>, Error> {
        let mut query = conversation::Entity::find()
            .filter(conversation::COLUMN.organization_id.eq(organization.clone()))
            .filter(of_one_that_is_there("conversation"))
            .order_by_desc(conversation::COLUMN.created_at)
            .order_by_desc(conversation::COLUMN.id)
            .limit(page.limit);
        if let Some(session) = session {
            query = query.filter(conversation::COLUMN.session_key.eq(session.clone()));
        }
        if let Some(contact) = with {
            query = query.filter(conversation::COLUMN.contact_id.eq(contact.clone()));
        }
        if let Some(after) = &page.after {
            let earlier = conversation::COLUMN.created_at.lt(after.at);
            let same_time = conversation::COLUMN.created_at.eq(after.at);
            let lower_id = conversation::COLUMN.id.lt(after.id.clone());
            query = query.filter(
                Condition::any().add(earlier).add(Condition::all().add(same_time).add(lower_id)),
            );
        }
        let rows = query.all(self.store.reader()).await?;
        let ids = rows.iter().filter_map(|row| row.contact_id.clone());
        let contacts = contact::Entity::find()
            .filter(contact::COLUMN.id.is_in(ids))
            .all(self.store.reader())
            .await?;
        let contacts: HashMap<_, _> =
            contacts.into_iter().map(|row| (row.id.clone(), row)).collect();
        let entry = |row: conversation::Model| ConversationEntry {
            contact: row.contact_id.as_ref().and_then(|id| contacts.get(id)).cloned(),
            row,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Looks one conversation up.
    pub async fn conversation(
        &self,
        organization: &OrganizationId,
        id: &ConversationId,
    ) -> Result<Option<conversation::Model>, Error> {
        let found = conversation::Entity::find_by_id(id.clone())
            .filter(conversation::COLUMN.organization_id.eq(organization.clone()))
            .one(self.store.reader())
            .await?;
        Ok(found)
    }
}
