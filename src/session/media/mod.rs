//! Media of messages: what a message says of it, and how it gets here.
//!
//! It is downloaded when somebody asks for it, from WhatsApp's media hosts, by any daemon: the keys are in
//! the message, the hosts are known, and no session is needed. What was decrypted and verified is kept for a
//! while as a file without a name (`depot.rs`, `file.rs`), so that a player that reads in pieces is no second
//! download. `client/media/` has what the client library does of it.
//!
//! Of a number at Meta's a message has an id of its file (`cloud.rs`), which whoever has the account's token asks Meta for.
//!
//! Nothing that a message says names a host. Its `url` and `staticUrl` are whatever its sender has written
//! there; they are not even read.

mod cloud;
mod depot;
mod file;
mod spot;
mod told;

use std::{fmt, path::PathBuf, time::Duration};

use entity::{kind::MessageKind, state::SessionStatus};
use zeroize::Zeroizing;

pub use self::{
    cloud::AtMeta,
    file::MediaFile,
    spot::{Blank, Spot},
    told::ToldMedia,
};
pub(super) use self::{
    depot::{Depot, Found, PATIENCE},
    file::nameless,
};

/// What downloads may cost, over all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where files without a name are made.
    pub directory: PathBuf,
    /// The largest file that is downloaded.
    pub max_size: u64,
    /// Bytes of all files together: those that come, are kept, and are being read.
    pub spool: u64,
    /// How long a file is kept after it was last asked for.
    pub keep: Duration,
    /// Downloads at the same time; half of them for one organization.
    pub concurrency: u32,
    /// How long one download may take.
    pub time_limit: Duration,
}

/// Of what kind media is. It says how WhatsApp has encrypted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Video,
    Audio,
    Document,
    Sticker,
}

/// What a message says of its media. Its sender has written that: nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub kind: MediaKind,
    pub mimetype: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    pub file_name: Option<String>,
    /// Pixels.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub seconds: Option<u32>,
    /// Recorded to be heard, and no file.
    pub is_voice: bool,
    /// To be opened once, on a phone.
    pub is_view_once: bool,
    /// Where it is, if the message says so.
    pub(super) source: Option<Source>,
    /// The same of a message to a number at Meta's.
    pub at_meta: Option<AtMeta>,
}

impl Media {
    /// Media of this kind, of which nothing is known.
    pub const fn of_kind(kind: MediaKind) -> Self {
        Self {
            kind,
            mimetype: None,
            size: None,
            file_name: None,
            width: None,
            height: None,
            seconds: None,
            is_voice: false,
            is_view_once: false,
            source: None,
            at_meta: None,
        }
    }

    /// What a message to a number at Meta's says of its file, as Meta told it; a hash is read by `hash`.
    pub fn of_cloud(
        raw: &[u8],
        kind: MessageKind,
        hash: impl Fn(&str) -> Option<[u8; 32]>,
    ) -> Option<Self> {
        cloud::read(raw, kind, hash)
    }

    /// What the file hashes to, if that is known before it is fetched.
    pub fn sha256(&self) -> Option<&[u8; 32]> {
        let at_meta = || self.at_meta.as_ref()?.sha256.as_ref();
        self.source.as_ref().map(|source| &source.sha256).or_else(at_meta)
    }

    /// Whether it can be fetched.
    pub const fn is_somewhere(&self) -> bool {
        self.source.is_some() || self.at_meta.is_some()
    }
}

/// Where media is, and what opens it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The path at any of WhatsApp's hosts.
    pub(super) path: String,
    /// None of what a channel has published, which is not encrypted.
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    pub(super) sha256: [u8; 32],
    pub(super) encrypted_sha256: Option<Vec<u8>>,
}

// Whoever has this can read the file.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// What a phone is told when it is to upload media again.
#[derive(Clone)]
pub(super) struct Renewal {
    pub(super) wa_id: String,
    pub(super) chat: String,
    pub(super) sender: String,
    pub(super) is_from_me: bool,
    pub(super) key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").finish_non_exhaustive()
    }
}

/// Why there is no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("the message has no media that could be downloaded")]
    None,
    #[error("the media is to be viewed once, on a phone: it is not handed out")]
    ViewOnce,
    #[error("the media is larger than what is downloaded: at most {limit} bytes are")]
    TooLarge { size: Option<u64>, limit: u64 },
    #[error("WhatsApp no longer has the media, and the phone cannot upload it again")]
    Gone,
    #[error("what WhatsApp has is not what the message announced")]
    Damaged,
    #[error("{}", .0.sentence())]
    Unavailable(Obstacle),
}

/// What keeps media from being here, and passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Too much else is being downloaded, or read.
    Busy,
    /// It is on its way.
    Fetching,
    Unreachable,
    /// The phone was asked to upload it again, and has not answered.
    PhoneSilent,
    /// WhatsApp no longer has it; the phone could be asked if the session were connected.
    NotConnected(SessionStatus),
    /// Meta does not hand it out to the account, whose token may be dead.
    Refused,
    /// There is no room for it on the disk, or the daemon is stopping.
    Failed,
}

impl Obstacle {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Fetching => "fetching",
            Self::Unreachable => "unreachable",
            Self::PhoneSilent => "phone_silent",
            Self::NotConnected(_) => "session_not_connected",
            Self::Refused => "meta_refused",
            Self::Failed => "failed",
        }
    }

    /// The sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Busy => "too much media is being downloaded at the moment",
            Self::Fetching => "the media is on its way",
            Self::Unreachable => "the media hosts could not be reached",
            Self::PhoneSilent => {
                "WhatsApp no longer has the media; the phone was asked for it and has not answered"
            }
            Self::NotConnected(_) => {
                "WhatsApp no longer has the media; the phone can be asked for it when the session is connected"
            }
            Self::Refused => {
                "Meta does not hand out the media: the account is gone, is disabled, or has no access token that is good"
            }
            Self::Failed => "the media could not be stored",
        }
    }

    /// When to ask again.
    pub const fn retry_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::Fetching => 2,
            Self::Busy | Self::Failed => 5,
            Self::Unreachable => 15,
            Self::NotConnected(_) => 30,
            Self::PhoneSilent | Self::Refused => 60,
        })
    }
}

impl MediaError {
    /// For how long the same is answered without trying again: nobody's page may ask a phone, or a media
    /// host, each time that it is loaded.
    pub(super) const fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Gone => Some(Duration::from_mins(5)),
            Self::Damaged | Self::Unavailable(Obstacle::PhoneSilent) => {
                Some(Duration::from_mins(1))
            }
            Self::Unavailable(Obstacle::Unreachable | Obstacle::Refused) => {
                Some(Duration::from_secs(5))
            }
            _ => None,
        }
    }
}
