//! Why a session ended or its connection was lost, in stable words.

use entity::UnixMillis;

/// Why a session stopped for good, until somebody does something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The account's owner removed the linked device, on the phone.
    LoggedOut { code: Option<i32> },
    /// Unlinked through this API.
    LoggedOutHere,
    /// Another client connected with the same credentials.
    Replaced,
    /// Nobody scanned any of the codes offered.
    QrCodesExhausted,
    /// The operator stopped it.
    Stopped,
    /// Its own task has failed again and again.
    Failed,
    /// The database was restored from a copy: another copy of the device may be in use.
    Restored,
}

impl Disconnect {
    /// The stable word: what `lastDisconnect.reason` and the event's `reason` say.
    pub const fn word(self) -> &'static str {
        match self {
            Self::LoggedOut { .. } => "logged_out",
            Self::LoggedOutHere => "logged_out_here",
            Self::Replaced => "replaced",
            Self::QrCodesExhausted => "qr_codes_exhausted",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Restored => "restored",
        }
    }

    /// The sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::LoggedOut { .. } => "Logged out on the phone: pair the device again",
            Self::LoggedOutHere => "Logged out: pair the device again to use it",
            Self::Replaced => "Another client took over this linked device",
            Self::QrCodesExhausted => "No QR code was scanned in time: start the session again",
            Self::Stopped => "Stopped by the operator",
            Self::Failed => "The session failed again and again: see the log, then start it again",
            Self::Restored => {
                "The database was restored from a copy: start the session if no other copy runs"
            }
        }
    }

    /// WhatsApp's own code, where it gave one.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::LoggedOut { code } => code,
            _ => None,
        }
    }
}

/// Why a connection was lost, or did not come about. It is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The server or the network ended it.
    ConnectionLost,
    /// There is no way to the server, or no answer from it.
    Unreachable,
    /// The server could not prove that it is WhatsApp's.
    ServerNotTrusted,
    /// Nothing came any more, not even an answer to a ping.
    Silent,
    /// It took too long until the server had answered.
    DialTimeout,
    /// The server answered, and did not let us log in or refuse us in time.
    LoginTimeout,
    /// A pairing did not come further in time.
    PairingTimeout,
    /// Catching up took too long.
    LoadingTimeout,
    /// The server ended the stream with an error.
    StreamError { code: Option<i32> },
    /// The server is not available at the moment.
    ServerUnavailable { code: i32 },
    /// WhatsApp wants fewer dials from this address.
    RateLimited,
    /// The client could not be started.
    ClientFailed,
    /// What happened could not be written down, so the session's status did not say it.
    NotRecorded,
    /// The session's own task failed.
    Panicked,
    /// This process ended, and a new one goes on.
    Restarted,
}

impl Loss {
    /// The stable word: what `lastDisconnect.reason` and the event's `reason` say.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection_lost",
            Self::Unreachable => "unreachable",
            Self::ServerNotTrusted => "server_not_trusted",
            Self::Silent => "silent",
            Self::DialTimeout => "dial_timeout",
            Self::LoginTimeout => "login_timeout",
            Self::PairingTimeout => "pairing_timeout",
            Self::LoadingTimeout => "loading_timeout",
            Self::StreamError { .. } => "stream_error",
            Self::ServerUnavailable { .. } => "server_unavailable",
            Self::RateLimited => "rate_limited",
            Self::ClientFailed => "client_failed",
            Self::NotRecorded => "not_recorded",
            Self::Panicked => "panicked",
            Self::Restarted => "restarted",
        }
    }

    /// The sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ConnectionLost => "Connection lost, reconnecting to WhatsApp",
            Self::Unreachable => "WhatsApp cannot be reached, trying again",
            Self::ServerNotTrusted => {
                "The server could not prove that it is WhatsApp, trying again"
            }
            Self::Silent => "The connection went silent, reconnecting to WhatsApp",
            Self::DialTimeout => "WhatsApp did not answer in time, trying again",
            Self::LoginTimeout => "WhatsApp did not complete the login in time, trying again",
            Self::PairingTimeout => "The pairing did not come further in time, trying again",
            Self::LoadingTimeout => "Catching up took too long, reconnecting to WhatsApp",
            Self::StreamError { .. } => "WhatsApp ended the connection, reconnecting",
            Self::ServerUnavailable { .. } => "WhatsApp is not available, trying again",
            Self::RateLimited => "WhatsApp asks for fewer connections, waiting",
            Self::ClientFailed => "The client could not be started, trying again",
            Self::NotRecorded => "The database refused what happened, trying again",
            Self::Panicked => "The session failed and begins anew",
            Self::Restarted => "The gateway was restarted, reconnecting to WhatsApp",
        }
    }

    /// WhatsApp's own code, where it gave one.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::StreamError { code } => code,
            Self::ServerUnavailable { code } => Some(code),
            Self::RateLimited => Some(429),
            _ => None,
        }
    }
}

/// What WhatsApp refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The pairing did not come about. `code`: WhatsApp's, if it is WhatsApp that refused it.
    PairingRefused { detail: String, code: Option<i32> },
    /// Another account was linked than the one the session belongs to. `unlinked`: WhatsApp confirmed
    /// that the new device is gone again.
    OtherAccount { unlinked: bool },
    /// The phone that scanned the code cannot have linked devices.
    MultideviceUnavailable,
    /// The credentials were refused on connect: `code` is WhatsApp's failure reason.
    CredentialsRefused { code: i32 },
    /// The account is locked (failure reason 403).
    AccountLocked,
    /// The account is banned for a while.
    Banned { code: i32, until: UnixMillis },
    /// This client version is too old for WhatsApp (failure reason 405).
    ClientOutdated,
    /// Some other failure on connect: `code` is WhatsApp's failure reason.
    ConnectRefused { code: i32 },
    /// The server could not prove that it is WhatsApp's.
    ServerNotTrusted,
}

impl AuthFailure {
    /// The stable word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::PairingRefused { .. } => "pairing_refused",
            Self::OtherAccount { .. } => "other_account",
            Self::MultideviceUnavailable => "multidevice_unavailable",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::AccountLocked => "account_locked",
            Self::Banned { .. } => "banned",
            Self::ClientOutdated => "client_outdated",
            Self::ConnectRefused { .. } => "connect_refused",
            Self::ServerNotTrusted => "server_not_trusted",
        }
    }

    /// The sentence for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::PairingRefused { detail, .. } => {
                format!("WhatsApp refused the pairing: {detail}")
            }
            Self::OtherAccount { unlinked: true } => {
                "Another account was linked, and unlinked again: start the session and pair it \
                 with the account that it belongs to"
                    .to_owned()
            }
            Self::OtherAccount { unlinked: false } => {
                "Another account was linked: remove the device on its phone, then start the \
                 session and pair it with the account that it belongs to"
                    .to_owned()
            }
            Self::MultideviceUnavailable => {
                "The phone that scanned the code cannot link devices".to_owned()
            }
            Self::CredentialsRefused { .. } => {
                "WhatsApp refused this linked device: pair it again".to_owned()
            }
            Self::AccountLocked => "WhatsApp has locked this account".to_owned(),
            Self::Banned { .. } => "WhatsApp has banned this account for a while".to_owned(),
            Self::ClientOutdated => {
                "WhatsApp refuses this client version; trying again with its current one".to_owned()
            }
            Self::ConnectRefused { code } => {
                format!("WhatsApp refused the connection (reason {code})")
            }
            Self::ServerNotTrusted => {
                "The server's certificate is not WhatsApp's: the connection was refused".to_owned()
            }
        }
    }

    /// Whether it is a pairing that failed.
    pub const fn is_of_pairing(&self) -> bool {
        matches!(
            self,
            Self::PairingRefused { .. } | Self::OtherAccount { .. } | Self::MultideviceUnavailable
        )
    }

    /// WhatsApp's own code, where it gave one.
    pub const fn code(&self) -> Option<i32> {
        match self {
            Self::CredentialsRefused { code }
            | Self::Banned { code, .. }
            | Self::ConnectRefused { code } => Some(*code),
            Self::PairingRefused { code, .. } => *code,
            Self::AccountLocked => Some(403),
            Self::ClientOutdated => Some(405),
            _ => None,
        }
    }

    /// Until when, where that is known.
    pub const fn until(&self) -> Option<UnixMillis> {
        match self {
            Self::Banned { until, .. } => Some(*until),
            _ => None,
        }
    }
}
