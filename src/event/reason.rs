//! Why a session ended, in stable words.

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

/// What WhatsApp refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The pairing did not come about.
    PairingRefused { detail: String },
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
            Self::PairingRefused { detail } => format!("WhatsApp refused the pairing: {detail}"),
            Self::MultideviceUnavailable => {
                "The phone that scanned the code cannot link devices".to_owned()
            }
            Self::CredentialsRefused { .. } => {
                "WhatsApp refused this linked device: pair it again".to_owned()
            }
            Self::AccountLocked => "WhatsApp has locked this account".to_owned(),
            Self::Banned { .. } => "WhatsApp has banned this account for a while".to_owned(),
            Self::ClientOutdated => {
                "WhatsApp refuses this client version: update wagate".to_owned()
            }
            Self::ConnectRefused { code } => {
                format!("WhatsApp refused the connection (reason {code})")
            }
            Self::ServerNotTrusted => {
                "The server's certificate is not WhatsApp's: the connection was refused".to_owned()
            }
        }
    }

    /// WhatsApp's own code, where it gave one.
    pub const fn code(&self) -> Option<i32> {
        match self {
            Self::CredentialsRefused { code }
            | Self::Banned { code, .. }
            | Self::ConnectRefused { code } => Some(*code),
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
