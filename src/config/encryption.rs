//! `[encryption]`: the key under which secrets in the database are sealed.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::shape;

/// Secrets at rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// A file with the master key: 32 random bytes in base64 or hexadecimal, not readable by others.
    /// Without it: the systemd credential `wagate-master-key`, else `master.key` in the state
    /// directory, which is made when nothing is sealed yet.
    #[schemars(with = "shape::File")]
    pub master_key_file: Option<PathBuf>,
    /// The master key itself, which wins over every file. For the environment, not for the file.
    pub master_key: Option<SecretText>,
}

/// Text that is not shown, and is wiped when it is let go of.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}
