//! Files: where Meta has them, and getting them from there.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use reqwest::{Method, StatusCode, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};

use super::{DEADLINE, Error, Graph, Refusal, answer, bearer, failed, refusal};

/// How often a step is made at most, and the waits in between.
const WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// What is written at a time, in bytes.
const BUFFER: usize = 256 * 1024;

/// How long Meta may say nothing while a file comes.
const SILENCE: Duration = Duration::from_secs(30);

/// What Meta says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaInfo {
    url: String,
    /// Bytes.
    pub size: Option<u64>,
    pub sha256: Option<[u8; 32]>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Graph(#[from] Error),
    #[error("it is longer than it may be")]
    TooLong,
    #[error("it could not be written")]
    Write(#[source] io::Error),
}

impl Graph {
    /// Where a file is, for some minutes. Tried again while Meta is in trouble.
    pub async fn media(&self, token: &str, number: &str, id: &str) -> Result<MediaInfo, Error> {
        let mut tries = WAITS.iter();
        let path = format!("{id}?phone_number_id={number}");
        let told = loop {
            let request = self.request(Method::GET, &[&path], token)?.timeout(DEADLINE);
            let error = match answer(request.send().await).await {
                Ok(told) => break told,
                Err(error) => error,
            };
            let Some(wait) = tries.next().filter(|_| may_pass(&error)) else { return Err(error) };
            tokio::time::sleep(*wait).await;
        };
        let text = |name: &str| told.get(name).and_then(serde_json::Value::as_str);
        let url = text("url").ok_or(Error::Unintelligible { status: 200 })?.to_owned();
        let size = &told["file_size"];
        let size = size.as_u64().or_else(|| size.as_str()?.parse().ok());
        Ok(MediaInfo { url, size, sha256: text("sha256").and_then(sha256) })
    }

    /// Fetches a file of `limit` bytes at most into an empty one. Answers what was written: its length, and its hash.
    pub async fn download(
        &self,
        token: &str,
        info: &MediaInfo,
        (file, limit): (&File, u64),
    ) -> Result<(u64, [u8; 32]), DownloadError> {
        let url = self.0.hosts.allow(&info.url).ok_or(Error::ForeignHost)?;
        let mut tries = WAITS.iter();
        loop {
            let request = self.client()?.get(url.clone()).header(AUTHORIZATION, bearer(token)?);
            let failure = match fetch(request, file, limit).await {
                Ok(written) => return Ok(written),
                Err(failure) => failure,
            };
            let may_pass = matches!(&failure, DownloadError::Graph(error) if may_pass(error));
            let Some(wait) = tries.next().filter(|_| may_pass) else { return Err(failure) };
            tokio::time::sleep(*wait).await;
        }
    }
}

/// Reading twice does no harm: here also what is not known is tried again.
fn may_pass(error: &Error) -> bool {
    error.is_passing() || error.is_unknown()
}

async fn fetch(
    request: reqwest::RequestBuilder,
    file: &File,
    limit: u64,
) -> Result<(u64, [u8; 32]), DownloadError> {
    let sent = tokio::time::timeout(DEADLINE, request.send()).await;
    let mut response = sent.map_err(|_| Error::Unanswered(None))?.map_err(failed)?;
    let status = response.status();
    if status != StatusCode::OK {
        let after = refusal::retry_after(response.headers());
        let error = Refusal::unnamed(status.as_u16(), after);
        return Err(Error::Refused(error).into());
    }
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(DownloadError::TooLong);
    }
    let mut spool = Spool::new(file)?;
    loop {
        let piece = tokio::time::timeout(SILENCE, response.chunk()).await;
        let piece = piece.map_err(|_| Error::Unanswered(None))?;
        let piece = piece.map_err(|error| Error::Unanswered(Some(error.without_url())))?;
        let Some(piece) = piece else { break };
        if spool.length() + piece.len() as u64 > limit {
            return Err(DownloadError::TooLong);
        }
        spool.take(&piece).await?;
    }
    spool.finish().await
}

/// A file that is being written, from its beginning. Each piece is written before the next one is taken, so nothing is still
/// being written when a try has ended.
struct Spool {
    file: Arc<File>,
    /// Bytes that are in the file.
    written: u64,
    buffer: Vec<u8>,
    hash: Sha256,
}

impl Spool {
    fn new(file: &File) -> Result<Self, DownloadError> {
        let file = file.try_clone().map_err(DownloadError::Write)?;
        file.set_len(0).map_err(DownloadError::Write)?;
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self { file: Arc::new(file), written: 0, buffer, hash: Sha256::new() })
    }

    const fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    async fn take(&mut self, piece: &[u8]) -> Result<(), DownloadError> {
        self.hash.update(piece);
        self.buffer.extend_from_slice(piece);
        if self.buffer.len() >= BUFFER { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), DownloadError> {
        let (file, at) = (self.file.clone(), self.written);
        let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        self.written += buffer.len() as u64;
        let write = move || file.write_all_at(&buffer, at);
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(io::Error::other).flatten().map_err(DownloadError::Write)
    }

    /// What was written: its length and its hash.
    async fn finish(mut self) -> Result<(u64, [u8; 32]), DownloadError> {
        self.flush().await?;
        Ok((self.written, self.hash.finalize().into()))
    }
}

/// A hash as Meta writes it: in base64 where it tells of a message, in hexadecimal where it is asked for a file.
pub fn sha256(text: &str) -> Option<[u8; 32]> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    if text.len() == 64 {
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        return Some(bytes);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_in_either_of_meta_s_spellings() {
        let hash: [u8; 32] = Sha256::digest(b"x").into();
        let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(sha256(&hex), Some(hash));
        let base64 = {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            STANDARD.encode(hash)
        };
        assert_eq!(sha256(&base64), Some(hash));
        assert_eq!(sha256("29ed500fa64eb55fc19dc4124acb300e5dcca0f822a301ae99944db"), None);
        assert_eq!(sha256(""), None);
    }
}
