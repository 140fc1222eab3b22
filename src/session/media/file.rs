//! Files without a name: gone with the process that holds them, in whatever way it ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::sync::OwnedSemaphorePermit;

use crate::clock::Clock;

/// A media file, decrypted and verified.
#[derive(Debug)]
pub struct MediaFile {
    size: u64,
    sha256: [u8; 32],
    clock: Clock,
    /// None once it was taken back.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    /// Its share of the room for all files.
    _room: OwnedSemaphorePermit,
    last_read: Duration,
}

impl MediaFile {
    pub(super) fn new(
        (file, size, sha256): (File, u64, [u8; 32]),
        room: OwnedSemaphorePermit,
        clock: Clock,
    ) -> Self {
        let last_read = clock.monotonic();
        let open = Open { file: Arc::new(file), _room: room, last_read };
        Self { size, sha256, clock, open: Mutex::new(Some(open)) }
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What it hashes to.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// So many bytes from there on; fewer at its end. An error when it was taken back, as nobody had read of
    /// it for a while and others needed the room.
    pub async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let file = {
            let mut open = self.locked();
            let open = open.as_mut().ok_or_else(|| io::Error::other("read too slowly"))?;
            open.last_read = self.clock.monotonic();
            Arc::clone(&open.file)
        };
        let read = move || {
            let mut bytes = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            Ok(Bytes::from(bytes))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// Whether it can still be read.
    pub(super) fn is_open(&self) -> bool {
        self.locked().is_some()
    }

    /// Takes it back from readers who have not read of it for so long. True when there is nothing left.
    pub(super) fn take_back(&self, idle: Duration) -> bool {
        let now = self.clock.monotonic();
        let mut open = self.locked();
        let _taken = open.take_if(|open| now.saturating_sub(open.last_read) >= idle);
        open.is_none()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        // Nothing panics while it holds this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file in this directory that nobody can find.
pub(in crate::session) fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // Some file systems have no such files: there it has a name for a moment.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            let path = directory.join(format!("media-{:032x}.tmp", rand::random::<u128>()));
            let file = OpenOptions::new()
                .create_new(true)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            std::fs::remove_file(path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}
