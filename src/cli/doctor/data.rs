//! The database: whether it is there, is ours, and opens.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use rustix::fs::{Access, access};

use super::{
    finding::{Check, Finding},
    place,
};
use crate::{
    cli::output::Chain,
    clock::Clock,
    config::{Config, DatabaseUrl},
    daemon,
    service::Tokens,
    state_dir,
    store::{
        look::{self, Look, Manner},
        schema,
        tokens::Worth,
    },
};

/// A SQLite file up to this size is read through unasked.
const QUICK: u64 = 256 << 20;

/// Looks at the database, its schema and its key.
pub(super) async fn database(
    config: &Config,
    alone: bool,
    deep: bool,
) -> (Vec<Finding>, Option<Look>) {
    let url = config.database.url_in(&config.state_dir);
    let options = daemon::store_options(config, &url);
    let through = deep || is_small(&url);
    let secret = place::operator_secret(&config.state_dir);
    let secret = secret.map(|secret| (Tokens::hash(&secret), Clock::system().now()));
    let mut findings = vec![];
    let seen = match look::look(&options, Manner { alone, through, secret }).await {
        Ok(seen) => seen,
        Err(error) => {
            let finding = Finding::fault(Check::Database, format!("{url}: {}", Chain(&error)));
            return (vec![finding.fix(unreachable_fix(&url))], None);
        }
    };
    findings.push(itself(&url, seen.as_ref(), through));
    findings.extend(seen.as_ref().map(|seen| schema_of(&seen.schema, config.database.migrate)));
    findings.push(master_key(config, seen.as_ref()));
    let worth = seen.as_ref().and_then(|seen| seen.token.as_ref());
    findings.extend(worth.and_then(|worth| token(&config.state_dir, worth)));
    (findings, seen)
}

fn is_small(url: &DatabaseUrl) -> bool {
    let size = url.sqlite_file().and_then(|file| file.metadata().ok()).map(|found| found.len());
    size.is_some_and(|size| size <= QUICK)
}

fn unreachable_fix(url: &DatabaseUrl) -> &'static str {
    if url.sqlite_file().is_some() {
        "run this as the user the daemon runs as; if the file is damaged, restore a backup"
    } else {
        "`psql` with the same URL tells more: is the server up, may this machine reach it, are user and \
         password right?"
    }
}

/// Whether it can be read and written.
fn itself(url: &DatabaseUrl, seen: Option<&Look>, through: bool) -> Finding {
    let Some(seen) = seen else {
        return Finding::ok(Check::Database, format!("{url} is made at the first start"));
    };
    if let Some(damage) = &seen.damage {
        let says = format!("{url} is damaged: {damage}");
        return Finding::fault(Check::Database, says)
            .fix("stop the daemon, keep the file, and restore the newest backup");
    }
    if let Some(why) = seen.read_only {
        return Finding::fault(Check::Database, format!("{url}: {why}"))
            .fix("connect to the primary, as a user that owns the database");
    }
    if let Some(file) = url.sqlite_file() {
        if access(&file, Access::READ_OK | Access::WRITE_OK).is_err() {
            return Finding::fault(Check::Database, format!("{url} cannot be written to"))
                .fix(format!("chown '{}' to the user the daemon runs as", file.display()));
        }
        let mode = file.metadata().map_or(0, |found| found.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            let says = format!("{url} is open to other users (mode {mode:04o})");
            return Finding::warning(Check::Database, says)
                .fix(format!("chmod 600 '{}'", file.display()));
        }
        if !through {
            let says = format!("{url}; not read through, for which there is --deep");
            return Finding::ok(Check::Database, says);
        }
    }
    Finding::ok(Check::Database, url.to_string())
}

fn schema_of(state: &schema::State, migrate: bool) -> Finding {
    match state {
        schema::State::Current => Finding::ok(Check::Schema, "up to date"),
        schema::State::Older(steps) if migrate => Finding::ok(
            Check::Schema,
            format!("{} steps behind; the next start takes them", steps.len()),
        ),
        schema::State::Older(steps) => Finding::fault(
            Check::Schema,
            format!("{} steps behind, and database.migrate is off", steps.len()),
        )
        .fix("make a backup, then start once without --no-migrate"),
        schema::State::Newer(steps) => Finding::fault(
            Check::Schema,
            format!("a newer wagate has written it: {}", steps.join(", ")),
        )
        .fix("install that version again; there is no way back but a backup from before"),
    }
}

/// What is wrong with the token in the operator's file, which a start reads.
fn token(state_dir: &Path, worth: &Worth) -> Option<Finding> {
    let file = state_dir::token_path(state_dir);
    let file = file.display();
    let says = match worth {
        Worth::Good | Worth::First => return None,
        Worth::Ended(_) => format!("the token in {file} is revoked or expired, and opens nothing"),
        // The next start tells the database of it.
        Worth::Unknown if state_dir::is_untold(state_dir) => return None,
        Worth::Unknown => {
            format!("the token in {file} is none of this database's, and opens nothing")
        }
    };
    let fix = "delete the file and restart to be given another one, or put one there that `wagate token create --role operator` has made";
    Some(Finding::warning(Check::OperatorToken, says).fix(fix))
}

fn master_key(config: &Config, seen: Option<&Look>) -> Finding {
    let sealed = seen.is_some_and(|seen| !seen.keys.is_empty());
    let keys = seen.map_or(&[][..], |seen| &seen.keys);
    let source = match daemon::master_key(&config.encryption, &config.state_dir) {
        Ok(source) => source,
        Err(error) => {
            return Finding::fault(Check::MasterKey, Chain(&error).to_string())
                .fix("`openssl rand -base64 32` makes one");
        }
    };
    let origin = source.origin();
    match source.peek(|key| !sealed || key.opens(keys)) {
        Ok(Some(_)) => Finding::ok(Check::MasterKey, format!("{origin} fits")),
        Ok(None) if sealed => Finding::fault(
            Check::MasterKey,
            format!("{origin} does not hold the key that the database is sealed under"),
        )
        .fix("put back the key of that time, from where it was kept apart from the database's backup"),
        Ok(None) if config.encryption.master_key_file.is_some() => {
            Finding::fault(Check::MasterKey, format!("there is no key in {origin}"))
                .fix(format!("(umask 077; openssl rand -base64 32 > '{origin}')"))
        }
        Ok(None) => Finding::ok(Check::MasterKey, format!("{origin} is made at the first start")),
        Err(error) => Finding::fault(Check::MasterKey, Chain(&error).to_string())
            .fix("the file is to be the daemon's user's, mode 0600, with 32 random bytes in base64"),
    }
}
