//! A body is tried with secrets. To hash 4 MiB takes some milliseconds for each, for whoever sends it: see `threads.rs`.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Open, Signature, threads::Threads};
use crate::{
    meta::is_signed_by,
    service::{Error, SOON},
};

/// Bytes that are hashed at once: less than a millisecond.
const AT_ONCE: usize = 256 << 10;

/// What a body is signed with.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) secret: Open,
    /// Of the body.
    pub(super) sha256: [u8; 32],
}

/// Who tries. Clones share the threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    threads: Threads,
}

impl Judge {
    /// One that does its work on these threads.
    pub(super) const fn new(threads: Threads) -> Self {
        Self { threads }
    }

    /// The first of these secrets that the body is signed with.
    pub(super) async fn fitting(
        &self,
        secrets: Vec<Open>,
        signature: Signature,
        bytes: &Bytes,
    ) -> Result<Option<Fit>, Error> {
        if secrets.len().saturating_mul(bytes.len()) <= AT_ONCE {
            return Ok(try_all(secrets, &signature, bytes));
        }
        let bytes = bytes.clone();
        let tried = self.threads.run(move || try_all(secrets, &signature, &bytes));
        tried.await.ok_or(STOPPING)
    }
}

pub(super) const STOPPING: Error =
    Error::Unavailable { what: "the daemon is stopping", retry_after: SOON };

fn try_all(secrets: Vec<Open>, signature: &Signature, bytes: &[u8]) -> Option<Fit> {
    let is_good = |it: &Open| is_signed_by(it.expose().as_bytes(), bytes, signature);
    let secret = secrets.into_iter().find(is_good)?;
    Some(Fit { secret, sha256: Sha256::digest(bytes).into() })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn secrets(number: usize) -> Vec<Open> {
        (0..number).map(|n| Open::from(format!("secret-{n}"))).collect()
    }

    #[tokio::test]
    async fn the_secret_that_fits_is_found_in_a_short_body_and_in_a_long_one() {
        for length in [0, 100, 4 << 20] {
            let body = Bytes::from(vec![b'x'; length]);
            let judge = Judge::default();
            let signed = Signature::of(b"secret-3", &body);
            let fit = judge.fitting(secrets(5), signed, &body).await.unwrap().unwrap();
            assert_eq!(fit.secret, Open::from("secret-3".to_owned()));
            assert_eq!(fit.sha256, <[u8; 32]>::from(Sha256::digest(&body)));
            assert!(judge.fitting(secrets(3), signed, &body).await.unwrap().is_none());
        }
    }

    /// On a runtime of one thread, so that whatever is done there is seen.
    #[tokio::test]
    async fn while_a_long_body_is_tried_others_have_their_turns() {
        let judge = Judge::default();
        let body = Bytes::from(vec![b'x'; 4 << 20]);
        let signed = Signature::of(b"nobody's", &body);
        let mut tried = std::pin::pin!(judge.fitting(secrets(16), signed, &body));
        let began = Instant::now();
        assert!(futures_util::poll!(&mut tried).is_pending());
        let handed_over = began.elapsed();
        assert!(tried.await.unwrap().is_none());
        assert!(handed_over < Duration::from_millis(20).max(began.elapsed() / 4));
    }

    /// Whoever goes away leaves his thread when it has ended and not before: so there are never more of them.
    #[tokio::test]
    async fn who_does_not_wait_takes_no_more_threads_than_there_are() {
        let judge = Judge { threads: Threads::of(1) };
        let body = Bytes::from(vec![b'x'; 4 << 20]);
        let signed = Signature::of(b"nobody's", &body);
        {
            let mut left = std::pin::pin!(judge.fitting(secrets(16), signed, &body));
            assert!(futures_util::poll!(&mut left).is_pending());
        }
        assert_eq!(judge.threads.free(), 0);
        assert!(judge.fitting(secrets(1), signed, &body).await.unwrap().is_none());
    }
}
