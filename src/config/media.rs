//! `[media]`: what downloads of messages' media may cost.

use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// Media that is downloaded when somebody asks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// The largest file that is downloaded. WhatsApp takes documents of up to 2 GiB.
    #[schemars(with = "shape::Size")]
    pub max_size: ByteSize,
    /// Room in the state directory for all files together: those that come, that are kept, and that are
    /// being read. They have no name there, and are gone with the process.
    #[schemars(with = "shape::Size")]
    pub spool: ByteSize,
    /// How long a file is kept after it was last asked for.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub keep: Duration,
    /// Downloads at the same time, over all sessions; an organization has half of them at most.
    pub concurrency: u32,
    /// How long one download may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub timeout: Duration,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            max_size: ByteSize::mib(100),
            spool: ByteSize::gib(1),
            keep: Duration::from_mins(5),
            concurrency: 8,
            timeout: Duration::from_mins(5),
        }
    }
}

impl Ruled for Media {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "media.max_size",
            must: "must be between 64KiB and 4GiB",
            holds: |it| (ByteSize::kib(64)..=ByteSize::gib(4)).contains(&it.max_size),
        },
        Rule {
            key: "media.spool",
            must: "must not be smaller than media.max_size",
            holds: |it| it.spool >= it.max_size,
        },
        Rule {
            key: "media.spool",
            must: "must be at most 1TiB",
            holds: |it| it.spool <= ByteSize::tib(1),
        },
        Rule {
            key: "media.keep",
            must: "must be at most 24h",
            holds: |it| it.keep <= Duration::from_hours(24),
        },
        Rule {
            key: "media.concurrency",
            must: "must be between 1 and 256",
            holds: |it| (1..=256).contains(&it.concurrency),
        },
        Rule {
            key: "media.timeout",
            must: "must be between 1s and 1h",
            holds: |it| (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&it.timeout),
        },
    ];
}
