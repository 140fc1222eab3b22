//! Which WhatsApp Web version to say we are: asked once per process, shared by all sessions.

use std::sync::Arc;

use tokio::sync::OnceCell;
use whatsapp_rust::{anyhow, http::HttpClient};

use super::http::Http;

/// A version as WhatsApp counts: `2.3000.N`.
pub(super) type Version = (u32, u32, u32);

/// The version, once it is known.
#[derive(Clone)]
pub(in crate::session) struct Versions {
    configured: Option<Version>,
    fetched: Arc<OnceCell<Version>>,
    http: Arc<Http>,
}

impl Versions {
    pub(super) fn new(configured: Option<Version>, http: Arc<Http>) -> Self {
        Self { configured, fetched: Arc::default(), http }
    }

    /// The configured version, or WhatsApp's current one. A failure is not remembered: the next
    /// dial asks again.
    pub(super) async fn current(&self) -> Result<Version, anyhow::Error> {
        if let Some(version) = self.configured {
            return Ok(version);
        }
        let http: Arc<dyn HttpClient> = Arc::clone(&self.http) as _;
        self.fetched
            .get_or_try_init(|| async {
                let version = whatsapp_rust::version::fetch_latest_app_version(&http).await?;
                tracing::info!(
                    version = format!("{}.{}.{}", version.0, version.1, version.2),
                    "Found out WhatsApp's current version"
                );
                Ok(version)
            })
            .await
            .copied()
    }
}
