//! `[history]`: what a session keeps of the past that its phone hands over after a pairing.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// The past of newly paired accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How much of it is kept.
    pub mode: Mode,
    /// With `limited`: messages of at most so many days.
    pub days: u32,
    /// With `limited`: at most so many messages of one chat, the newest.
    pub messages_per_chat: u32,
    /// Compressed history that all sessions together may hold in memory. A session whose turn it is
    /// not waits.
    pub memory: ByteSize,
    /// Chunks that are unpacked at the same time, over all sessions. Each takes a thread, and as
    /// much memory as its largest chat.
    pub concurrency: u32,
    /// The most that one chunk may unpack to; a larger one is left out.
    pub max_chunk: ByteSize,
    /// The most that the chunks of one session may unpack to while it is connected; what comes
    /// after is left out.
    pub max_session: ByteSize,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: it is not even fetched.
    Off,
    /// Recent messages: see [`History::days`] and [`History::messages_per_chat`].
    Limited,
    /// Whatever the phone hands over.
    Full,
}

impl Default for History {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            days: 30,
            messages_per_chat: 500,
            memory: ByteSize::mib(64),
            concurrency: 2,
            max_chunk: ByteSize::mib(64),
            max_session: ByteSize::gib(2),
        }
    }
}

impl History {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        for (key, value) in
            [("history.days", self.days), ("history.messages_per_chat", self.messages_per_chat)]
        {
            if !(1..=100_000).contains(&value) {
                return Err(Invalid::new(key, "must be between 1 and 100000"));
            }
        }
        if !(1..=64).contains(&self.concurrency) {
            return Err(Invalid::new("history.concurrency", "must be between 1 and 64"));
        }
        if !(ByteSize::mib(1)..=ByteSize::gib(64)).contains(&self.memory) {
            return Err(Invalid::new("history.memory", "must be between 1MiB and 64GiB"));
        }
        for (key, value) in
            [("history.max_chunk", self.max_chunk), ("history.max_session", self.max_session)]
        {
            if value < ByteSize::kib(64) {
                return Err(Invalid::new(key, "must be at least 64KiB"));
            }
        }
        Ok(())
    }
}
