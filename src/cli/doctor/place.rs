//! The state directory: that it is ours, what is in it, and how much room its disk has.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use rustix::{
    fs::{Access, access, statvfs},
    process::geteuid,
};

use super::finding::{Check, Finding};
use crate::{
    config::{Config, DatabaseUrl},
    state_dir,
};

/// With less than this a busy daemon is hours from a full disk, in which it stores nothing more.
const SCARCE: ByteSize = ByteSize::gib(1);

/// With less than this it is as good as full: a migration or SQLite's log needs as much.
const FULL: ByteSize = ByteSize::mib(64);

/// Whether a daemon holds this directory.
pub(super) fn is_running(state_dir: &Path) -> bool {
    state_dir::is_held(state_dir)
}

/// The directory itself.
pub(super) fn state_dir(path: &Path) -> Finding {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(path),
        Err(error) => {
            return Finding::fault(Check::StateDir, format!("cannot look at {shown}: {error}"))
                .fix(
                    "run this as the user the daemon runs as; its parents must let that user pass",
                );
        }
        Ok(metadata) => metadata,
    };
    if !metadata.is_dir() {
        return Finding::fault(Check::StateDir, format!("{shown} is no directory"))
            .fix("move the file away, or set state_dir to a directory");
    }
    if access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::fault(Check::StateDir, format!("{shown} cannot be written to"))
            .fix(format!("chown it to the user the daemon runs as (uid {})", geteuid().as_raw()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Finding::warning(
            Check::StateDir,
            format!("{shown} is open to other users (mode {mode:04o})"),
        )
        .fix(format!("chmod 700 '{shown}'"));
    }
    Finding::ok(Check::StateDir, shown.to_string())
}

/// It is made at the first start, if that can be done.
fn absent(path: &Path) -> Finding {
    let shown = path.display();
    match existing_parent(path) {
        Some(parent) if access(&parent, Access::WRITE_OK | Access::EXEC_OK).is_ok() => {
            Finding::ok(Check::StateDir, format!("{shown} is made at the first start"))
        }
        parent => {
            let parent = parent.unwrap_or_else(|| "/".into());
            Finding::fault(
                Check::StateDir,
                format!("{shown} is not there, and cannot be made in {}", parent.display()),
            )
            .fix(format!("install -d -m 700 -o USER '{shown}', for the user the daemon runs as"))
        }
    }
}

/// The nearest folder above `path` that is there.
fn existing_parent(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute.ancestors().skip(1).find(|parent| parent.is_dir()).map(Into::into)
}

/// The operator's token, once there is one.
pub(super) fn operator_token(state_dir: &Path) -> Option<Finding> {
    let path = state_dir::token_path(state_dir);
    let shown = path.display();
    let metadata = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(
                Finding::fault(Check::OperatorToken, format!("cannot look at {shown}: {error}"))
                    .fix("run this as the user the daemon runs as"),
            );
        }
        Ok(metadata) => metadata,
    };
    let fault =
        |says: String, fix: String| Some(Finding::fault(Check::OperatorToken, says).fix(fix));
    match fs::read_to_string(&path) {
        Err(error) => {
            return fault(format!("cannot read {shown}: {error}"), format!("chown '{shown}'"));
        }
        Ok(text) if text.trim().is_empty() => {
            return fault(
                format!("{shown} is empty"),
                "put a token there, or delete the file to be given one".to_owned(),
            );
        }
        Ok(_) => {}
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return fault(
            format!("other users may read {shown} (mode {mode:04o})"),
            format!("chmod 600 '{shown}', and change the token if somebody may have read it"),
        );
    }
    Some(Finding::ok(Check::OperatorToken, shown.to_string()))
}

/// What is in the file, if it is there and can be read.
pub(super) fn operator_secret(state_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(state_dir::token_path(state_dir)).ok()?;
    let secret = text.trim();
    (!secret.is_empty()).then(|| secret.to_owned())
}

/// The room where the state directory is, and where a database file elsewhere is.
pub(super) fn disk(config: &Config) -> Vec<Finding> {
    let mut places = vec![config.state_dir.clone()];
    let elsewhere = config.database.url.as_ref().and_then(DatabaseUrl::sqlite_file);
    places.extend(elsewhere.and_then(|file| file.parent().map(Into::into)));
    places.iter().map(|place| room(place)).collect()
}

fn room(place: &Path) -> Finding {
    let there = if place.is_dir() { Some(place.to_owned()) } else { existing_parent(place) };
    let Some(there) = there else {
        return Finding::warning(Check::Disk, "there is no such directory to measure");
    };
    let seen = match statvfs(&there) {
        Ok(seen) => seen,
        Err(error) => {
            return Finding::warning(
                Check::Disk,
                format!("cannot tell how full {} is: {error}", there.display()),
            );
        }
    };
    let free = ByteSize::b(seen.f_bavail.saturating_mul(seen.f_frsize));
    let says = format!("{free} free for {}", place.display());
    let fix =
        "make room, or move state_dir to another disk; retention.* says how long things are kept";
    // Some file systems count no inodes.
    if seen.f_files > 0 && seen.f_favail < 100 {
        let says = format!("{}: no more files can be made (out of inodes)", place.display());
        return Finding::fault(Check::Disk, says).fix("delete small files, or move state_dir");
    }
    if free < FULL {
        Finding::fault(Check::Disk, says).fix(fix)
    } else if free < SCARCE {
        Finding::warning(Check::Disk, says).fix(fix)
    } else {
        Finding::ok(Check::Disk, says)
    }
}
