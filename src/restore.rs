//! `wagate restore`: a copy that `wagate backup` has made, put in the place of a database that is not there.
//!
//! Nothing is overwritten. The daemon that opens it finds that it is a copy: see `crate::copies`.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    backup::without_password,
    config::DatabaseUrl,
    store::{
        backup::{Stage, Told},
        connect::{OpenError, Options},
        look::{self, Manner},
        restore::{Content, RestoreError, mark, stage_sqlite},
        schema::State,
    },
};

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The copy, or its place.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// PostgreSQL's database cannot be looked at.
    #[error("cannot look at the database")]
    Look(#[source] OpenError),
    /// A database is never replaced.
    #[error("the database is not empty: restore into a new one (createdb)")]
    NotEmpty,
    /// The copy's secrets are sealed under another key than the one that is here.
    #[error(
        "the copy is sealed under another master key than the one here: put that one there first"
    )]
    OtherKey,
    /// The same, of a database that is filled by now.
    #[error(
        "the copy is restored, and sealed under another master key than the one here: put that one \
         there before the daemon is started"
    )]
    OtherKeyAfterwards,
    /// PostgreSQL's own program is not installed here.
    #[error("pg_restore is not installed: install PostgreSQL's client programs")]
    NoPgRestore,
    /// It could not be started.
    #[error("cannot run pg_restore")]
    Run(#[source] io::Error),
    /// It said why not. All that it had done is undone.
    #[error("pg_restore failed: {0}")]
    PgRestore(String),
}

/// Puts `copy` where `options` say that the database is. `fits` says whether the master key that the
/// daemon will find opens the copy's secrets; `told` what goes on meanwhile.
pub async fn run(
    url: &DatabaseUrl,
    options: &Options,
    copy: &Path,
    fits: impl Fn(&Content) -> bool,
    told: Told<'_>,
) -> Result<Content, Error> {
    let Some(target) = url.sqlite_file() else {
        return into_postgres(url, options, copy, fits, told).await;
    };
    let staged = stage_sqlite(copy, &target, told).await?;
    if !fits(&staged.content) {
        return Err(Error::OtherKey);
    }
    let content = staged.content.clone();
    staged.put()?;
    Ok(content)
}

async fn into_postgres(
    url: &DatabaseUrl,
    options: &Options,
    copy: &Path,
    fits: impl Fn(&Content) -> bool,
    told: Told<'_>,
) -> Result<Content, Error> {
    let manner = Manner::default();
    let seen = look::look(options, manner).await.map_err(Error::Look)?;
    let is_empty = seen.is_none_or(
        |seen| matches!(&seen.schema, State::Older(missing) if *missing == look::steps()),
    );
    if !is_empty {
        return Err(Error::NotEmpty);
    }
    let (address, password) = without_password(url.expose());
    let mut command = Command::new("pg_restore");
    command
        .args(["--no-owner", "--no-privileges", "--no-password", "--single-transaction"])
        .args(["--exit-on-error", "--dbname", &address])
        .arg(copy)
        .stdin(Stdio::null());
    if let Some(password) = password {
        // Arguments can be read by everybody on the machine.
        command.env("PGPASSWORD", password);
    }
    told(Stage::Filling);
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let output = match ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(Error::NoPgRestore),
        output => output.map_err(Error::Run)?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::PgRestore(said.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let content = mark(options).await?;
    if fits(&content) { Ok(content) } else { Err(Error::OtherKeyAfterwards) }
}
