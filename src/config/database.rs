//! `[database]`: where the rows are.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    rule::{Rule, Ruled},
    shape,
};

/// The database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host/name`, or `sqlite:///absolute/path`. Without it: SQLite in
    /// `wagate.db` in the state directory.
    pub url: Option<DatabaseUrl>,
    /// Connections that read at the same time.
    pub readers: u32,
    /// Connections that write for sessions at the same time, on PostgreSQL; if there are several, two more write leases and
    /// delete what is old. SQLite has one writer by nature.
    pub writers: u32,
    /// How long a request waits for a free connection before it is answered with 503.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub acquire_timeout: Duration,
    /// Whether the schema is brought up to date at start. Without it the daemon refuses to start on
    /// an old one.
    pub migrate: bool,
    /// What linked sessions do when the database turns out to be a restored copy.
    pub after_restore: AfterRestore,
}

/// What linked sessions do when the database turns out to be a restored copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterRestore {
    /// They are stopped until somebody starts each of them.
    Hold,
    /// They connect as after any other start.
    Dial,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            readers: 4,
            writers: 4,
            acquire_timeout: Duration::from_secs(5),
            migrate: true,
            after_restore: AfterRestore::Hold,
        }
    }
}

impl Database {
    /// The database to open: the one named, or the file in the state directory.
    pub fn url_in(&self, state_dir: &Path) -> DatabaseUrl {
        self.url.clone().unwrap_or_else(|| DatabaseUrl::sqlite(&state_dir.join("wagate.db")))
    }
}

impl Ruled for Database {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "database.readers",
            must: "must be between 1 and 1000",
            holds: |it| (1..=1000).contains(&it.readers),
        },
        Rule {
            key: "database.writers",
            must: "must be between 1 and 64",
            holds: |it| (1..=64).contains(&it.writers),
        },
        Rule {
            key: "database.acquire_timeout",
            must: "must be longer than nothing",
            holds: |it| !it.acquire_timeout.is_zero(),
        },
    ];
}

/// A database's address, which may hold a password: it shows itself without user and options.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DatabaseUrl {
    /// As it was given: reading and writing it again might spell a password differently.
    text: String,
    url: Url,
}

/// The text is no address of a database. It is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ParseUrlError {
    /// Not a URL at all.
    #[error("not a URL: expected postgres://user:password@host/name or sqlite:///path")]
    Syntax(#[source] url::ParseError),
    /// Some other kind of database.
    #[error("expected a URL that starts with postgres:// or sqlite:")]
    Scheme,
    /// SQLite without a file, or with options: those are ours to choose.
    #[error("expected the path of a file after sqlite: and no options")]
    Sqlite,
}

impl DatabaseUrl {
    /// The SQLite file at `path`.
    ///
    /// # Panics
    ///
    /// Never: an escaped path is part of a URL.
    pub fn sqlite(path: &Path) -> Self {
        // Without slashes after the scheme: behind two of them a relative path would lose its first
        // folder to the place where a host stands.
        let mut text = "sqlite:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'!'..=b'~' if !b"%?#".contains(byte) => text.push(char::from(*byte)),
                _ => write!(text, "%{byte:02X}").expect("a string takes all that is written to it"),
            }
        }
        let url = Url::parse(&text).expect("a scheme and an escaped path are a URL");
        Self { text, url }
    }

    /// The file, if this is SQLite's.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let path = (self.url.scheme() == "sqlite").then(|| {
            let rest = self.text.strip_prefix("sqlite:").unwrap_or_default();
            rest.strip_prefix("//").unwrap_or(rest)
        })?;
        // A file's URL knows how to undo the escapes; the slash is for a path that is relative.
        let url = Url::parse(&format!("file:///{path}")).ok()?;
        let file = url.to_file_path().ok()?;
        if path.starts_with('/') { Some(file) } else { file.strip_prefix("/").ok().map(Into::into) }
    }

    /// The whole address, password and all: for the driver's eyes only.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = ParseUrlError;

    fn try_from(text: String) -> Result<Self, ParseUrlError> {
        text.parse()
    }
}

impl FromStr for DatabaseUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        let text = text.to_owned();
        let url = Url::parse(&text).map_err(ParseUrlError::Syntax)?;
        match url.scheme() {
            "sqlite" if url.query().is_some() || matches!(url.path(), "" | "/" | ":memory:") => {
                Err(ParseUrlError::Sqlite)
            }
            "postgres" | "postgresql" | "sqlite" => Ok(Self { text, url }),
            _ => Err(ParseUrlError::Scheme),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => write!(f, "{}://{host}:{port}", self.url.scheme())?,
            (Some(host), None) => write!(f, "{}://{host}", self.url.scheme())?,
            (None, _) => write!(f, "{}:", self.url.scheme())?,
        }
        f.write_str(self.url.path())
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
