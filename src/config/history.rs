//! `[history]`: what a session keeps of the past that its phone hands over after a pairing.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// The past of newly paired accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How much is kept of the past that a phone hands over after a pairing.
    pub mode: Mode,
    /// With `limited`: messages of at most so many days.
    pub days: u32,
    /// With `limited`: at most so many messages of one chat, the newest.
    pub messages_per_chat: u32,
    /// Compressed history that all sessions together may hold in memory. A session whose turn it is
    /// not waits.
    #[schemars(with = "shape::Size")]
    pub memory: ByteSize,
    /// Chunks that are unpacked at the same time, over all sessions. Each takes a thread, and as
    /// much memory as its largest chat.
    pub concurrency: u32,
    /// The most that one chunk may unpack to; a larger one is left out.
    #[schemars(with = "shape::Size")]
    pub max_chunk: ByteSize,
    /// The most that the chunks of one session may unpack to while it is connected; what comes
    /// after is left out.
    #[schemars(with = "shape::Size")]
    pub max_session: ByteSize,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: it is not even fetched.
    Off,
    /// Recent messages: see `days` and `messages_per_chat`.
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

impl Ruled for History {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "history.days",
            must: "must be between 1 and 100000",
            holds: |it| (1..=100_000).contains(&it.days),
        },
        Rule {
            key: "history.messages_per_chat",
            must: "must be between 1 and 100000",
            holds: |it| (1..=100_000).contains(&it.messages_per_chat),
        },
        Rule {
            key: "history.concurrency",
            must: "must be between 1 and 64",
            holds: |it| (1..=64).contains(&it.concurrency),
        },
        Rule {
            key: "history.memory",
            must: "must be between 1MiB and 64GiB",
            holds: |it| (ByteSize::mib(1)..=ByteSize::gib(64)).contains(&it.memory),
        },
        Rule {
            key: "history.max_chunk",
            must: "must be at least 64KiB",
            holds: |it| it.max_chunk >= ByteSize::kib(64),
        },
        Rule {
            key: "history.max_session",
            must: "must be at least 64KiB",
            holds: |it| it.max_session >= ByteSize::kib(64),
        },
    ];
}
