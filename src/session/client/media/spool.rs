//! What a download is written to: a file, with its length and its hash.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    sync::{Arc, atomic::Ordering},
};

use sha2::{Digest as _, Sha256};
use whatsapp_rust::download::DownloadWriter;

use super::fetch::Notes;

/// The library writes a cipher's block at a time.
const BUFFER: usize = 64 * 1024;

/// A file that is being written. Each try of a download begins it anew.
pub(super) struct Spool {
    file: File,
    limit: u64,
    length: u64,
    hash: Sha256,
    buffer: Vec<u8>,
    notes: Arc<Notes>,
}

impl Spool {
    /// Writes to an empty file, `limit` bytes at most.
    pub(super) fn new(file: File, limit: u64, notes: Arc<Notes>) -> Self {
        let buffer = Vec::with_capacity(BUFFER);
        Self { file, limit, length: 0, hash: Sha256::new(), buffer, notes }
    }

    /// What was written: the file, its length and its hash.
    pub(super) fn finish(mut self) -> io::Result<(File, u64, [u8; 32])> {
        self.flush()?;
        Ok((self.file, self.length, self.hash.finalize().into()))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.length + bytes.len() as u64;
        if length > self.limit {
            self.notes.too_long.store(true, Ordering::Relaxed);
            return Err(io::Error::other("longer than it may be"));
        }
        self.length = length;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        written.inspect_err(|_| self.notes.unwritten.store(true, Ordering::Relaxed))?;
        self.hash.update(&self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

/// The library only goes back to the beginning.
impl Seek for Spool {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.flush()?;
        self.file.seek(to)
    }
}

impl DownloadWriter for Spool {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if length != 0 {
            return Err(io::Error::other("only to nothing"));
        }
        self.buffer.clear();
        (self.length, self.hash) = (0, Sha256::new());
        self.file.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn it_knows_what_was_written_after_the_last_beginning() {
        let mut spool = Spool::new(tempfile::tempfile().unwrap(), 200_000, Arc::default());
        spool.write_all(&vec![7; 150_000]).unwrap();
        spool.truncate(0).unwrap();
        spool.rewind().unwrap();
        for _ in 0..10_000 {
            spool.write_all(&[3; 16]).unwrap();
        }
        spool.rewind().unwrap();
        let (mut file, length, hash) = spool.finish().unwrap();
        let mut written = Vec::new();
        file.read_to_end(&mut written).unwrap();
        assert_eq!((written.len(), length), (160_000, 160_000));
        assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&written)));
    }

    #[test]
    fn it_takes_no_byte_more_than_it_may() {
        let mut spool = Spool::new(tempfile::tempfile().unwrap(), 10, Arc::default());
        spool.write_all(&[1; 10]).unwrap();
        assert!(spool.write_all(&[1]).is_err());
    }
}
