//! Sending through Meta's Cloud API.
//!
//! - `input.rs`: what may be sent. `sender.rs`: the worker that sends what was taken. `reading.rs`: telling somebody that what
//!   they wrote is read.
//!
//! A message is on disk, and has its id, before anybody asks Meta. It is asked once: whatever says that the message was not
//! taken has it tried again, whatever leaves that open has it failed as `outcome_unknown`. Meta's statuses name our id, so one
//! that was sent after all is found by them.

mod input;
mod reading;
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
        Conflict, Error, FieldError, Principal,
        created::{self, Created},
    },
    store::meta::{NewOutgoing, NotSending, Queued},
};

pub use self::{
    input::{Outgoing, What, limits as sending_limits},
    reading::Read,
    sender::Sender,
};

/// The word for a message of which nobody knows whether it was sent.
pub const OUTCOME_UNKNOWN: &str = "outcome_unknown";

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
        outgoing: Outgoing,
        key: Option<String>,
    ) -> Result<Taken, Error> {
        caller.require(Role::Manager)?;
        let organization = &caller.organization_id;
        let account = self.store.meta().account(organization, id).await?.ok_or(NOT_FOUND)?;
        let checked = outgoing.checked()?;
        let target = match &checked.reply_to {
            Some(written) => Some(self.answered(organization, &account, written).await?),
            None => None,
        };
        let message = MessageId::new(self.now(), in_order(rand::random()));
        let request = checked.request(target.as_deref(), None);
        let key = key.map(|key| created::key(key, &["meta message", id.as_str(), &request]));
        let new = NewOutgoing {
            account: account.id,
            to: checked.person.clone(),
            kind: checked.kind,
            body: checked.body.clone(),
            request: checked.request(target.as_deref(), Some(&message)).into_bytes(),
            id: message,
            target,
        };
        match self.store.meta().queue(organization, new, key).await? {
            Queued::Gone => Err(NOT_FOUND),
            Queued::KeyReused => Err(Error::KeyReused),
            Queued::Lost => Err(Error::MadeGone),
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

    /// Meta's id of the message that is answered: as it was given, or that of a message of ours.
    async fn answered(
        &self,
        organization: &OrganizationId,
        account: &account::Model,
        written: &str,
    ) -> Result<String, Error> {
        let Ok(id) = written.parse::<MessageId>() else { return Ok(written.to_owned()) };
        let found = self.store.messages().find_by_id(&id).await?.filter(|row| {
            row.organization_id == *organization
                && Some(&row.session_key) == account.session_key.as_ref()
        });
        let row =
            found.ok_or_else(|| Error::invalid("replyTo", "is no message of this account"))?;
        if row.wa_id == row.id.as_str() {
            let detail = "is a message that Meta does not have";
            return Err(Error::Invalid(vec![FieldError::new("replyTo", detail)]));
        }
        Ok(row.wa_id)
    }
}
