//! Sending through Meta's Cloud API.
//!
//! - `input.rs`: what may be sent. `sender.rs`: the worker that sends what was taken; `reasons.rs`: why it did not. `reading.rs`:
//!   telling somebody that what they wrote is read.
//!
//! A message is on disk, and has its id, before anybody asks Meta. It is asked once: whatever says that the message was not
//! taken has it tried again, whatever leaves that open has it failed as `outcome_unknown`. Meta's statuses name our id, so one
//! that was sent after all is found by them.

mod input;
mod reading;
mod reasons;
mod sender;

use entity::{
    id::{MessageId, MetaAccountId, OrganizationId, SessionId, in_order},
    message,
    meta::account,
    state::Role,
};

use super::{Meta, NOT_FOUND};
use crate::{
    service::{
        Conflict, Error, Principal,
        created::{self, Created},
    },
    store::meta::{NewOutgoing, NotAnswered, NotSending, Queued},
};

pub use self::{
    input::{Outgoing, What, limits as sending_limits},
    reading::Read,
    reasons::{OUTCOME_UNKNOWN, REASONS},
    sender::Sender,
};

/// Why a message has no recipient.
const NOBODY: &str = "is no contact of yours, or one that nothing is known of";

/// A message that was taken, now or before.
#[derive(Clone, Debug)]
pub struct Taken {
    pub message: message::Model,
    /// What the session is called that it is kept under.
    pub session_id: SessionId,
    /// An earlier request with the same key made it, and this one did nothing.
    pub replayed: bool,
}

impl Meta {
    /// Takes a message that is to be sent from an account. It is sent soon, in the order of its conversation.
    pub async fn send(
        &self,
        caller: &Principal,
        id: &MetaAccountId,
        mut outgoing: Outgoing,
        key: Option<String>,
    ) -> Result<Taken, Error> {
        caller.require(Role::Manager)?;
        let organization = &caller.organization_id;
        let account = self.store.meta().account(organization, id).await?.ok_or(NOT_FOUND)?;
        let contact = outgoing.contact();
        if let Some(contact) = &contact {
            let address = self.store.contacts().address(organization, contact).await?;
            outgoing.to = address.ok_or_else(|| Error::invalid("to", NOBODY))?;
        }
        let checked = outgoing.checked()?;
        // By what was asked for: what becomes of the message that is answered makes it no other request.
        let request = checked.asked(contact.as_ref());
        let key = key.map(|key| created::key(key, &["meta message", id.as_str(), &request]));
        let target = match &checked.reply_to {
            Some(written) => self.answered(organization, &account, written).await?.map(Some),
            None => Ok(None),
        };
        let message = MessageId::new(self.now(), in_order(rand::random()));
        let meant = target.as_ref().ok().and_then(Option::as_deref);
        let new = NewOutgoing {
            account: account.id,
            to: checked.person.clone(),
            kind: checked.kind,
            body: checked.body.clone(),
            request: checked.request(meant, Some(&message)).into_bytes(),
            id: message,
            target,
        };
        match self.store.meta().queue(organization, new, key).await? {
            Queued::Gone => Err(NOT_FOUND),
            Queued::KeyReused => Err(Error::KeyReused),
            Queued::Lost => Err(Error::MadeGone),
            Queued::NotAnswered(why) => Err(Error::invalid("replyTo", why.to_string())),
            Queued::Not(why) => Err(Error::Conflict(match why {
                NotSending::Disabled => Conflict::MetaAccountOff,
                NotSending::NoToken => Conflict::MetaNoToken,
            })),
            Queued::Done(done) => {
                let (made, session) = *done;
                let Created { made: message, replayed } = made.try_into()?;
                Ok(Taken { message, session_id: session.session_id, replayed })
            }
        }
    }

    /// Meta's id of the message that is answered: as it was given, or that of a message of ours; or why there is none.
    async fn answered(
        &self,
        organization: &OrganizationId,
        account: &account::Model,
        written: &str,
    ) -> Result<Result<String, NotAnswered>, Error> {
        let Ok(id) = written.parse::<MessageId>() else { return Ok(Ok(written.to_owned())) };
        let found = self.store.messages().find_by_id(&id).await?.filter(|row| {
            row.organization_id == *organization
                && Some(&row.session_key) == account.session_key.as_ref()
        });
        Ok(match found {
            None => Err(NotAnswered::NotThere),
            Some(row) if row.wa_id == row.id.as_str() => Err(NotAnswered::NotAtMeta),
            Some(row) => Ok(row.wa_id),
        })
    }
}
