//! What the configuration was when it was last gone by, so that the audit log has what is another value since.
//!
//! The file in the state directory holds no value: of each key a signature by the first organization's key in the
//! vault, which says whether a value is the same and nothing else, be it a secret that could be guessed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::id::OrganizationId;

use crate::{
    config::{Config, sealed},
    state_dir::write_whole,
    store::{Patience, Store},
    vault::Sealer,
};

/// The file's name.
const FILE: &str = "configuration.used";

/// What the signatures are for.
const PURPOSE: &str = "configuration";

/// Signed under this name: another key makes another signature, and then nothing is known of the values.
const OWN: &str = "";

/// What is remembered, and of whom.
#[derive(Debug)]
pub(super) struct Remembered {
    store: Store,
    organization: OrganizationId,
    file: PathBuf,
    /// What the daemon is called among those that share the database.
    node: String,
}

impl Remembered {
    pub(super) fn new(
        store: &Store,
        organization: OrganizationId,
        state_dir: &Path,
        node: &str,
    ) -> Self {
        let file = state_dir.join(FILE);
        Self { store: store.clone(), organization, file, node: node.to_owned() }
    }

    /// Has the audit log say which values are others than when they were last gone by, and remembers these. That it cannot
    /// is no reason not to go by them.
    pub(super) async fn goes_by(&self, config: &Config) {
        let noted = self.note(config).await;
        if let Err(error) = noted {
            let error = &*error;
            tracing::error!(
                error,
                "The audit log does not have what has changed of the configuration"
            );
        }
    }

    async fn note(&self, config: &Config) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let sealer = self.store.sealer(&self.organization, Patience::Fail).await?;
        let mut now = sealed(config, |key, value| sign(&sealer, key, value));
        now.insert(OWN.to_owned(), sign(&sealer, OWN, OWN));
        let before = self.read()?;
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        if let Some(before) = before.filter(|it| it.get(OWN) == now.get(OWN)) {
            // A key that one of both does not know is another version's.
            let differs = |(key, value): &(&String, &String)| {
                before.get(*key).is_some_and(|before| before != *value)
            };
            let keys: Vec<_> = now.iter().filter(differs).map(|(key, _)| key.clone()).collect();
            if !keys.is_empty() {
                self.store.audit().configuration_changed(self.node.clone(), keys).await?;
            }
        }
        write_whole(&self.file, &serde_json::to_string(&now)?)?;
        Ok(())
    }

    /// What was remembered; nothing where it cannot be read.
    fn read(&self) -> io::Result<Option<BTreeMap<String, String>>> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(serde_json::from_str(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn sign(sealer: &Sealer, key: &str, value: &str) -> String {
    // The key's length keeps both from running together.
    let message = format!("{}:{key}{value}", key.len());
    URL_SAFE_NO_PAD.encode(sealer.sign(PURPOSE, message.as_bytes()))
}
