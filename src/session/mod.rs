//! WhatsApp sessions: one task each, and the handle that the rest of the program holds.
//!
//! - [`Sessions`] (`manager.rs`) starts, finds and stops them. It is all that services see.
//!   `standing.rs` reads from a row what it says of an end.
//! - `runner.rs` is the task: dial, be online, back off, in a loop, until it is told to stop or
//!   WhatsApp says that there is no point. `online.rs` is what it does while a client is up.
//! - `outbox/` sends what is stored as queued, in order, and again what WhatsApp has not taken.
//! - `pairing.rs` asks for the code to type; `identity.rs` says whose session it is.
//! - `ingest.rs` records what happened; `client/` is the only place that knows the client library.
//! - `ownership/` knows which sessions are ours to run, among the daemons that share a database.
//! - `policy.rs` decides what happens when a client has ended, and after a restart of the process.
//!   `pace.rs` limits dials over all sessions; `backoff.rs` says how long one waits; `watch.rs` notices
//!   that a connection has gone silent.
//!   `panics.rs` contains what panics.
//! - `media/` has the files of messages, downloaded when somebody asks for them.
//! - `history.rs` says what is kept of an account's past, and what that may cost.
//! - [`view`] computes what a session looks like from outside.
//!
//! # Who may write what
//!
//! The database row is the status; there is no second copy. A runner changes it only by recording
//! events, which carry the generation of its run: once a newer run has begun, what an older one
//! says of its status changes nothing. What the operator wants (`desired_state`) is written by
//! services alone.

mod backoff;
mod client;
mod history;
mod identity;
mod ingest;
mod manager;
mod media;
mod online;
mod outbox;
mod ownership;
mod pace;
mod pairing;
mod panics;
mod policy;
mod recovery;
mod runner;
mod standing;
pub mod view;
mod watch;

use std::time::Duration;

use entity::{UnixMillis, state::SessionStatus};

pub use self::{
    client::{OpenError, PairError, SendError},
    history::{HistoryStats, Keep, Settings as HistorySettings},
    identity::OnOtherAccount,
    manager::Sessions,
    media::{
        AtMeta, Blank, Media, MediaError, MediaFile, MediaKind, Obstacle,
        Settings as MediaSettings, Spot, ToldMedia,
    },
    outbox::{NOT_ON_WHATSAPP, SendStats},
    ownership::{Membership, Ownership},
    pace::DialStats,
};
use crate::store;

/// How long giving the sessions back takes at most, when all have stopped.
pub const LONGEST_LEAVING: Duration = manager::LEAVING;

/// How long one session takes at most to stop: what it sends at the moment, then its client.
pub const LONGEST_CLOSE: Duration = online::DRAIN_GRACE.saturating_add(client::CLOSE_DEADLINE);

/// How sessions reach WhatsApp.
#[derive(Clone, Debug)]
pub struct Options {
    /// The WhatsApp Web version to say we are; asked of WhatsApp once per process when absent.
    pub version: Option<(u32, u32, u32)>,
    /// The server to dial instead of WhatsApp's. Whatever is dialled must prove that it is
    /// WhatsApp, unless this build has the `simulator` feature.
    pub url: Option<String>,
    /// What a phone shows in its list of linked devices.
    pub device_name: String,
    /// Clients with six QR codes each that an unpaired session is given before it is left alone.
    pub max_qr_rounds: u32,
    /// Sessions that may be dialling at the same time.
    pub dial_concurrency: u32,
    /// Dials begun per second, over all sessions.
    pub dial_rate_per_second: u32,
    /// What is kept of the past of newly paired accounts.
    pub history: HistorySettings,
    /// What downloads of media may cost.
    pub media: MediaSettings,
    /// What to do when a session that belongs to one account is linked to another.
    pub on_other_account: OnOtherAccount,
    /// How long after another client has taken a connection over it is tried once more; never, if
    /// none.
    pub replaced_retry_after: Option<Duration>,
}

impl Options {
    fn rules(&self) -> policy::Rules {
        policy::Rules {
            max_qr_rounds: self.max_qr_rounds,
            replaced_retry_after: self.replaced_retry_after,
        }
    }
}

/// Why a session did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such session")]
    NotFound,
    #[error("the session is not running")]
    NotRunning,
    #[error("the session is not connected")]
    NotConnected { status: SessionStatus },
    /// `node` is what people call it; empty while it is being found out.
    #[error("another daemon runs the session")]
    Elsewhere { node: String },
    #[error("the database was away for so long that the sessions may be somebody else's")]
    NoLease,
    #[error("the session is paired already")]
    AlreadyPaired,
    #[error("the session has too many requests waiting")]
    Busy,
    #[error("the daemon is stopping")]
    Stopping,
    #[error("the pairing code was not given")]
    Pair(#[source] PairError),
    #[error("the message was not sent")]
    Send(#[source] SendError),
    #[error("the phone did not upload the media again")]
    Media(#[source] MediaError),
    #[error("the session did not answer in time")]
    Timeout,
    #[error("the database failed")]
    Store(#[from] store::Error),
}

/// A code to type on the phone, instead of scanning a QR image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairingCode {
    /// Eight characters, without the dash that phones show in the middle.
    pub code: String,
    pub expires_at: UnixMillis,
}

/// What came of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedOut {
    /// Whether WhatsApp could be told. When not, the phone still lists the device until its owner
    /// removes it.
    pub unlinked: bool,
}
