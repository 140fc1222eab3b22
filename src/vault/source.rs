//! Where the master key is kept, who may read it there, and how it is replaced.
//!
//! A file is replaced in three steps that survive a kill at any point: the new key is written beside
//! the old one (`….new`), the database is turned over to it, the files change places. A process
//! that finds the database under the new key and the old key in the file takes the last step.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{MasterKey, MasterKeyId, ParseError};

/// Where a master key comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Told outright: by the environment, or in the configuration.
    Given(MasterKey),
    /// Somebody else's file. It is there, or that is a mistake.
    File(PathBuf),
    /// Our own file: made when there is none and nothing is sealed yet.
    Own(PathBuf),
}

/// Why there is no usable master key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the database holds secrets that are sealed, and their master key is not in {}: put it back; \
         without it every device must be paired again",
        .0.display()
    )]
    Missing(PathBuf),
    #[error(
        "the database is sealed under another master key than the one from {origin} ({id}): start \
         with the key it was sealed under"
    )]
    Wrong { origin: String, id: MasterKeyId },
    #[error("there is no master key in {}: expected a file with 32 random bytes, in base64", .0.display())]
    Absent(PathBuf),
    #[error("others may read or change the master key in {}: chmod 600 it", .0.display())]
    Exposed(PathBuf),
    #[error("cannot read the master key from {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} holds no master key", .0.display())]
    Malformed(PathBuf, #[source] ParseError),
    #[error("encryption.master_key is no master key")]
    MalformedText(#[source] ParseError),
    #[error("cannot write the master key to {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("another process is rotating the master key in {}", .0.display())]
    Rotating(PathBuf),
    #[error(
        "the master key comes from the configuration or the environment, where it cannot be replaced: \
         say with --new-key which file the new one goes to"
    )]
    NotAFile,
}

impl Source {
    /// A key that was told outright.
    pub fn given(text: &str) -> Result<Self, Error> {
        MasterKey::parse(text).map(Self::Given).map_err(Error::MalformedText)
    }

    /// In words, for people.
    pub fn origin(&self) -> String {
        match self {
            Self::Given(_) => "the configuration".to_owned(),
            Self::File(path) | Self::Own(path) => path.display().to_string(),
        }
    }

    /// The key that is there now; none when its file is not there.
    pub fn read(&self) -> Result<Option<MasterKey>, Error> {
        match self {
            Self::Given(key) => Ok(Some(key.clone())),
            Self::File(path) | Self::Own(path) => read(path),
        }
    }

    /// The key that `fits`, if there is one; where a rotation was interrupted, the one that was to take
    /// its place. Changes nothing.
    pub fn peek(&self, fits: impl Fn(&MasterKey) -> bool) -> Result<Option<MasterKey>, Error> {
        let found = self.read()?.filter(&fits);
        match self {
            Self::File(path) | Self::Own(path) if found.is_none() => {
                Ok(read(&fresh(path))?.filter(fits))
            }
            _ => Ok(found),
        }
    }

    /// The key that `fits` what is sealed; when nothing `is_sealed`, whatever key is there.
    ///
    /// Our own file is made when it is not there and nothing is sealed. Otherwise this writes only to
    /// end a rotation that was interrupted.
    pub fn find(
        &self,
        is_sealed: bool,
        fits: impl Fn(&MasterKey) -> bool,
    ) -> Result<MasterKey, Error> {
        if !is_sealed {
            return match (self.read()?, self) {
                (Some(key), _) => Ok(key),
                (None, Self::Own(path)) => create(path),
                (None, Self::File(path)) => Err(Error::Absent(path.clone())),
                (None, Self::Given(_)) => unreachable!("a key that is given is there"),
            };
        }
        let found = self.read()?;
        if let Some(key) = &found
            && fits(key)
        {
            return Ok(key.clone());
        }
        if let Self::File(path) | Self::Own(path) = self {
            // Rotated, but killed before the files changed places. Or changing them right now.
            if let Ok(Some(key)) = read(&fresh(path))
                && fits(&key)
            {
                self.promote()?;
                return Ok(key);
            }
            if let Some(key) = self.read()?
                && fits(&key)
            {
                return Ok(key);
            }
        }
        match (found, self) {
            (Some(key), _) => Err(Error::Wrong { origin: self.origin(), id: key.id() }),
            (None, Self::File(path) | Self::Own(path)) => Err(Error::Missing(path.clone())),
            (None, Self::Given(_)) => unreachable!("a key that is given is there"),
        }
    }

    /// The last step of a rotation: the new key takes the old one's place, which is kept beside it
    /// for as long as there are backups sealed under it. Doing it twice does no harm.
    pub fn promote(&self) -> Result<Option<PathBuf>, Error> {
        let (Self::File(path) | Self::Own(path)) = self else { return Ok(None) };
        let cannot = |source| Error::Write(path.clone(), source);
        let retired = match read(path)? {
            Some(old) => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".retired-{}", old.id()));
                let retired = PathBuf::from(name);
                match fs::hard_link(path, &retired) {
                    Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                    linked => linked.map_err(cannot)?,
                }
                Some(retired)
            }
            None => None,
        };
        match fs::rename(fresh(path), path) {
            // Somebody else has done it.
            Err(err) if err.kind() == io::ErrorKind::NotFound && path.exists() => {}
            renamed => renamed.map_err(cannot)?,
        }
        sync_parent(path).map_err(cannot)?;
        Ok(retired)
    }

    /// The first step of a rotation: a new key beside the old one. Held by one process at a time.
    pub fn prepare(&self) -> Result<Rotation, Error> {
        let (Self::File(path) | Self::Own(path)) = self else { return Err(Error::NotAFile) };
        let held = File::open(path).map_err(|err| Error::Read(path.clone(), err))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Rotating(path.clone())),
            Err(TryLockError::Error(err)) => return Err(Error::Read(path.clone(), err)),
        }
        let fresh = fresh(path);
        // Of a rotation that was interrupted before the database knew of it.
        match fs::remove_file(&fresh) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Write(fresh, err));
            }
            _ => {}
        }
        let key = MasterKey::generate();
        write(&fresh, &key)
            .and_then(|()| resemble(&fresh, &held))
            .map_err(|err| Error::Write(fresh.clone(), err))?;
        Ok(Rotation { key, _held: held })
    }
}

/// A new key that is written, and not in force yet.
#[derive(Debug)]
pub struct Rotation {
    key: MasterKey,
    /// Locked.
    _held: File,
}

impl Rotation {
    /// The new key.
    pub fn key(&self) -> &MasterKey {
        &self.key
    }
}

/// The key in the file at `path`, made when there is no such file. For a new key whose place is told.
pub fn read_or_create(path: &Path) -> Result<MasterKey, Error> {
    match read(path)? {
        Some(key) => Ok(key),
        None => create(path),
    }
}

fn create(path: &Path) -> Result<MasterKey, Error> {
    let key = MasterKey::generate();
    let cannot = |source| Error::Write(path.to_owned(), source);
    // Never there with half of its content: what was sealed with it would be lost.
    let fresh = fresh(path);
    match fs::remove_file(&fresh) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(cannot(err)),
        _ => {}
    }
    write(&fresh, &key).map_err(cannot)?;
    fs::rename(&fresh, path).map_err(cannot)?;
    sync_parent(path).map_err(cannot)?;
    Ok(key)
}

fn fresh(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Readable by us only, not even for a moment by others.
fn write(path: &Path, key: &MasterKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.to_text().as_bytes())?;
    file.sync_all()
}

/// Gives a new file the owner and the mode of the one it will replace: root rotates a key that the daemon
/// has to read as somebody else.
fn resemble(path: &Path, old: &File) -> io::Result<()> {
    let old = old.metadata()?;
    let new = fs::metadata(path)?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        chown(path, Some(old.uid()), Some(old.gid()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(old.mode() & 0o750))
}

/// The name is part of the directory, and survives a power cut only if that is written too.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> Result<Option<MasterKey>, Error> {
    let cannot = |source| Error::Read(path.to_owned(), source);
    let file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    // The group may read, as systemd's credentials and root's files for a service have it.
    let mode = file.metadata().map_err(cannot)?.mode();
    if mode & 0o027 != 0 {
        return Err(Error::Exposed(path.to_owned()));
    }
    // A key is 65 bytes; a device or a wrong file must not fill the memory.
    let mut text = Zeroizing::new(String::with_capacity(1024));
    file.take(1024).read_to_string(&mut text).map_err(cannot)?;
    let key = MasterKey::parse(&text).map_err(|err| Error::Malformed(path.to_owned(), err))?;
    Ok(Some(key))
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
