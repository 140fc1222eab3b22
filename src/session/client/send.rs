//! Sending through a link, and asking for a pairing code.

use std::{fmt, sync::Arc, time::Duration};

use entity::message;
use wacore::pair_code::{PairCodeOptions, PairCodeUtils};
use wacore_binary::Jid;
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

/// What stands for WhatsApp's code where it does not answer a question about a recipient.
const NO_ANSWER: u16 = 504;

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
    /// Nobody on WhatsApp has the number that the message is for.
    #[error("nobody on WhatsApp has this number")]
    NotOnWhatsApp,
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
        let to: Jid = row.chat.parse().map_err(|error| SendError::Refused(Box::new(error)))?;
        let options = SendOptions::default().with_message_id(row.wa_id.clone());
        let sending = async {
            self.look_up(&to).await?;
            let _sending = self.barrier.sending();
            let message = translate::outbound(row);
            let sent = self.client.send_message_with_options(to, message, options).await;
            sent.map_err(unsent)
        };
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
            Err(error) => Err(error),
        }
    }

    /// Sees to it that the devices of a person are known, and our own.
    ///
    /// The library finds them out by itself, and writes to the phone alone where it cannot: what is said
    /// to have been sent would never be seen on the recipient's other devices, or by nobody at all.
    async fn look_up(&self, to: &Jid) -> Result<(), SendError> {
        if !to.is_pn() && !to.is_lid() {
            return Ok(());
        }
        if self.devices(to).await?.is_empty() {
            if self.is_nobody(to).await? {
                return Err(SendError::NotOnWhatsApp);
            }
            tracing::warn!(
                "WhatsApp does not say which devices a recipient has; its phone is written to"
            );
        }
        // Copies of what is sent are for the account's own devices.
        let own = self.client.persistence_manager().get_device_snapshot().pn.clone();
        match own {
            Some(own) => self.devices(&own.to_non_ad()).await.map(drop),
            None => Ok(()),
        }
    }

    /// The devices of a person: what is known, or what WhatsApp says.
    async fn devices(&self, of: &Jid) -> Result<Vec<Jid>, SendError> {
        let devices = self.client.signal().get_user_devices(std::slice::from_ref(of)).await;
        devices.map_err(unknown)
    }

    /// Whether WhatsApp says that nobody has this number.
    async fn is_nobody(&self, number: &Jid) -> Result<bool, SendError> {
        let asked = self.client.contacts().is_on_whatsapp(std::slice::from_ref(number)).await;
        let said = asked.map_err(unknown)?;
        Ok(said.iter().any(|it| !it.is_registered && it.contact_error.is_none()))
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
    if answered(&error).is_some() {
        return unanswered(error);
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

/// Why a question that a message needs an answer to has none.
fn unanswered(error: impl std::error::Error + Send + Sync + 'static) -> SendError {
    match answered(&error) {
        Some((code, after)) if passes(code) => SendError::PutOff { code, after },
        // The server has said no: to a group that we are not in, for example.
        Some(_) => SendError::Refused(Box::new(error)),
        None => SendError::NotConnected,
    }
}

/// Why it is not known who a message is for. A question about one person that is not answered must not
/// keep messages to others waiting, so it counts as refused for the moment.
fn unknown(error: impl std::error::Error + Send + Sync + 'static) -> SendError {
    match cause(&error) {
        Some(
            IqError::Timeout | IqError::ParseError(_) | IqError::UnexpectedResponseType { .. },
        ) => SendError::PutOff { code: NO_ANSWER, after: None },
        _ => unanswered(error),
    }
}

/// What the server has answered to a question that a message needed an answer to, and how long it wants
/// us to wait.
fn answered(error: &(dyn std::error::Error + 'static)) -> Option<(u16, Option<Duration>)> {
    match cause(error)? {
        IqError::ServerError { code, backoff, .. } => {
            Some((*code, backoff.map(|seconds| Duration::from_secs(seconds.into()))))
        }
        _ => None,
    }
}

/// What became of a question: the library wraps it in several ways.
fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a IqError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(asked) = error.downcast_ref() {
            return Some(asked);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::{SignalError, anyhow};

    use super::*;

    /// As the look-up of a recipient's devices wraps it.
    fn look_up(error: IqError) -> SendError {
        unknown(SignalError::from(anyhow::Error::from(error)))
    }

    #[test]
    fn a_recipient_who_cannot_be_found_out_keeps_no_other_waiting() {
        let refused = |code| IqError::ServerError {
            code,
            text: String::new(),
            error_type: None,
            backoff: Some(7),
        };
        let after = Some(Duration::from_secs(7));
        let put_off = look_up(refused(429));
        assert!(matches!(put_off, SendError::PutOff { code: 429, after: it } if it == after));
        assert!(matches!(look_up(refused(403)), SendError::Refused(_)));
        let silent = [IqError::Timeout, IqError::ParseError(anyhow::anyhow!("no list"))];
        for error in silent {
            assert!(matches!(look_up(error), SendError::PutOff { code: NO_ANSWER, after: None }));
        }
        assert!(matches!(look_up(IqError::NotConnected), SendError::NotConnected));
    }
}
