//! `wagate rekey`: another master key, whether the daemon runs or not.
//!
//! A running daemon holds the state directory's lock, and is not disturbed: what is rotated is under
//! what key the data keys are wrapped, in one transaction of a second connection. The daemon goes on with
//! the data keys it has opened. It looks for the new master key when it needs one it has not.

use std::{error::Error, path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use super::{
    output::{complain, say},
    person,
    progress::Progress,
    runtime,
    tenants::json as shown,
};
use crate::{
    clock::Clock,
    config::Config,
    daemon,
    store::{audit::By, keys},
    vault::{
        MasterKeyId,
        source::{self, Source},
    },
};

/// What `wagate rekey` is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// File with the master key in force [default: where the daemon finds it]
    #[arg(long, value_name = "FILE")]
    old_key: Option<PathBuf>,
    /// File with the new master key, made when it is not there [default: the old one is replaced]
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Why the master key is what it was.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot use the master key")]
    MasterKey(#[from] source::Error),
    #[error("the master key is not rotated")]
    Database(#[from] keys::RekeyError),
    #[error("{} holds the key that is in force already", .0.display())]
    Same(PathBuf),
}

struct Rotated {
    data_keys: usize,
    before: MasterKeyId,
    after: MasterKeyId,
    /// Where the new key is.
    new_key: PathBuf,
    /// Whether the daemon looks for it there.
    in_place: bool,
    /// Where the old key is kept.
    retired: Option<PathBuf>,
}

/// Rotates the master key.
pub(super) fn run(config: &Config, options: &Options) -> ExitCode {
    let progress = Progress::new(options.json);
    // It waits for its turn among a busy daemon's commits.
    progress.says("Rotating the master key");
    let rotated = match runtime::build() {
        Ok(runtime) => runtime.block_on(rotate(config, options)).map_err(Into::into),
        Err(error) => Err(Box::<dyn Error>::from(error)),
    };
    drop(progress);
    match rotated {
        Ok(rotated) => {
            say(&if options.json { shown(&rotated.json()) } else { rotated.to_string() });
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn rotate(config: &Config, options: &Options) -> Result<Rotated, Failure> {
    let store = daemon::store_options(config, &config.database.url_in(&config.state_dir));
    let source = match &options.old_key {
        Some(path) => Source::File(path.clone()),
        None => daemon::master_key(&config.encryption, &config.state_dir)?,
    };
    let wrapped = keys::list(&store).await?;
    // Also ends a rotation that was interrupted.
    let old = source.find(true, |key| key.opens(&wrapped))?;
    let (before, now) = (old.id(), Clock::system().now());
    let by = By::machine_user(person::user());

    if let Some(path) = &options.new_key {
        let new = source::read_or_create(path)?;
        if new == old {
            return Err(Failure::Same(path.clone()));
        }
        let data_keys = keys::rewrap(&store, &old, &new, &by, now).await?;
        let new_key = path.clone();
        return Ok(Rotated {
            data_keys,
            before,
            after: new.id(),
            new_key,
            in_place: false,
            retired: None,
        });
    }
    let rotation = source.prepare()?;
    // Should this fail, the new key stays where it is: whether the database took it is not known when
    // the connection broke during the commit. The next start, or rotation, finds out.
    let data_keys = keys::rewrap(&store, &old, rotation.key(), &by, now).await?;
    let retired = source.promote()?;
    Ok(Rotated {
        data_keys,
        before,
        after: rotation.key().id(),
        new_key: source.origin().into(),
        in_place: true,
        retired,
    })
}

impl Rotated {
    fn json(&self) -> Value {
        let path = |path: &PathBuf| path.display().to_string();
        json!({
            "dataKeys": self.data_keys,
            "before": self.before.as_str(),
            "after": self.after.as_str(),
            "newKey": path(&self.new_key),
            "inPlace": self.in_place,
            "oldKey": self.retired.as_ref().map(path),
        })
    }
}

impl std::fmt::Display for Rotated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data_keys, before, after, new_key, .. } = self;
        writeln!(
            f,
            "The master key is rotated: {data_keys} data keys are under {after}, no longer {before}."
        )?;
        writeln!(f, "  new key   {}", new_key.display())?;
        if let Some(retired) = &self.retired {
            writeln!(f, "  old key   {}", retired.display())?;
            writeln!(f, "Delete the old key when no backup from before is needed any more.")?;
        }
        if self.in_place {
            writeln!(f, "A daemon that runs goes on, and finds the new key by itself.")
        } else {
            writeln!(
                f,
                "A daemon that runs goes on. Let it find the new key before its next start, and before \
                 an organization is added: encryption.master_key_file, or the credential. Keep the old \
                 key for as long as backups from before are needed."
            )
        }
    }
}
