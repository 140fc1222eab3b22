//! Media, from WhatsApp's media hosts: decrypted, and verified, before anybody sees it.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{
    anyhow,
    download::{
        DEFAULT_MEDIA_HOSTS, DownloadParams, Downloadable, MediaDownloadError, MediaDownloader,
        MediaHost, MediaRoute, MediaType,
    },
};

use super::{
    super::{Factory, threads::Threads},
    spool::Spool,
    stream::Stream,
};
use crate::session::media::{MediaKind, Source};

/// What encryption adds to a file: the padding of a block and ten bytes of a MAC, with some room.
const OVERHEAD: u64 = 64;

/// All of WhatsApp's media hosts are below this name.
const WHATSAPP: &str = ".whatsapp.net";

/// What was noticed while a file came: the library has one error for all of it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Some host has handed a body over to its end.
    pub(super) delivered: AtomicBool,
    /// Some host has handed over more than it may.
    pub(super) too_long: AtomicBool,
    /// It could not be written.
    pub(super) unwritten: AtomicBool,
}

/// One file to be fetched.
#[derive(Debug)]
pub(in crate::session) struct Fetch<'a> {
    pub(in crate::session) kind: MediaKind,
    pub(in crate::session) source: &'a Source,
    /// Instead of that of the source, if it is elsewhere by now.
    pub(in crate::session) path: &'a str,
    /// What the message announces.
    pub(in crate::session) size: Option<u64>,
    /// The most bytes that are taken.
    pub(in crate::session) limit: u64,
    /// What WhatsApp has named last; the hosts that everybody knows if that is nothing.
    pub(in crate::session) hosts: Vec<String>,
    pub(in crate::session) time_limit: Duration,
    pub(in crate::session) stop: CancellationToken,
    /// An empty file.
    pub(in crate::session) file: File,
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub(in crate::session) enum FetchError {
    #[error("no media host has it any more")]
    Gone(#[source] anyhow::Error),
    #[error("it is longer than it may be")]
    TooLong,
    #[error("what a media host has is not what was announced")]
    Damaged(#[source] anyhow::Error),
    #[error("no media host could be reached")]
    Unreachable(#[source] anyhow::Error),
    #[error("it could not be written")]
    Write(#[source] anyhow::Error),
}

impl Factory {
    /// Fetches a file, decrypts it and verifies it: by the code that its key authenticates it with, and by the
    /// hash that the message has of it. Nothing else is handed out.
    ///
    /// It shows no credentials: the hosts ask for none, as what they have is encrypted.
    pub(in crate::session) async fn fetch(
        &self,
        fetch: Fetch<'_>,
    ) -> Result<(File, u64, [u8; 32]), FetchError> {
        let hosts = self.media_hosts(fetch.hosts);
        let notes = Arc::new(Notes::default());
        let stream = Stream {
            http: Arc::clone(&self.http),
            hosts: hosts.clone(),
            limit: fetch.limit.saturating_add(OVERHEAD),
            deadline: Instant::now() + fetch.time_limit,
            stop: fetch.stop,
            runtime: Handle::current(),
            notes: Arc::clone(&notes),
        };
        let params = params(fetch.kind, fetch.source, fetch.path, fetch.size);
        let route = MediaRoute::unauthenticated(hosts.into_iter().map(MediaHost::new).collect());
        let downloader = MediaDownloader::new(Arc::new(stream), Arc::new(Threads), route);
        let spool = Spool::new(fetch.file, fetch.limit, Arc::clone(&notes));
        let spooled = downloader.download_to_writer(&Plain(params), spool).await;
        let spool = spooled.map_err(|error| notes.judge(error))?;
        let verified = spool.finish().map_err(|error| FetchError::Write(error.into()))?;
        if verified.2 == fetch.source.sha256 {
            Ok(verified)
        } else {
            Err(FetchError::Damaged(anyhow::anyhow!("its hash is another")))
        }
    }

    /// Of the hosts that were named, those that are WhatsApp's; those that everybody knows if that leaves
    /// none.
    fn media_hosts(&self, named: Vec<String>) -> Vec<String> {
        let simulated = self.options.url.as_deref().filter(|_| crate::SIMULATOR);
        if let Some(url) = simulated {
            let own = url.parse::<url::Url>().ok().and_then(|url| {
                Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
            });
            return if named.is_empty() { own.into_iter().collect() } else { named };
        }
        let named: Vec<_> = named.into_iter().filter(|host| is_whatsapp(host)).collect();
        if named.is_empty() { DEFAULT_MEDIA_HOSTS.map(str::to_owned).to_vec() } else { named }
    }
}

impl Notes {
    /// Why a file was not fetched. What was delivered and does not verify is no matter of time.
    fn judge(&self, error: MediaDownloadError) -> FetchError {
        let noted = |note: &AtomicBool| note.load(Ordering::Relaxed);
        match error {
            MediaDownloadError::ReferenceRejected(error) => FetchError::Gone(error),
            MediaDownloadError::HostsUnreachable(error) if noted(&self.unwritten) => {
                FetchError::Write(error)
            }
            MediaDownloadError::HostsUnreachable(_) if noted(&self.too_long) => FetchError::TooLong,
            MediaDownloadError::HostsUnreachable(error) if noted(&self.delivered) => {
                FetchError::Damaged(error)
            }
            error => FetchError::Unreachable(error.into()),
        }
    }
}

fn is_whatsapp(host: &str) -> bool {
    host.len() > WHATSAPP.len()
        && host.ends_with(WHATSAPP)
        && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
}

/// Our own words for the library: its messages would lend it `staticUrl`, which is the sender's.
fn params(kind: MediaKind, source: &Source, path: &str, size: Option<u64>) -> DownloadParams {
    DownloadParams {
        direct_path: path.to_owned(),
        media_key: source.key.as_ref().map(|key| key.to_vec()),
        file_sha256: source.sha256.to_vec(),
        file_enc_sha256: source.encrypted_sha256.clone(),
        file_length: size.unwrap_or_default(),
        media_type: match kind {
            MediaKind::Image => MediaType::Image,
            MediaKind::Video => MediaType::Video,
            MediaKind::Audio => MediaType::Audio,
            MediaKind::Document => MediaType::Document,
            MediaKind::Sticker => MediaType::Sticker,
        },
    }
}

/// Parameters whose key is wiped when they are dropped.
struct Plain(DownloadParams);

impl Drop for Plain {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;

        self.0.media_key.zeroize();
    }
}

impl Downloadable for Plain {
    fn direct_path(&self) -> Option<&str> {
        self.0.direct_path()
    }

    fn media_key(&self) -> Option<&[u8]> {
        self.0.media_key()
    }

    fn file_enc_sha256(&self) -> Option<&[u8]> {
        self.0.file_enc_sha256()
    }

    fn file_sha256(&self) -> Option<&[u8]> {
        self.0.file_sha256()
    }

    fn file_length(&self) -> Option<u64> {
        self.0.file_length()
    }

    fn app_info(&self) -> MediaType {
        self.0.app_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_whatsapp_s_or_none() {
        for host in ["mmg.whatsapp.net", "media-fra3-1.cdn.whatsapp.net"] {
            assert!(is_whatsapp(host), "{host}");
        }
        for host in [
            "evil.test",
            "whatsapp.net.evil.test",
            "evilwhatsapp.net",
            ".whatsapp.net",
            "evil.test/.whatsapp.net",
            "evil.test#.whatsapp.net",
            "a@mmg.whatsapp.net",
            "mmg.whatsapp.net:8080",
            "127.0.0.1",
        ] {
            assert!(!is_whatsapp(host), "{host}");
        }
    }
}
