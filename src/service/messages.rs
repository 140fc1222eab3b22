//! Messages: sent once, however often it is asked for, and found again.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{MessageId, SessionId, in_order},
    kind::MessageKind,
    message, session,
    state::{MessageStatus, Origin, Role, SessionStatus},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Error, FieldError, Principal, Thing, recipient, sessions, text};
use crate::{
    fault::moment,
    meta::paired,
    session::{self as live, NOT_ON_WHATSAPP, SendError, Sessions as Manager},
    store::{
        Store,
        messages::{Created, Key, NewOutbound},
        page::{Page, Position},
    },
};

pub use crate::store::{
    figures::{Alike, Counted},
    messages::Filter,
};

/// Of which figures are, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// How long a caller waits to hear that a message is on its way. Shorter than the time that a request
/// may take: a message that is stored has an id, which the caller shall be told.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often, and how far apart, a repeated request looks what became of the first.
const FOLLOW_LOOKS: u32 = 20;
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// A text to be sent.
#[derive(Clone, Debug)]
pub struct SendText {
    /// As people write it: see [`recipient::address`].
    pub to: String,
    pub text: String,
    /// Keep it until the session is connected, instead of refusing it while it is not.
    pub queue: bool,
    /// What makes a repetition of this request recognisable.
    pub idempotency_key: Option<String>,
}

/// A message that was accepted, now or before.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub message: message::Model,
    /// An earlier request with the same key made it, and this one did nothing.
    pub replayed: bool,
}

/// What one session does.
#[derive(Clone, Debug)]
pub struct Figures {
    pub session_id: SessionId,
    pub since: UnixMillis,
    pub until: UnixMillis,
    pub counted: Counted,
    /// Messages that could not be decrypted, since the session is there.
    pub undecryptable: i64,
}

/// A page of messages.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Where the session's socket lives.
    pub channel: Origin,
    pub messages: Vec<message::Model>,
    /// Where the next page begins; none after the last.
    pub next: Option<Position<MessageId>>,
}

/// Messages, as far as a caller may see and send them.
#[derive(Clone, Debug)]
pub struct Messages {
    store: Store,
    manager: Manager,
}

impl Messages {
    pub fn new(store: Store, manager: Manager) -> Self {
        Self { store, manager }
    }

    /// Looks one message up, and where the socket of its session lives.
    pub async fn find(
        &self,
        caller: &Principal,
        session: &SessionId,
        id: &MessageId,
    ) -> Result<(message::Model, Origin), Error> {
        caller.require(Role::Viewer)?;
        let session = sessions::find(&self.store, caller, session).await?;
        let found = self.store.messages().find(&caller.organization_id, &session.id, id).await?;
        Ok((found.ok_or(Error::NotFound(Thing::Message))?, session.origin))
    }

    /// A message that the caller has seen as Meta has told it; None of any other, and where it was not kept.
    pub async fn as_told(
        &self,
        channel: Origin,
        row: &message::Model,
    ) -> Result<Option<Box<RawValue>>, Error> {
        if channel != Origin::Cloud {
            return Ok(None);
        }
        let raw = self.store.raw(row).await?.and_then(|raw| String::from_utf8(raw).ok());
        Ok(raw.and_then(|raw| RawValue::from_string(paired(&raw).into_owned()).ok()))
    }

    /// Lists a session's messages, the newest first; those of one conversation if `chat` names one
    /// by its address.
    pub async fn list(
        &self,
        caller: &Principal,
        session: &SessionId,
        filter: &Filter,
        after: Option<Position<MessageId>>,
        limit: u64,
    ) -> Result<Listing, Error> {
        caller.require(Role::Viewer)?;
        let session = sessions::find(&self.store, caller, session).await?;
        let page = Page { after, limit: Some(limit) };
        let (store, organization) = (self.store.messages(), &caller.organization_id);
        let mut messages = store.list(organization, &session.id, filter, &page.one_more()).await?;
        let next =
            page.cut(&mut messages, |row| Position { at: row.created_at, id: row.id.clone() });
        Ok(Listing { channel: session.origin, messages, next })
    }

    /// What a session has received and sent in the last day.
    pub async fn figures(&self, caller: &Principal, session: &SessionId) -> Result<Figures, Error> {
        caller.require(Role::Viewer)?;
        let session = sessions::find(&self.store, caller, session).await?;
        let until = self.store.clock().now();
        let since = UnixMillis(until.0 - DAY);
        Ok(Figures {
            counted: self.store.messages().count_since(&session.id, since).await?,
            session_id: session.session_id,
            since,
            until,
            undecryptable: session.undecryptable,
        })
    }

    /// Sends a text.
    ///
    /// It is stored, with the id that WhatsApp will know it by, before anything is sent; from then
    /// on it is sent exactly once, whatever crashes in between.
    pub async fn send(
        &self,
        caller: &Principal,
        session: &SessionId,
        send: SendText,
    ) -> Result<Accepted, Error> {
        caller.require(Role::Manager)?;
        let chat = recipient::address(&send.to)
            .map_err(|malformed| FieldError::new("to", malformed.to_string()));
        let text = text::message("text", &send.text);
        let (chat, text) = match (chat, text) {
            (Ok(chat), Ok(text)) => (chat, text),
            (chat, text) => {
                return Err(Error::Invalid(chat.err().into_iter().chain(text.err()).collect()));
            }
        };
        let row = sessions::find(&self.store, caller, session).await?;
        sessions::embedded(&row)?;

        let key = send
            .idempotency_key
            .map(|key| Key { key, fingerprint: fingerprint(session, &chat, &text, send.queue) });
        // Before the session's state is looked at: a message sent is sent, also while it is away.
        if let Some(key) = &key
            && let Some(made) = self.store.messages().replay(&caller.organization_id, key).await?
        {
            return self.settle(caller, made, send.queue).await;
        }
        sessions::refuse_migrated(&self.store, &row).await?;
        if row.status != SessionStatus::SessionConnected && !send.queue {
            return Err(Error::NotConnected { status: row.status });
        }

        let new = self.outbound(&row, chat, text);
        let made = self.store.messages().create(&caller.organization_id, new, key).await?;
        moment!("outbound.stored");
        self.settle(caller, made, send.queue).await
    }

    /// Sees to it that a message that is stored is on its way.
    async fn settle(
        &self,
        caller: &Principal,
        made: Created,
        queue: bool,
    ) -> Result<Accepted, Error> {
        match made {
            Created::KeyReused => Err(Error::KeyReused),
            Created::New(message) => {
                tracing::debug!(
                    message.id = %message.id,
                    session.key = %message.session_key,
                    "Took a message that is to be sent"
                );
                let message = self.hand_over(caller, *message, queue).await?;
                Ok(Accepted { message, replayed: false })
            }
            // The first request is still at it, and may yet have to take the message back.
            Created::Replayed(message)
                if is_queued(&message) && message.failed_attempts == 0 && !queue =>
            {
                let message = self.follow(caller, *message).await?;
                Ok(Accepted { message, replayed: true })
            }
            // The same answer as the first time.
            Created::Replayed(message) if message.error.as_deref() == Some(NOT_ON_WHATSAPP) => {
                Err(live::Error::Send(SendError::NotOnWhatsApp).into())
            }
            Created::Replayed(message) => Ok(Accepted { message: *message, replayed: true }),
        }
    }

    /// Waits until the request that made a message knows what becomes of it.
    ///
    /// That request may have died with its daemon; then this one takes its place.
    async fn follow(
        &self,
        caller: &Principal,
        message: message::Model,
    ) -> Result<message::Model, Error> {
        for _ in 0..FOLLOW_LOOKS {
            match self.store.messages().find_by_id(&message.id).await? {
                None => return Err(Error::NotConnected { status: SessionStatus::Connecting }),
                Some(message) if !is_queued(&message) => return Ok(message),
                Some(_) => tokio::time::sleep(FOLLOW_PAUSE).await,
            }
        }
        self.hand_over(caller, message, false).await
    }

    /// Gives a stored message to its session, and says how far it came.
    async fn hand_over(
        &self,
        caller: &Principal,
        message: message::Model,
        queue: bool,
    ) -> Result<message::Model, Error> {
        let messages = self.store.messages();
        let sending = self.manager.send(&message.session_key, message.id.clone());
        let outcome = tokio::time::timeout(PATIENCE, sending).await;
        if let Err(error) = outcome.unwrap_or(Err(live::Error::Timeout)) {
            // It has failed for good, and says so.
            if matches!(error, live::Error::Send(SendError::NotOnWhatsApp)) {
                return Err(error.into());
            }
            // Whoever is told "no" must be able to rely on it. A message that has left the queue is
            // a "yes": its status says what is known of it.
            if !queue {
                let withdrawn = messages.withdraw(&caller.organization_id, &message.id).await?;
                if withdrawn || messages.find_by_id(&message.id).await?.is_none() {
                    return Err(refusal(error));
                }
            }
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                message.id = %message.id,
                session.key = %message.session_key,
                "A message was not sent at once"
            );
        }
        Ok(messages.find_by_id(&message.id).await?.unwrap_or(message))
    }

    fn outbound(&self, session: &session::Model, chat: String, text: String) -> NewOutbound {
        let now = self.store.clock().now();
        NewOutbound {
            // Queued messages go out in the order of their ids.
            id: MessageId::new(now, in_order(rand::random())),
            session_key: session.id.clone(),
            wa_id: whatsapp_id(),
            chat,
            sender: session.account_jid.clone().unwrap_or_default(),
            kind: MessageKind::Text,
            body: Some(text),
        }
    }
}

/// An id as WhatsApp's own web client makes them: a fixed prefix and nine random bytes.
fn whatsapp_id() -> String {
    format!("3EB0{}", text::hex(&rand::random::<[u8; 9]>()).to_uppercase())
}

/// The request in short. A session made anew under an old id counts as the same session.
fn fingerprint(session: &SessionId, chat: &str, text: &str, queue: bool) -> String {
    let mut hash = Sha256::new();
    for part in ["message", session.as_str(), chat, text, if queue { "queue" } else { "" }] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    text::hex(&hash.finalize())
}

/// Why a message was not taken.
fn refusal(error: live::Error) -> Error {
    match error {
        live::Error::NotRunning => {
            Error::NotConnected { status: SessionStatus::SessionNotConnected }
        }
        // The row has not heard yet of what the socket knows.
        live::Error::NotConnected { status: SessionStatus::SessionConnected }
        | live::Error::Send(SendError::NotConnected) => {
            Error::NotConnected { status: SessionStatus::Connecting }
        }
        error => error.into(),
    }
}

/// Whether a message still waits for its session to be connected.
pub fn is_queued(message: &message::Model) -> bool {
    message.status == MessageStatus::Queued
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
