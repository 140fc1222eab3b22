//! Telling somebody that what they wrote is read.

use entity::{
    id::{ConversationId, MessageId},
    message,
    meta::state::MetaStatus,
    state::{Direction, Origin, Role},
};

use super::super::{Meta, NOT_FOUND};
use crate::{
    service::{Conflict, Error, Principal, Thing},
    store::{messages::Filter, page::Page},
};

/// A message that its writer was told is read, with all before it.
#[derive(Clone, Debug)]
pub struct Read {
    pub message: message::Model,
}

impl Meta {
    /// Tells whoever a conversation is with that a message of theirs is read: this one, or their newest. Meta is asked at once,
    /// as asking twice does no harm.
    pub async fn mark_read(
        &self,
        caller: &Principal,
        id: &ConversationId,
        message: Option<&MessageId>,
    ) -> Result<Read, Error> {
        caller.require(Role::Manager)?;
        let organization = &caller.organization_id;
        let found = self.store.contacts().conversation(organization, id).await?;
        let row = found.ok_or(Error::NotFound(Thing::Conversation))?;
        let session = self.store.sessions().find_by_key(&row.session_key).await?;
        if session.is_none_or(|session| session.origin != Origin::Cloud) {
            return Err(Error::NotFound(Thing::Conversation));
        }
        let meta = self.store.meta();
        let account = meta.account_of_session(organization, &row.session_key).await?;
        let account = account.ok_or(NOT_FOUND)?;
        let messages = self.store.messages();
        let message = if let Some(message) = message {
            let found = messages.find(organization, &row.session_key, message).await?;
            found.filter(|it| it.chat == row.chat && it.direction == Direction::Inbound)
        } else {
            let direction = Some(Direction::Inbound);
            let filter = Filter { chat: Some(row.chat.clone()), direction, ..Filter::default() };
            let newest = Page { after: None, limit: Some(1) };
            messages.list(organization, &row.session_key, &filter, &newest).await?.pop()
        };
        let message = message.ok_or(Error::NotFound(Thing::Message))?;
        if account.status == MetaStatus::Disabled {
            return Err(Error::Conflict(Conflict::MetaAccountOff));
        }
        let token = meta.access_token(&account).await?;
        let token = token.ok_or(Error::Conflict(Conflict::MetaNoToken))?;
        let number = &account.phone_number_id;
        self.graph.mark_read(token.expose(), number, &message.wa_id).await?;
        Ok(Read { message })
    }
}
