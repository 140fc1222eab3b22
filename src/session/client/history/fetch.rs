//! The blob of a chunk, from WhatsApp's media hosts.

use std::sync::Arc;

use bytes::Bytes;
use waproto::whatsapp::message::HistorySyncNotification;
use whatsapp_rust::{
    Client, anyhow,
    download::{MediaDownloadError, MediaDownloader, MediaRoute},
    request::IqError,
};

use super::super::{http::Http, threads::Threads};

/// What encryption adds to a blob: the padding of a block and ten bytes of a MAC, with some room.
const OVERHEAD: u64 = 64;

/// Why there is no blob.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("WhatsApp named no media hosts")]
    Route(#[source] IqError),
    /// It is gone, or what is there is not what the phone has put there.
    #[error("no media host has it as announced")]
    Missing(#[source] anyhow::Error),
    #[error("no media host could be reached")]
    Unreachable(#[source] anyhow::Error),
}

impl FetchError {
    /// Whether it will not be there later either.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// Fetches and decrypts a blob of `announced` bytes. One that is longer is refused while it comes.
pub(super) async fn fetch(
    client: &Client,
    http: &Arc<Http>,
    notification: &HistorySyncNotification,
    announced: u64,
) -> Result<Bytes, FetchError> {
    let limit = usize::try_from(announced.saturating_add(OVERHEAD)).unwrap_or(usize::MAX);
    let bounded = Arc::new(Http::bounded(http, limit));
    let mut renewed = false;
    loop {
        let route = client.refresh_media_conn(renewed).await.map_err(FetchError::Route)?;
        let downloader = MediaDownloader::new(
            Arc::clone(&bounded) as _,
            Arc::new(Threads),
            MediaRoute::from(&route),
        );
        match downloader.download(notification).await {
            Ok(blob) => return Ok(blob.into()),
            // A route expires; a new one is worth one try.
            Err(MediaDownloadError::ReferenceRejected(_)) if !renewed => renewed = true,
            Err(
                MediaDownloadError::ReferenceRejected(error) | MediaDownloadError::Other(error),
            ) => {
                return Err(FetchError::Missing(error));
            }
            Err(MediaDownloadError::HostsUnreachable(error)) if bounded.has_delivered() => {
                return Err(FetchError::Missing(error));
            }
            Err(MediaDownloadError::HostsUnreachable(error)) => {
                return Err(FetchError::Unreachable(error));
            }
            Err(error) => return Err(FetchError::Unreachable(error.into())),
        }
    }
}
