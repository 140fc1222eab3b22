//! Where values come from, and which of them wins.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::{
    Config, Error,
    error::{describe, one_line},
};

/// What every variable of ours starts with.
const PREFIX: &str = "WAGATE_";

/// Names the configuration file, and so cannot stand in it.
const CONFIG_VARIABLE: &str = "WAGATE_CONFIG";

/// Where systemd made the state directory (`StateDirectory=`).
const STATE_DIRECTORY_VARIABLE: &str = "STATE_DIRECTORY";

/// Where systemd has put the unit's credentials (`LoadCredential=`), and what ours is called.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const MASTER_KEY_CREDENTIAL: &str = "wagate-master-key";

/// Where the seed's deployments have the key of the status webhook.
const STATUS_KEY_VARIABLE: &str = "WEBHOOK_SECRET_KEY";
/// What the installation's own app at Meta is known by, as it was before it was a key of ours.
const META_VARIABLES: [(&str, &str); 2] = [
    ("DEFAULT_WEBHOOK_VERIFY_TOKEN", "meta.default_verify_token"),
    ("DEFAULT_WEBHOOK_SECRET", "meta.default_webhook_secret"),
];

/// Where a file is looked for when none is named; the first that is there is the one.
const SEARCHED: [&str; 2] = ["wagate.toml", "/etc/wagate/wagate.toml"];

/// Everything a configuration can come from, so that tests need no process of their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by `--config`.
    pub file: Option<PathBuf>,
    /// Files to look for when none is named.
    pub searched: Vec<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// The flags that set a key.
    pub flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag, as typed: `--listen`.
    pub name: &'static str,
    /// The key it sets: `http.listen`.
    pub key: &'static str,
    /// The value given.
    pub value: String,
}

/// A usable configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was decided.
    pub config: Config,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// This process's own environment and the usual places.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let searched = SEARCHED.map(PathBuf::from).to_vec();
        Self { file, searched, variables: std::env::vars_os().collect(), flags }
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    }
}

/// Puts the layers on top of one another and checks the result.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let schema = Schema::new();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));

    // systemd's word on the state directory is a better default, and no more than that. With several
    // directories, the first is ours.
    if let Some(directories) = sources.variable(STATE_DIRECTORY_VARIABLE) {
        let origin = format!("environment variable {STATE_DIRECTORY_VARIABLE}");
        let text = text_of(directories, "state_dir", &origin)?;
        let first = text.split(':').next().unwrap_or_default().to_owned();
        figment = figment.merge(Layer::one("state_dir", first, origin));
    }
    // A credential that was loaded for us is meant to be used.
    if let Some(directory) = sources.variable(CREDENTIALS_VARIABLE) {
        let path = Path::new(directory).join(MASTER_KEY_CREDENTIAL);
        if fs::symlink_metadata(&path).is_ok() {
            let key = "encryption.master_key_file";
            let origin = format!("environment variable {CREDENTIALS_VARIABLE}");
            let text = text_of(&path.into_os_string(), key, &origin)?;
            figment = figment.merge(Layer::one(key, text, origin));
        }
    }
    let file = read_file(sources, &schema)?;
    if let Some((path, values)) = &file {
        let origin = path.display().to_string();
        figment = figment.merge(Layer { origin, values: values.clone() });
    }
    if let Some(secret) = sources.variable(STATUS_KEY_VARIABLE) {
        let key = "external.webhook_secret_key";
        let origin = format!("environment variable {STATUS_KEY_VARIABLE}");
        let text = text_of(secret, key, &origin)?;
        figment = figment.merge(Layer::one(key, text, origin));
    }
    for (variable, key) in META_VARIABLES {
        if let Some(value) = sources.variable(variable) {
            let origin = format!("environment variable {variable}");
            figment = figment.merge(Layer::one(key, text_of(value, key, &origin)?, origin));
        }
    }
    for layer in environment(sources, &schema)? {
        figment = figment.merge(layer);
    }
    for flag in &sources.flags {
        figment = figment.merge(Layer::one(flag.key, flag.value.clone(), flag.name.to_owned()));
    }

    // Lossy, as variables and flags are text: "8" may stand for a number there.
    let config: Config = figment.extract_lossy().map_err(|error| Error::Key {
        key: error.path.join("."),
        origin: origin(error.metadata.as_ref()),
        reason: describe(&error.kind),
    })?;
    config.validate().map_err(|invalid| Error::Key {
        key: invalid.key.to_owned(),
        origin: origin(figment.find_metadata(invalid.key)),
        reason: invalid.reason,
    })?;
    Ok(Loaded { config, file: file.map(|(path, _)| path) })
}

fn origin(metadata: Option<&Metadata>) -> String {
    // The defaults' own name is figment's affair.
    metadata
        .filter(|metadata| metadata.source.is_none())
        .map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string())
}

/// Reads the file that was named, or the first of the usual ones; its keys are all known.
fn read_file(sources: &Sources, schema: &Schema) -> Result<Option<(PathBuf, Dict)>, Error> {
    let (path, origin) = if let Some(path) = &sources.file {
        (path.clone(), "--config".to_owned())
    } else if let Some(path) = sources.variable(CONFIG_VARIABLE) {
        (PathBuf::from(path), format!("environment variable {CONFIG_VARIABLE}"))
    } else {
        // One that is there but cannot be read is an error: it was meant to count.
        let there = sources.searched.iter().find(|path| fs::symlink_metadata(path).is_ok());
        let Some(path) = there else { return Ok(None) };
        (path.clone(), "looked for by default".to_owned())
    };
    let text = fs::read_to_string(&path).map_err(|source: io::Error| Error::Unreadable {
        path: path.clone(),
        origin,
        source,
    })?;
    let values = parse(&path, &text)?;
    schema.check(&values, &path.display().to_string())?;
    Ok(Some((path, values)))
}

fn parse(path: &Path, text: &str) -> Result<Dict, Error> {
    Toml::from_str::<Dict>(text).map_err(|error| {
        // The parser's own rendering quotes the line, which may hold a password.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::Syntax { path: path.to_owned(), line, reason: one_line(error.message()) }
    })
}

/// One layer for each of our variables, so that each error can name its own.
fn environment(sources: &Sources, schema: &Schema) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    for (name, value) in &sources.variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let origin = format!("environment variable {name}");
        let key = rest.to_ascii_lowercase().replace("__", ".");
        if !key.contains('.') && !schema.is_key(&key) {
            // `WAGATE_CONFIG`, or somebody else's; but one underscore instead of two is a mistake.
            if let Some(key) = schema.with_single_underscore(&key) {
                let right = key.to_ascii_uppercase().replace('.', "__");
                let reason = format!("two underscores after the section: {PREFIX}{right}");
                return Err(Error::Key { key, origin, reason });
            }
            continue;
        }
        let layer = Layer::one(&key, text_of(value, &key, &origin)?, origin);
        schema.check(&layer.values, &layer.origin)?;
        layers.push(layer);
    }
    Ok(layers)
}

fn text_of(value: &OsString, key: &str, origin: &str) -> Result<String, Error> {
    value.to_str().map(ToOwned::to_owned).ok_or_else(|| Error::Key {
        key: key.to_owned(),
        origin: origin.to_owned(),
        reason: "not UTF-8".to_owned(),
    })
}

/// Values that were all set in one place.
struct Layer {
    origin: String,
    values: Dict,
}

impl Layer {
    fn one(key: &str, value: String, origin: String) -> Self {
        let mut segments = key.rsplit('.');
        let mut values = Dict::new();
        if let Some(last) = segments.next() {
            values.insert(last.to_owned(), Value::from(value));
        }
        for section in segments {
            values = Dict::from([(section.to_owned(), Value::from(values))]);
        }
        Self { origin, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The keys there are, which is what the defaults have.
struct Schema(Dict);

impl Schema {
    fn new() -> Self {
        match Value::serialize(Config::default()) {
            Ok(Value::Dict(_, keys)) => Self(keys),
            other => unreachable!("the defaults are plain values in sections, not {other:?}"),
        }
    }

    /// Whether `name` is a key outside of every section.
    fn is_key(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.as_dict().is_none())
    }

    /// `http_listen` is meant as `http.listen`, if there is such a key.
    fn with_single_underscore(&self, name: &str) -> Option<String> {
        let sections =
            self.0.iter().filter_map(|(section, value)| Some((section, value.as_dict()?)));
        sections.into_iter().find_map(|(section, keys)| {
            let key = name.strip_prefix(section.as_str())?.strip_prefix('_')?;
            keys.contains_key(key).then(|| format!("{section}.{key}"))
        })
    }

    /// Refuses the first key that is not known.
    fn check(&self, values: &Dict, origin: &str) -> Result<(), Error> {
        check_section("", &self.0, values, origin)
    }
}

fn check_section(path: &str, known: &Dict, values: &Dict, origin: &str) -> Result<(), Error> {
    for (name, value) in values {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let fail = |reason| Err(Error::Key { key: key.clone(), origin: origin.to_owned(), reason });
        match (known.get(name), value) {
            (None, _) => {
                let names: Vec<_> = known.keys().map(String::as_str).collect();
                return fail(format!("unknown key; known here: {}", names.join(", ")));
            }
            (Some(Value::Dict(_, known)), Value::Dict(_, values)) => {
                check_section(&key, known, values, origin)?;
            }
            (Some(Value::Dict(..)), _) => return fail("this is a section, not a key".to_owned()),
            (Some(_), Value::Dict(..)) => return fail("this is a key, not a section".to_owned()),
            (Some(_), _) => {}
        }
    }
    Ok(())
}
