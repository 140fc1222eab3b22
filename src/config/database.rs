//! `[database]`: where the rows are.

use std::{fmt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::Invalid;

/// The database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host/name`, or `sqlite:///absolute/path`. Without it: SQLite in
    /// `wagate.db` in the state directory.
    pub url: Option<DatabaseUrl>,
    /// Connections that read at the same time.
    pub readers: u32,
    /// Connections that write at the same time, on PostgreSQL. SQLite has one writer by nature.
    pub writers: u32,
    /// How long a request waits for a free connection before it is answered with 503.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Whether the schema is brought up to date at start. Without it the daemon refuses to start on
    /// an old one.
    pub migrate: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            readers: 4,
            writers: 4,
            acquire_timeout: Duration::from_secs(5),
            migrate: true,
        }
    }
}

impl Database {
    /// The database to open: the one named, or the file in the state directory.
    pub fn url_in(&self, state_dir: &Path) -> DatabaseUrl {
        self.url.clone().unwrap_or_else(|| DatabaseUrl::sqlite(&state_dir.join("wagate.db")))
    }

    pub(super) fn validate(&self) -> Result<(), Invalid> {
        if !(1..=1000).contains(&self.readers) {
            return Err(Invalid::new("database.readers", "must be between 1 and 1000"));
        }
        if !(1..=64).contains(&self.writers) {
            return Err(Invalid::new("database.writers", "must be between 1 and 64"));
        }
        if self.acquire_timeout.is_zero() {
            return Err(Invalid::new("database.acquire_timeout", "must be longer than nothing"));
        }
        Ok(())
    }
}

/// A database's address, which may hold a password: it shows itself without user and options.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl(Url);

/// The text is no address of a database. It is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ParseUrlError {
    /// Not a URL at all.
    #[error("not a URL: expected postgres://user:password@host/name or sqlite:///path")]
    Syntax(#[source] url::ParseError),
    /// Some other kind of database.
    #[error("expected a URL that starts with postgres:// or sqlite:")]
    Scheme,
}

impl DatabaseUrl {
    /// The SQLite file at `path`.
    pub fn sqlite(path: &Path) -> Self {
        // Without slashes after the scheme: behind two of them a relative path would lose its first
        // folder to the place where a host stands.
        let mut escaped = String::new();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'%' | b'?' | b'#' | b' ' => escaped.push_str(&format!("%{byte:02X}")),
                byte if byte.is_ascii_graphic() => escaped.push(char::from(*byte)),
                byte => escaped.push_str(&format!("%{byte:02X}")),
            }
        }
        let url = Url::parse(&format!("sqlite:{escaped}"));
        Self(url.expect("a scheme and an escaped path are a URL"))
    }

    /// The whole address, password and all: for the driver's eyes only.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = ParseUrlError;

    fn try_from(text: String) -> Result<Self, ParseUrlError> {
        let url = Url::parse(&text).map_err(ParseUrlError::Syntax)?;
        match url.scheme() {
            "postgres" | "postgresql" | "sqlite" => Ok(Self(url)),
            _ => Err(ParseUrlError::Scheme),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.host_str(), self.0.port()) {
            (Some(host), Some(port)) => write!(f, "{}://{host}:{port}", self.0.scheme())?,
            (Some(host), None) => write!(f, "{}://{host}", self.0.scheme())?,
            (None, _) => write!(f, "{}:", self.0.scheme())?,
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
