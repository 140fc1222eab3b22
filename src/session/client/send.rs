//! Sending through a link, and asking for a pairing code.

use std::{fmt, sync::Arc, time::Duration};

use entity::message;
use wacore::pair_code::{PairCodeOptions, PairCodeUtils};
use whatsapp_rust::{
    Client, ClientError,
    request::IqError,
    send::{SendError as ClientSendError, SendOptions},
};

use super::{BoxError, PairError, barrier::Barrier, dial::Progress, translate};
use crate::{
    clock::Clock,
    session::{PairingCode, outbox::passes},
};

/// How long a message may take to be on its way. What it may have to ask WhatsApp for first is
/// answered in much less.
const SEND_DEADLINE: Duration = Duration::from_mins(2);

/// How long the socket may take to be there when a pairing code is asked for.
const SOCKET_DEADLINE: Duration = Duration::from_secs(20);

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection is not there (any more): the same message may be sent later.
    #[error("not connected to WhatsApp")]
    NotConnected,
    /// WhatsApp does not want it for the moment: the same message is sent later, not before the time
    /// asked for.
    #[error("WhatsApp does not take the message for the moment ({code})")]
    PutOff { code: u16, after: Option<Duration> },
    /// The message itself cannot be sent, now or later.
    #[error("the message cannot be sent")]
    Refused(#[source] BoxError),
}

/// Sends through one link.
#[derive(Clone)]
pub(in crate::session) struct Sender {
    pub(super) client: Arc<Client>,
    pub(super) progress: Progress,
    pub(super) barrier: Barrier,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Writes a stored message to the socket, under the id that it was stored with.
    pub(in crate::session) async fn send(&self, row: &message::Model) -> Result<(), SendError> {
        if !self.client.is_logged_in() {
            return Err(SendError::NotConnected);
        }
        let to: wacore_binary::Jid =
            row.chat.parse().map_err(|error| SendError::Refused(Box::new(error)))?;
        let options = SendOptions::default().with_message_id(row.wa_id.clone());
        let _sending = self.barrier.sending();
        let sending = self.client.send_message_with_options(to, translate::outbound(row), options);
        let Ok(sent) = tokio::time::timeout(SEND_DEADLINE, sending).await else {
            // A connection that a message does not get through is no connection.
            tracing::error!("A message was not on its way in time; the connection is given up");
            self.progress.cut();
            return Err(SendError::NotConnected);
        };
        match sent {
            Ok(_) => Ok(()),
            // Whatever the library calls it: without a connection it is a matter of time.
            Err(_) if !self.client.is_logged_in() => Err(SendError::NotConnected),
            Err(error) => Err(unsent(error)),
        }
    }

    /// Asks for an 8-character pairing code for the phone with this number.
    pub(super) async fn pair(
        &self,
        phone_number: String,
        clock: &Clock,
    ) -> Result<PairingCode, PairError> {
        if self.client.wait_for_socket(SOCKET_DEADLINE).await.is_err() {
            return Err(PairError::Unreachable);
        }
        let options = PairCodeOptions { phone_number, ..PairCodeOptions::default() };
        // The library's own count begins before it asks.
        let expires_at = clock.now() + PairCodeUtils::code_validity();
        match self.client.pair_with_code(options).await {
            Ok(code) => Ok(PairingCode { code, expires_at }),
            Err(error) => Err(translate::pair_error(&error)),
        }
    }
}

/// Why a message was not sent over a connection that is there.
fn unsent(error: ClientSendError) -> SendError {
    match answered(&error) {
        Some((code, after)) if passes(code) => return SendError::PutOff { code, after },
        // The server has said no to what the message needs: a group that we are not in.
        Some(_) => return SendError::Refused(Box::new(error)),
        None => {}
    }
    match error {
        ClientSendError::NotLoggedIn
        | ClientSendError::Iq(_)
        | ClientSendError::Client(
            ClientError::NotConnected
            | ClientError::NotLoggedIn
            | ClientError::Socket(_)
            | ClientError::EncryptSend(_)
            | ClientError::Iq(_),
        ) => SendError::NotConnected,
        error => SendError::Refused(Box::new(error)),
    }
}

/// What the server has answered to a question that a message needed an answer to, and how long it wants
/// us to wait: the library wraps it in several ways.
fn answered(error: &ClientSendError) -> Option<(u16, Option<Duration>)> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(IqError::ServerError { code, backoff, .. }) = error.downcast_ref() {
            return Some((*code, backoff.map(|seconds| Duration::from_secs(seconds.into()))));
        }
        cause = error.source();
    }
    None
}
