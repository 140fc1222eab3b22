//! What a client that runs elsewhere says of its connection, in its own words.

use entity::state::SessionStatus;

/// What a client that runs elsewhere says of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub what: Reported,
    /// The number that it says it belongs to: digits only, with country code.
    pub phone_number: Option<String>,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    State(ClientState),
    /// It has ended, for this reason.
    Disconnected {
        reason: String,
    },
    /// WhatsApp has refused it, with this message.
    AuthFailure {
        msg: String,
    },
}

/// A state of the connection: those of whatsapp-web.js, and what others call theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientState {
    Connecting,
    Reconnecting,
    Unlaunched,
    Opening,
    Pairing,
    Timeout,
    Connected,
    Disconnected,
    Unpaired,
    UnpairedIdle,
    Conflict,
    TosBlock,
    SmbTosBlock,
    ProxyBlock,
    DeprecatedVersion,
    Error,
}

impl ClientState {
    pub const ALL: [Self; 16] = [
        Self::Connecting,
        Self::Reconnecting,
        Self::Unlaunched,
        Self::Opening,
        Self::Pairing,
        Self::Timeout,
        Self::Connected,
        Self::Disconnected,
        Self::Unpaired,
        Self::UnpairedIdle,
        Self::Conflict,
        Self::TosBlock,
        Self::SmbTosBlock,
        Self::ProxyBlock,
        Self::DeprecatedVersion,
        Self::Error,
    ];

    /// The word that its client, streams and webhooks use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Reconnecting => "reconnecting",
            Self::Unlaunched => "UNLAUNCHED",
            Self::Opening => "OPENING",
            Self::Pairing => "PAIRING",
            Self::Timeout => "TIMEOUT",
            Self::Connected => "CONNECTED",
            Self::Disconnected => "disconnected",
            Self::Unpaired => "UNPAIRED",
            Self::UnpairedIdle => "UNPAIRED_IDLE",
            Self::Conflict => "CONFLICT",
            Self::TosBlock => "TOS_BLOCK",
            Self::SmbTosBlock => "SMB_TOS_BLOCK",
            Self::ProxyBlock => "PROXYBLOCK",
            Self::DeprecatedVersion => "DEPRECATED_VERSION",
            Self::Error => "error",
        }
    }

    /// The state of a word, in whichever case it is written.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word().eq_ignore_ascii_case(word))
    }

    /// What a session is whose client says so.
    pub const fn status(self) -> SessionStatus {
        match self {
            Self::Connecting
            | Self::Reconnecting
            | Self::Unlaunched
            | Self::Opening
            | Self::Pairing
            | Self::Timeout => SessionStatus::Connecting,
            Self::Connected => SessionStatus::SessionConnected,
            Self::Disconnected | Self::Unpaired | Self::UnpairedIdle | Self::Conflict => {
                SessionStatus::SessionNotConnected
            }
            Self::TosBlock
            | Self::SmbTosBlock
            | Self::ProxyBlock
            | Self::DeprecatedVersion
            | Self::Error => SessionStatus::Error,
        }
    }

    /// The sentence for people; none where that of the status says it all.
    pub const fn sentence(self) -> Option<&'static str> {
        match self {
            Self::Connecting | Self::Connected | Self::Disconnected | Self::Error => None,
            Self::Reconnecting => Some("Connection lost, reconnecting to WhatsApp"),
            Self::Unlaunched | Self::Opening => Some("WhatsApp Web is being opened"),
            Self::Pairing => Some("The client is being paired"),
            Self::Timeout => Some("The phone does not answer, trying again"),
            Self::Unpaired | Self::UnpairedIdle => Some("Not linked: pair the device again"),
            Self::Conflict => Some("WhatsApp Web is in use elsewhere"),
            Self::TosBlock | Self::SmbTosBlock => Some("WhatsApp has blocked the account"),
            Self::ProxyBlock => Some("WhatsApp refuses the client's proxy"),
            Self::DeprecatedVersion => Some("WhatsApp refuses the client's version"),
        }
    }

    /// Whether the connection is not there any more in it.
    pub const fn is_end(self) -> bool {
        matches!(self.status(), SessionStatus::SessionNotConnected | SessionStatus::Error)
            || matches!(self, Self::Reconnecting | Self::Timeout)
    }
}

impl Report {
    /// What a session is of which this is said.
    pub const fn status(&self) -> SessionStatus {
        match &self.what {
            Reported::State(state) => state.status(),
            Reported::Disconnected { .. } => SessionStatus::SessionNotConnected,
            Reported::AuthFailure { .. } => SessionStatus::AuthFailure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_known_by_its_word_in_either_case() {
        for state in ClientState::ALL {
            assert_eq!(ClientState::of_word(state.word()), Some(state));
            assert_eq!(ClientState::of_word(&state.word().to_ascii_lowercase()), Some(state));
        }
        assert_eq!(ClientState::of_word("PAIRED"), None);
    }

    /// The table of the contract.
    #[test]
    fn the_words_of_whatsapp_web_mean_what_the_contract_says() {
        let status = |word| ClientState::of_word(word).map(ClientState::status);
        for word in ["connecting", "OPENING", "PAIRING", "TIMEOUT", "reconnecting"] {
            assert_eq!(status(word), Some(SessionStatus::Connecting), "{word}");
        }
        assert_eq!(status("CONNECTED"), Some(SessionStatus::SessionConnected));
        for word in ["UNPAIRED", "UNPAIRED_IDLE", "CONFLICT"] {
            assert_eq!(status(word), Some(SessionStatus::SessionNotConnected), "{word}");
        }
        for word in ["TOS_BLOCK", "SMB_TOS_BLOCK", "PROXYBLOCK", "DEPRECATED_VERSION"] {
            assert_eq!(status(word), Some(SessionStatus::Error), "{word}");
        }
    }
}
