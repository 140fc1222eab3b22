//! The five groups that lists, their summary and metrics sort sessions into.

use entity::state::SessionStatus;

/// What a session is, coarsely. Every session is in exactly one group at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Connected,
    /// Also sessions whose last QR code has expired: there is nothing to scan.
    Disconnected,
    Loading,
    NeedsQr,
    Error,
}

impl Group {
    /// All groups, in the order of the list's summary.
    pub const ALL: [Self; 5] =
        [Self::Connected, Self::Disconnected, Self::Loading, Self::NeedsQr, Self::Error];

    /// The group of a session with this status. `scannable`: it shows a QR code that has not expired.
    pub const fn of(status: SessionStatus, scannable: bool) -> Self {
        match status {
            SessionStatus::SessionConnected => Self::Connected,
            SessionStatus::Connecting | SessionStatus::Loading => Self::Loading,
            SessionStatus::QrGenerated if scannable => Self::NeedsQr,
            SessionStatus::QrGenerated | SessionStatus::SessionNotConnected => Self::Disconnected,
            SessionStatus::AuthFailure | SessionStatus::Error => Self::Error,
        }
    }

    /// The word that the list's summary, its filter and metrics use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Loading => "loading",
            Self::NeedsQr => "needsQR",
            Self::Error => "error",
        }
    }
}
