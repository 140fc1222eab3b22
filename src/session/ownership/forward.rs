//! Asking the daemon that runs a session, through the database, and answering.

use std::time::Duration;

use entity::{
    UnixMillis,
    id::{MessageId, SessionKey},
    state::SessionStatus,
};
use serde::{Deserialize, Serialize};

use super::Ownership;
use crate::{
    event::PairingFailure,
    session::{Error, LoggedOut, MediaError, Obstacle, PairError, PairingCode, SendError},
};

/// How long an answer is waited for: less than a request may take, so that whoever asked hears which
/// daemon did not answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// How often one looks whether there is an answer.
const LOOK: Duration = Duration::from_millis(100);

/// Looks between two questions whether the owner is still there.
const LOOKS_AT_OWNER: u32 = 10;

/// What can be asked of the owner of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(in crate::session) enum Ask {
    Start,
    Stop,
    Restart,
    Logout,
    Erase {
        logout: bool,
    },
    Pair {
        phone_number: String,
    },
    Send {
        message: String,
    },
    /// Have the phone upload the media of a message again, and write down where it is.
    RenewMedia {
        message: String,
    },
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(in crate::session) enum Answer {
    Done,
    LoggedOut { unlinked: bool },
    Code { code: String, expires_at: UnixMillis },
    No { why: Refusal },
}

/// An [`Error`], on its way to another daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub(in crate::session) enum Refusal {
    NotFound,
    NotRunning,
    NotConnected {
        status: SessionStatus,
    },
    AlreadyPaired,
    Busy,
    Stopping,
    Timeout,
    Elsewhere {
        node: String,
    },
    PhoneNumberInvalid,
    CodeOutstanding {
        millis: u64,
    },
    PairingRefused {
        failure: PairingFailure,
        retry_after_millis: Option<u64>,
    },
    WhatsAppSilent,
    SendNotConnected,
    SendPutOff {
        code: u16,
        after_millis: Option<u64>,
    },
    SendRefused {
        detail: String,
    },
    SendToNobody,
    MediaGone,
    PhoneSilent,
    /// What helps is to ask again.
    Failed,
}

impl Ask {
    /// A message, to be sent.
    pub(in crate::session) fn send(message: &MessageId) -> Self {
        Self::Send { message: message.to_string() }
    }
}

impl Answer {
    pub(in crate::session) fn of(outcome: Result<Self, Error>) -> Self {
        outcome.unwrap_or_else(|error| Self::No { why: Refusal::of(error) })
    }

    fn into_outcome(self) -> Result<Self, Error> {
        match self {
            Self::No { why } => Err(why.into_error()),
            answer => Ok(answer),
        }
    }

    /// What came of a logout.
    pub(in crate::session) fn logged_out(&self) -> LoggedOut {
        LoggedOut { unlinked: matches!(self, Self::LoggedOut { unlinked: true }) }
    }

    /// The code that was asked for.
    pub(in crate::session) fn code(self) -> Result<PairingCode, Error> {
        match self {
            Self::Code { code, expires_at } => Ok(PairingCode { code, expires_at }),
            _ => Err(Error::Timeout),
        }
    }
}

impl Refusal {
    fn of(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::NotRunning => Self::NotRunning,
            Error::NotConnected { status } => Self::NotConnected { status },
            Error::AlreadyPaired => Self::AlreadyPaired,
            Error::Busy => Self::Busy,
            Error::Stopping => Self::Stopping,
            Error::Timeout => Self::Timeout,
            Error::Elsewhere { node } => Self::Elsewhere { node },
            Error::Pair(PairError::InvalidPhoneNumber) => Self::PhoneNumberInvalid,
            Error::Pair(PairError::Outstanding { remaining }) => {
                Self::CodeOutstanding { millis: millis(remaining) }
            }
            Error::Pair(PairError::Refused { failure, retry_after }) => {
                Self::PairingRefused { failure, retry_after_millis: retry_after.map(millis) }
            }
            Error::Pair(PairError::Unreachable) => Self::WhatsAppSilent,
            Error::Send(SendError::NotConnected) => Self::SendNotConnected,
            Error::Send(SendError::PutOff { code, after }) => {
                Self::SendPutOff { code, after_millis: after.map(millis) }
            }
            Error::Send(SendError::NotOnWhatsApp) => Self::SendToNobody,
            Error::Send(SendError::Refused(error)) => {
                Self::SendRefused { detail: error.to_string() }
            }
            Error::Media(MediaError::Gone) => Self::MediaGone,
            Error::Media(_) => Self::PhoneSilent,
            error @ (Error::NoLease | Error::Store(_)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "What another daemon asked for failed"
                );
                Self::Failed
            }
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::NotFound => Error::NotFound,
            Self::NotRunning => Error::NotRunning,
            Self::NotConnected { status } => Error::NotConnected { status },
            Self::AlreadyPaired => Error::AlreadyPaired,
            Self::Busy => Error::Busy,
            Self::Stopping => Error::Stopping,
            Self::Timeout | Self::Failed => Error::Timeout,
            Self::Elsewhere { node } => Error::Elsewhere { node },
            Self::PhoneNumberInvalid => Error::Pair(PairError::InvalidPhoneNumber),
            Self::CodeOutstanding { millis } => {
                Error::Pair(PairError::Outstanding { remaining: Duration::from_millis(millis) })
            }
            Self::PairingRefused { failure, retry_after_millis } => {
                let retry_after = retry_after_millis.map(Duration::from_millis);
                Error::Pair(PairError::Refused { failure, retry_after })
            }
            Self::WhatsAppSilent => Error::Pair(PairError::Unreachable),
            Self::SendNotConnected => Error::Send(SendError::NotConnected),
            Self::SendPutOff { code, after_millis } => {
                let after = after_millis.map(Duration::from_millis);
                Error::Send(SendError::PutOff { code, after })
            }
            Self::SendToNobody => Error::Send(SendError::NotOnWhatsApp),
            Self::MediaGone => Error::Media(MediaError::Gone),
            Self::PhoneSilent => Error::Media(MediaError::Unavailable(Obstacle::PhoneSilent)),
            Self::SendRefused { detail } => Error::Send(SendError::Refused(detail.into())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What became of a question.
pub(in crate::session) enum Asked {
    Answered(Answer),
    /// Nobody owns the session any more, and nobody has taken the question.
    Vacant,
}

impl Ownership {
    /// Asks the owner of a session, whose name is `node`, and waits for its answer.
    pub(in crate::session) async fn ask(
        &self,
        key: &SessionKey,
        node: String,
        ask: &Ask,
    ) -> Result<Asked, Error> {
        let commands = self.store.commands();
        // Text and numbers only: nothing here can fail to be written.
        let request = serde_json::to_string(ask).unwrap_or_default();
        let Some(letter) = commands.ask(key, &request, PATIENCE).await? else {
            return Ok(Asked::Vacant);
        };
        let deadline = self.clock.monotonic() + PATIENCE;
        let mut looks = 0;
        while self.clock.monotonic() < deadline {
            tokio::time::sleep(LOOK).await;
            let Some(reply) = commands.find(&letter).await? else { return Ok(Asked::Vacant) };
            if let Some(answer) = reply.answer {
                commands.withdraw(&letter, false).await?;
                let answer = serde_json::from_str(&answer).unwrap_or(Answer::No {
                    // From a daemon of another version.
                    why: Refusal::Failed,
                });
                return answer.into_outcome().map(Asked::Answered);
            }
            looks += 1;
            if looks % LOOKS_AT_OWNER == 0
                && !reply.taken
                && self.owner(key).await?.is_none()
                && commands.withdraw(&letter, true).await?
            {
                return Ok(Asked::Vacant);
            }
        }
        commands.withdraw(&letter, false).await?;
        Err(Error::Elsewhere { node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_reads_back() {
        for ask in [Ask::Start, Ask::Erase { logout: true }, Ask::Pair { phone_number: "1".into() }]
        {
            let text = serde_json::to_string(&ask).unwrap();
            assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask, "{text}");
        }
        for error in [
            Error::NotFound,
            Error::NotConnected { status: SessionStatus::Connecting },
            Error::Pair(PairError::Outstanding { remaining: Duration::from_millis(7) }),
            Error::Pair(PairError::Refused {
                failure: PairingFailure::Refused { code: 7 },
                retry_after: None,
            }),
            Error::Send(SendError::NotConnected),
            Error::Send(SendError::NotOnWhatsApp),
            Error::Media(MediaError::Gone),
            Error::Media(MediaError::Unavailable(Obstacle::PhoneSilent)),
            Error::Send(SendError::PutOff { code: 429, after: Some(Duration::from_secs(7)) }),
        ] {
            let said = error.to_string();
            let text = serde_json::to_string(&Answer::of(Err(error))).unwrap();
            let answer: Answer = serde_json::from_str(&text).unwrap();
            assert_eq!(answer.into_outcome().unwrap_err().to_string(), said, "{text}");
        }
    }
}
