//! People that an organization has to do with, and the conversations with them.

use std::collections::{HashMap, hash_map::Entry};

use entity::{
    conversation,
    id::{ContactId, ConversationId, MessageId, SessionId, SessionKey},
    message, session,
    state::{Direction, Role},
};

use super::{Error, Principal, Thing};
use crate::store::{
    Store,
    messages::Filter,
    page::{Page, Position},
};

pub use crate::store::contacts::{ContactEntry, ConversationEntry};

/// A page of contacts, the oldest first.
#[derive(Clone, Debug)]
pub struct People {
    pub contacts: Vec<ContactEntry>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<ContactId>>,
}

/// A page of conversations, the youngest first.
#[derive(Clone, Debug)]
pub struct Conversations {
    pub conversations: Vec<(ConversationEntry, Option<session::Model>)>,
    pub next: Option<Position<ConversationId>>,
}

/// A page of a conversation's messages, the newest first.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub session: session::Model,
    pub messages: Vec<message::Model>,
    pub next: Option<Position<MessageId>>,
}

/// Contacts, as far as a caller may see them.
#[derive(Clone, Debug)]
pub struct Contacts {
    store: Store,
}

impl Contacts {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Lists contacts; those that are called so, if it is said.
    pub async fn list(
        &self,
        caller: &Principal,
        identity: Option<&str>,
        page: Page<ContactId>,
    ) -> Result<People, Error> {
        caller.require(Role::Viewer)?;
        let organization = &caller.organization_id;
        let mut contacts =
            self.store.contacts().list(organization, identity, &page.one_more()).await?;
        let next =
            page.cut(&mut contacts, |it| Position { at: it.row.created_at, id: it.row.id.clone() });
        Ok(People { contacts, next })
    }

    /// Lists conversations: those of one session, or with one contact, if it is said.
    pub async fn conversations(
        &self,
        caller: &Principal,
        session: Option<&SessionId>,
        contact: Option<&ContactId>,
        page: Page<ConversationId>,
    ) -> Result<Conversations, Error> {
        caller.require(Role::Viewer)?;
        let organization = &caller.organization_id;
        let key: Option<SessionKey> = match session {
            None => None,
            Some(id) => Some(super::sessions::find(&self.store, caller, id).await?.id),
        };
        let which = (key.as_ref(), contact);
        let contacts = self.store.contacts();
        let mut found = contacts.conversations(organization, which, &page.one_more()).await?;
        let next =
            page.cut(&mut found, |it| Position { at: it.row.created_at, id: it.row.id.clone() });
        // Many conversations, and few numbers that they are of.
        let mut sessions = HashMap::new();
        for entry in &found {
            if let Entry::Vacant(new) = sessions.entry(entry.row.session_key.clone()) {
                let session = self.store.sessions().find_by_key(new.key()).await?;
                new.insert(session);
            }
        }
        let session = |key: &SessionKey| sessions.get(key).cloned().flatten();
        let conversations = found.into_iter().map(|entry| {
            let session = session(&entry.row.session_key);
            (entry, session)
        });
        Ok(Conversations { conversations: conversations.collect(), next })
    }

    /// Lists a conversation's messages, the newest first.
    pub async fn messages(
        &self,
        caller: &Principal,
        id: &ConversationId,
        direction: Option<Direction>,
        page: Page<MessageId>,
    ) -> Result<Exchange, Error> {
        caller.require(Role::Viewer)?;
        let organization = &caller.organization_id;
        let row: conversation::Model = self
            .store
            .contacts()
            .conversation(organization, id)
            .await?
            .ok_or(Error::NotFound(Thing::Conversation))?;
        let session = self.store.sessions().find_by_key(&row.session_key).await?;
        let session = session.ok_or(Error::NotFound(Thing::Conversation))?;
        let filter = Filter { chat: Some(row.chat), direction, ..Filter::default() };
        let store = self.store.messages();
        let mut messages = store.list(organization, &session.id, &filter, &page.one_more()).await?;
        let next =
            page.cut(&mut messages, |row| Position { at: row.created_at, id: row.id.clone() });
        Ok(Exchange { session, messages, next })
    }
}
