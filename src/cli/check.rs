//! `wagate check-config`: whether a start would take the configuration, and the key and the certificate that it names.
//!
//! What else a start needs, and whether the key is the database's, is `doctor`'s to say: here nothing is opened but these
//! files.

use std::{path::Path, process::ExitCode};

use serde_json::json;

use super::{
    USAGE,
    output::{Chain, complain, say},
    tenants,
};
use crate::{
    config::Config,
    daemon::{self, StartError},
    vault::source::{Error, Source},
};

/// Says it. `file` is the one that was read.
pub(super) fn run(config: &Config, file: Option<&Path>, json: bool) -> ExitCode {
    let wrong = [key(config).err(), certificate(config).err()];
    let wrong: Vec<StartError> = wrong.into_iter().flatten().collect();
    let file = file.map(|path| path.display().to_string());
    if wrong.is_empty() {
        say(&if json {
            tenants::json(&json!({ "usable": true, "file": file }))
        } else {
            let read = file.unwrap_or_else(|| "no file".to_owned());
            format!("The configuration is usable ({read}).\n")
        });
        return ExitCode::SUCCESS;
    }
    if json {
        let errors: Vec<_> = wrong.iter().map(|error| Chain(error).to_string()).collect();
        return refuse(&errors.join("; "));
    }
    for error in &wrong {
        complain(error);
    }
    ExitCode::from(USAGE)
}

/// Says in JSON that it is of no use.
pub(super) fn refuse(error: &str) -> ExitCode {
    say(&tenants::json(&json!({ "usable": false, "error": error })));
    ExitCode::from(USAGE)
}

/// The key is one, if it is there; and somebody else's file is there.
fn key(config: &Config) -> Result<(), StartError> {
    let source = daemon::master_key(&config.encryption, &config.state_dir)?;
    match (source.peek(|_| true)?, source) {
        (None, Source::File(path)) => Err(Error::Absent(path).into()),
        // Our own is made when nothing is sealed yet.
        _ => Ok(()),
    }
}

fn certificate(config: &Config) -> Result<(), StartError> {
    daemon::tls(&config.http)?;
    Ok(())
}
