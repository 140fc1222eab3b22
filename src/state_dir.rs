//! The state directory: what one daemon keeps, and that it is the only one to do so.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file that holds the operator's bearer token, and nothing else.
const TOKEN: &str = "operator.token";

/// The file that is there for as long as the database may not know of the token that was made.
const UNTOLD: &str = "operator.token.untold";

/// The file whose lock is the directory's.
const LOCK: &str = "lock";

/// The file that holds the master key.
const MASTER_KEY: &str = "master.key";

/// Where the master key is in a state directory, unless it is kept elsewhere.
pub fn master_key_path(state_dir: &Path) -> PathBuf {
    state_dir.join(MASTER_KEY)
}

/// Where the operator's token is in a state directory.
pub fn token_path(state_dir: &Path) -> PathBuf {
    state_dir.join(TOKEN)
}

/// Whether the database may not have been told yet of the operator's token, which was made here.
pub fn is_untold(state_dir: &Path) -> bool {
    state_dir.join(UNTOLD).exists()
}

/// Whether a daemon holds this state directory. Makes nothing.
///
/// The lock is asked for, and let go of at once: a daemon that starts at that very moment may find it
/// taken.
pub fn is_held(state_dir: &Path) -> bool {
    let lock = File::open(state_dir.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The file with the name with the name of this state directory.
const HOME: &str = "home.id";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the state directory {}", .0.display())]
    Make(PathBuf, #[source] io::Error),
    #[error("another wagate is running: it holds {}", .0.display())]
    InUse(PathBuf),
    #[error("cannot lock {}", .0.display())]
    Lock(PathBuf, #[source] io::Error),
    #[error("cannot read the operator's token from {}", .0.display())]
    ReadToken(PathBuf, #[source] io::Error),
    #[error("{} is empty: put a token there, or delete it to be given one", .0.display())]
    EmptyToken(PathBuf),
    #[error("cannot write the operator's token to {}", .0.display())]
    WriteToken(PathBuf, #[source] io::Error),
    #[error("cannot read or write this directory's name in {}", .0.display())]
    Home(PathBuf, #[source] io::Error),
}

/// A state directory that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The kernel holds these locks for as long as the files are open at most. There is no pid to go stale.
    locks: Vec<File>,
    held: Held,
}

/// The files whose locks are held, each by its name and by what it was when it was locked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<[(PathBuf, FileId)]>);

/// A file system's number, and the file's own in it.
type FileId = (u64, u64);

impl Held {
    /// Whether under each name there is still the file that is locked. A lock on one that was moved away, or deleted, keeps
    /// nobody out who comes to the name.
    pub fn is_ours(&self) -> bool {
        self.0.iter().all(|(path, id)| {
            fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *id)
        })
    }
}

/// Lets go of the locks themselves: a child process that is just being started holds the files open,
/// too, until it has become its program.
impl Drop for StateDir {
    fn drop(&mut self) {
        for file in &self.locks {
            // The files are closed next, which does the same.
            file.unlock().ok();
        }
    }
}

impl StateDir {
    /// Makes the directory if it is not there, readable by us only, and takes it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| Error::Make(path.to_owned(), source))?;
        // An absolute path stays right if the working directory ever changes, and reads better.
        let path = fs::canonicalize(path).map_err(|err| Error::Make(path.to_owned(), err))?;
        let mut this = Self { path, locks: Vec::new(), held: Held::default() };
        this.lock(&this.path.join(LOCK))?;
        Ok(this)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is locked, for whoever wants to look whether it still is.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Takes a database file: it is what two daemons must not share, wherever it lies and whatever it
    /// is called. Makes it, empty, if it is not there; else it is only looked at.
    pub fn lock_database(&mut self, database: &Path) -> Result<(), Error> {
        let taken = |source| Error::Lock(database.to_owned(), source);
        let file = OpenOptions::new().read(true).open(database).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            let mut new = OpenOptions::new();
            new.create(true).truncate(false).read(true).write(true).mode(0o600).open(database)
        });
        let file = file.map_err(taken)?;
        // The real file, to be named in the message. And the lock is on the file itself, which it is
        // through a link of any kind, too. SQLite's own locks are of the other kind, and the two meet
        // on network file systems only, on which its log does not work anyway.
        let real = fs::canonicalize(database).map_err(taken)?;
        self.take(file, &real)
    }

    fn lock(&mut self, path: &Path) -> Result<(), Error> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::Lock(path.to_owned(), source))?;
        self.take(file, path)
    }

    fn take(&mut self, file: File, path: &Path) -> Result<(), Error> {
        match file.try_lock() {
            Ok(()) => {
                let found = file.metadata().map_err(|err| Error::Lock(path.to_owned(), err))?;
                let id = (found.dev(), found.ino());
                let held = self.held.0.iter().cloned().chain([(path.to_owned(), id)]);
                self.held = Held(held.collect());
                self.locks.push(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(Error::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(Error::Lock(path.to_owned(), source)),
        }
    }

    /// The name of this directory, which no other has: made by `new` at the first start.
    ///
    /// Whoever holds the directory's lock knows that whoever wrote this name elsewhere is dead. A
    /// directory that is copied takes the name along: see README.
    pub fn home(&self, new: impl FnOnce() -> String) -> Result<String, Error> {
        let path = self.path.join(HOME);
        let home = match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => new(),
            Err(error) => return Err(Error::Home(path, error)),
        };
        write_whole(&path, &format!("{home}\n")).map_err(|error| Error::Home(path, error))?;
        Ok(home)
    }

    /// Where the operator's token is.
    pub fn token_path(&self) -> PathBuf {
        token_path(&self.path)
    }

    /// Reads the operator's token; puts what `new` makes there when there is none.
    ///
    /// The file comes before the database on purpose: whatever moment the process is killed at, the
    /// next start finds the same token and lets the database know it. Until it has
    /// ([`StateDir::told_operator_token`]) the token is fresh.
    pub fn operator_token(&self, new: impl FnOnce() -> String) -> Result<OperatorToken, Error> {
        let path = self.token_path();
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(Error::EmptyToken(path)),
            Ok(text) => {
                let is_fresh = is_untold(&self.path);
                Ok(OperatorToken { secret: text.trim().to_owned(), is_fresh })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = new();
                // First, or a token could be taken for one that the database has forgotten.
                let untold = self.path.join(UNTOLD);
                write_whole(&untold, "the database is told of operator.token at the next start\n")
                    .and_then(|()| write_whole(&path, &format!("{secret}\n")))
                    .map_err(|err| Error::WriteToken(path, err))?;
                Ok(OperatorToken { secret, is_fresh: true })
            }
            Err(error) => Err(Error::ReadToken(path, error)),
        }
    }

    /// Notes that the database knows of the operator's token. If it forgets it again, it has reasons.
    pub fn told_operator_token(&self) -> Result<(), Error> {
        match fs::remove_file(self.path.join(UNTOLD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::WriteToken(self.token_path(), error))
            }
            _ => Ok(()),
        }
    }
}

/// What is in the operator's file.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken {
    pub secret: String,
    /// It was made here, and no database may know of it yet.
    pub is_fresh: bool,
}

// The secret must not get into a log by accident.
impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorToken").field("is_fresh", &self.is_fresh).finish_non_exhaustive()
    }
}

/// Writes a file of ours: never there with half of its content, never readable by others, not even
/// for a moment.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Left behind by a process that was killed; its content was never valid.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The name is part of the directory, and survives a power cut only if that is written too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_for_us_alone_and_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        let held = StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);

        let error = StateDir::open(&path).unwrap_err();
        assert!(matches!(&error, Error::InUse(lock) if lock.ends_with("a/state/lock")), "{error}");
        assert!(is_held(&path));

        drop(held);
        assert!(!is_held(&path) && !is_held(dir.path()));
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_lock_whose_file_is_gone_or_another_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::open(&dir.path().join("state")).unwrap();
        assert!(state.held().is_ours());
        let database = dir.path().join("wagate.db");
        state.lock_database(&database).unwrap();
        let held = state.held();
        assert!(held.is_ours());
        let away = dir.path().join("away.db");
        fs::rename(&database, &away).unwrap();
        assert!(!held.is_ours());
        fs::write(&database, "").unwrap();
        assert!(!held.is_ours());
        fs::rename(&away, &database).unwrap();
        assert!(held.is_ours());
        fs::remove_file(state.path().join(LOCK)).unwrap();
        assert!(!held.is_ours());
    }

    #[test]
    fn a_database_elsewhere_is_taken_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("wagate.db");
        let mut one = StateDir::open(&dir.path().join("one")).unwrap();
        let mut two = StateDir::open(&dir.path().join("two")).unwrap();
        one.lock_database(&database).unwrap();
        assert!(matches!(two.lock_database(&database), Err(Error::InUse(_))));
    }

    #[test]
    fn a_database_has_one_owner_whatever_it_is_called_and_nobody_else_touches_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = StateDir::open(&dir.path().join("one")).unwrap();
        let database = one.path().join("wagate.db");
        one.lock_database(&database).unwrap();
        assert_eq!(mode(&database), 0o600);
        fs::write(&database, "rows").unwrap();
        let written = fs::metadata(&database).unwrap().modified().unwrap();

        let symbolic = dir.path().join("symbolic.db");
        std::os::unix::fs::symlink(&database, &symbolic).unwrap();
        let hard = dir.path().join("hard.db");
        fs::hard_link(&database, &hard).unwrap();
        let folder = dir.path().join("folder");
        std::os::unix::fs::symlink(one.path(), &folder).unwrap();

        let mut two = StateDir::open(&dir.path().join("two")).unwrap();
        for name in [&database, &symbolic, &hard, &folder.join("wagate.db")] {
            let error = two.lock_database(name).unwrap_err();
            assert!(matches!(error, Error::InUse(_)), "{}: {error}", name.display());
        }
        assert_eq!(fs::read_to_string(&database).unwrap(), "rows");
        assert_eq!(fs::metadata(&database).unwrap().modified().unwrap(), written);
        drop(one);
        two.lock_database(&hard).unwrap();
    }

    #[test]
    fn a_directory_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.home(|| "first".to_owned()).unwrap(), "first");
        assert_eq!(state.home(|| unreachable!("it has a name")).unwrap(), "first");
    }

    #[test]
    fn the_token_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("operator.token.new"), "half").unwrap();

        let first = |is_fresh| (("first".to_owned()), is_fresh);
        let token = |new: &dyn Fn() -> String| {
            let token = state.operator_token(new).unwrap();
            (token.secret, token.is_fresh)
        };
        let none = || -> String { unreachable!("there is one") };
        assert_eq!(token(&|| "first".to_owned()), first(true));
        assert_eq!(mode(&state.token_path()), 0o600);
        // For as long as nobody says that the database knows it.
        assert_eq!(token(&none), first(true));
        state.told_operator_token().unwrap();
        assert_eq!(token(&none), first(false));
        state.told_operator_token().unwrap();
        assert!(!dir.path().join("operator.token.new").exists());

        fs::write(state.token_path(), "\n").unwrap();
        let error = state.operator_token(none).err();
        assert!(matches!(error, Some(Error::EmptyToken(_))));
        // Whoever puts one of his own there has one that was somebody's before, for all that is known.
        fs::write(state.token_path(), "own\n").unwrap();
        assert_eq!(token(&none), ("own".to_owned(), false));
        // Another one is made when the file is gone.
        fs::remove_file(state.token_path()).unwrap();
        assert_eq!(token(&|| "second".to_owned()), ("second".to_owned(), true));
    }
}
