//! `wagate backup`: a consistent copy of the database, made while the daemon runs.
//!
//! SQLite is copied by us. PostgreSQL has its own program for that, `pg_dump`, which is run; where it
//! is missing, the error says what to run elsewhere.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{
    config::DatabaseUrl,
    store::{
        backup::{BackupError, Stage, Told, copy_sqlite},
        connect::Options,
    },
};

/// A dump with the same content. Its restored copy lacks the row that says it is the original.
const UNMARKED: &str = "--exclude-table-data=installation";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of SQLite, or of a file that is there already.
    #[error(transparent)]
    Copy(#[from] BackupError),
    /// PostgreSQL's own program is not installed here.
    #[error(
        "pg_dump is not installed: install PostgreSQL's client programs, or run where they are: \
         pg_dump --format=custom {UNMARKED} --file=FILE URL"
    )]
    NoPgDump,
    /// It could not be started.
    #[error("cannot run pg_dump")]
    Run(#[source] io::Error),
    /// It said why not.
    #[error("pg_dump failed: {0}")]
    PgDump(String),
}

/// Copies the database at `url` into the new file `target`.
pub async fn run(url: &DatabaseUrl, target: &Path, told: Told<'_>) -> Result<(), Error> {
    if url.sqlite_file().is_some() {
        return Ok(copy_sqlite(Options::new(url.expose()), target, told).await?);
    }
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()).into());
    }
    let mut partial = target.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    told(Stage::Copying { into: &partial, of: None });
    let outcome = dump(url, &partial, target).await;
    // Either it has its own name by now, or it is worth nothing.
    std::fs::remove_file(&partial).ok();
    outcome
}

async fn dump(url: &DatabaseUrl, partial: &Path, target: &Path) -> Result<(), Error> {
    use std::{fs, os::unix::fs::OpenOptionsExt as _};

    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)
        .map_err(failed)?;
    let (address, password) = without_password(url.expose());
    let mut command = Command::new("pg_dump");
    command
        .args(["--format=custom", "--no-password", "--no-owner", "--no-privileges", UNMARKED])
        .arg("--file")
        .arg(partial)
        .args(["--dbname", &address])
        .stdin(Stdio::null());
    if let Some(password) = password {
        // Arguments can be read by everybody on the machine.
        command.env("PGPASSWORD", password);
    }
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let output = match ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Error::NoPgDump),
        output => output.map_err(Error::Run)?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::PgDump(said.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    fs::File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    match fs::hard_link(partial, target) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            Err(BackupError::Exists(target.to_owned()).into())
        }
        linked => Ok(linked.map_err(failed)?),
    }
}

/// The URL as it may be seen, and the password it held.
pub(crate) fn without_password(url: &str) -> (String, Option<String>) {
    let Ok(mut parsed) = Url::parse(url) else { return (url.to_owned(), None) };
    let password =
        parsed.password().map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
    if password.is_none() || parsed.set_password(None).is_err() {
        return (url.to_owned(), None);
    }
    (parsed.into(), password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_goes_another_way_than_the_address() {
        assert_eq!(
            without_password("postgres://me:a%20b@host:1/db?sslmode=require"),
            ("postgres://me@host:1/db?sslmode=require".to_owned(), Some("a b".to_owned()))
        );
        let plain = "postgres://me@localhost/db?host=/tmp/x";
        assert_eq!(without_password(plain), (plain.to_owned(), None));
    }
}
