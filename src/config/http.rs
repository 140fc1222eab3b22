//! `[http]`: where and how requests are answered.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on. Port 0 takes a free one. There is no TLS here: put a proxy in
    /// front before listening on anything but the machine itself.
    pub listen: SocketAddr,
    /// The longest request body that is read; a longer one is answered with 413.
    pub max_body: ByteSize,
    /// How long one request may take to be answered. Streams and long polls have their own limits.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long requests in progress may go on after the daemon was asked to stop. Streams are
    /// closed at once.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    /// Answer `/metrics` without a token. Otherwise it takes an operator's.
    pub open_metrics: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            max_body: ByteSize::mib(1),
            request_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(10),
            open_metrics: false,
        }
    }
}

impl Http {
    /// [`Self::max_body`] as the number HTTP counts in.
    pub fn max_body_bytes(&self) -> usize {
        usize::try_from(self.max_body.as_u64()).unwrap_or(usize::MAX)
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if self.max_body < ByteSize::kib(1) {
            return Err(Invalid::new("http.max_body", "must be at least 1KiB"));
        }
        if self.request_timeout.is_zero() {
            return Err(Invalid::new("http.request_timeout", "must be longer than nothing"));
        }
        Ok(())
    }
}
