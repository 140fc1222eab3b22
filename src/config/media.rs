//! `[media]`: what downloads of messages' media may cost.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Media that is downloaded when somebody asks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// The largest file that is downloaded. WhatsApp takes documents of up to 2 GiB.
    pub max_size: ByteSize,
    /// Room in the state directory for all files together: those that come, that are kept, and that are
    /// being read. They have no name there, and are gone with the process.
    pub spool: ByteSize,
    /// How long a file is kept after it was last asked for.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Downloads at the same time, over all sessions; an organization has half of them at most.
    pub concurrency: u32,
    /// How long one download may take.
    #[serde(with = "humantime_serde")]
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

impl Media {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if !(ByteSize::kib(64)..=ByteSize::gib(4)).contains(&self.max_size) {
            return Err(Invalid::new("media.max_size", "must be between 64KiB and 4GiB"));
        }
        if self.spool < self.max_size {
            return Err(Invalid::new("media.spool", "must not be smaller than media.max_size"));
        }
        if self.spool > ByteSize::tib(1) {
            return Err(Invalid::new("media.spool", "must be at most 1TiB"));
        }
        if self.keep > Duration::from_hours(24) {
            return Err(Invalid::new("media.keep", "must be at most 24h"));
        }
        if !(1..=256).contains(&self.concurrency) {
            return Err(Invalid::new("media.concurrency", "must be between 1 and 256"));
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&self.timeout) {
            return Err(Invalid::new("media.timeout", "must be between 1s and 1h"));
        }
        Ok(())
    }
}
