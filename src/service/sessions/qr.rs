//! The code to scan: the present one, or the next.

use std::{borrow::Cow, fmt, time::Duration};

use entity::{
    UnixMillis,
    id::SessionId,
    state::{DesiredState, Role, SessionStatus},
};
use tokio::time::Instant;

use super::{Error, Principal, Sessions};
use crate::{
    service::events::Bell,
    session::view::{StatusView, typed_only},
};

/// A pairing code that can be scanned. It holds a secret of the pairing.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    pub qr: String,
    pub issued_at: Option<UnixMillis>,
    pub expires_at: Option<UnixMillis>,
    /// Counts the codes of the session.
    pub sequence: i64,
}

// Whoever has the code can read the account's messages: it must not get into a log by accident.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// Why there is no code to scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCode {
    AlreadyConnected,
    NotStarted,
    /// It will come.
    NotYet,
    /// The last one is too old, and the next is not there yet.
    Expired,
    /// A code was scanned, and the phone is being connected.
    Pairing,
    /// WhatsApp refused the session.
    Failed,
    /// The session ended: nobody scanned in time, it was logged out, it was replaced.
    Ended,
    /// The codes are used up; the one to type that was given is good for so long. What comes then shows the status.
    TypedOnly {
        until: UnixMillis,
    },
    /// The one that the caller has is still the newest.
    Unchanged,
}

impl NoCode {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlreadyConnected => "already_connected",
            Self::NotStarted => "not_started",
            Self::NotYet => "not_yet",
            Self::Expired => "expired",
            Self::Pairing => "pairing",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::TypedOnly { .. } => "typed_code_only",
            Self::Unchanged => "unchanged",
        }
    }

    /// The sentence for people.
    pub fn sentence(self) -> Cow<'static, str> {
        let sentence = match self {
            Self::AlreadyConnected => "the session is connected: there is nothing to scan",
            Self::NotStarted => "the session is stopped: start it to get a QR code",
            Self::NotYet => "the QR code is on its way",
            Self::Expired => "the QR code has expired, and the next one is on its way",
            Self::Pairing => "a code was accepted: the session is being connected",
            Self::Failed => "WhatsApp refused the session: see its status",
            Self::Ended => "the session has ended: start it again to get a QR code",
            Self::TypedOnly { until } => return typed_only(until).into(),
            Self::Unchanged => "there is no newer QR code yet",
        };
        sentence.into()
    }

    /// Whether a code can follow without anybody doing anything.
    const fn may_pass(self) -> bool {
        // When the code to type has expired, there may be another series.
        matches!(
            self,
            Self::NotYet | Self::Expired | Self::Pairing | Self::TypedOnly { .. } | Self::Unchanged
        )
    }
}

/// What a session has to scan.
#[derive(Clone, Debug)]
pub enum Qr {
    Code(Code),
    None { why: NoCode, status: SessionStatus },
}

impl Sessions {
    /// The code to scan now.
    pub async fn qr(&self, caller: &Principal, id: &SessionId) -> Result<Qr, Error> {
        caller.require(Role::Viewer)?;
        Ok(present(self.find(caller, id).await?))
    }

    /// The first code that the caller has not `seen`, waiting for it up to `patience`.
    ///
    /// Returns early when waiting has become pointless, above all when the session is connected.
    pub async fn next_qr(
        &self,
        caller: &Principal,
        id: &SessionId,
        seen: impl Fn(&Code) -> bool + Send,
        patience: Duration,
    ) -> Result<Qr, Error> {
        let deadline = Instant::now() + patience;
        let mut bell = Bell::of(&self.store);
        loop {
            let qr = match self.qr(caller, id).await? {
                Qr::Code(code) if seen(&code) => {
                    Qr::None { why: NoCode::Unchanged, status: SessionStatus::QrGenerated }
                }
                qr => qr,
            };
            let waits = matches!(&qr, Qr::None { why, .. } if why.may_pass());
            if !waits || tokio::time::timeout_at(deadline, bell.rung()).await.is_err() {
                return Ok(qr);
            }
        }
    }
}

fn present(view: StatusView) -> Qr {
    let status = view.status;
    let why = match status {
        _ if view.qr.is_some() => {
            return Qr::Code(Code {
                qr: view.qr.unwrap_or_default(),
                issued_at: view.qr_issued_at,
                expires_at: view.qr_expires_at,
                sequence: view.qr_sequence,
            });
        }
        SessionStatus::SessionConnected => NoCode::AlreadyConnected,
        SessionStatus::Loading => NoCode::Pairing,
        SessionStatus::QrGenerated => match view.pairing.typed_until {
            Some(until) => NoCode::TypedOnly { until },
            None => NoCode::Expired,
        },
        SessionStatus::AuthFailure | SessionStatus::Error => NoCode::Failed,
        _ if view.desired_state == DesiredState::Stopped => NoCode::NotStarted,
        SessionStatus::SessionNotConnected if view.last_disconnect.is_some() => NoCode::Ended,
        SessionStatus::SessionNotConnected | SessionStatus::Connecting => NoCode::NotYet,
    };
    Qr::None { why, status }
}
