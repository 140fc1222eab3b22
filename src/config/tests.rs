use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    providers::{Format as _, Toml},
    value::{Dict, Value},
};

use super::*;
use crate::SIMULATOR;

const EXAMPLE: &str = include_str!("../../examples/wagate.toml");

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let variables = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { variables, ..Sources::default() }
}

fn with_file(dir: &Path, text: &str) -> Sources {
    let path = dir.join("wagate.toml");
    fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..Sources::default() }
}

fn config(sources: &Sources) -> Config {
    load(sources).unwrap().config
}

fn complaint(sources: &Sources) -> String {
    load(sources).unwrap_err().to_string()
}

#[test]
fn without_anything_the_defaults_hold() {
    assert_eq!(config(&Sources::default()), Config::default());
    Config::default().validate().unwrap();
}

#[test]
fn a_flag_beats_a_variable_which_beats_the_file_which_beats_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = with_file(
        dir.path(),
        "[http]\nlisten = '127.0.0.1:1'\nrequest_timeout = '1m'\nmax_body = '2MiB'\n",
    );
    sources.variables = variables(&[
        ("WAGATE_HTTP__LISTEN", "127.0.0.1:2"),
        ("WAGATE_HTTP__REQUEST_TIMEOUT", "2m"),
    ])
    .variables;
    sources.flags =
        vec![Flag { name: "--listen", key: "http.listen", value: "127.0.0.1:3".to_owned() }];

    let http = config(&sources).http;
    assert_eq!(http.listen.port(), 3);
    assert_eq!(http.request_timeout, Duration::from_mins(2));
    assert_eq!(http.max_body_bytes(), 2 * 1024 * 1024);
    assert_eq!(http.shutdown_grace, Http::default().shutdown_grace);
}

#[test]
fn a_variable_is_text_and_becomes_what_its_key_wants() {
    let config = config(&variables(&[
        ("WAGATE_STATE_DIR", "/srv/wagate"),
        ("WAGATE_DATABASE__READERS", "7"),
        ("WAGATE_DATABASE__MIGRATE", "false"),
        ("WAGATE_LOG__FORMAT", "json"),
        ("WAGATE_WHATSAPP__DEVICE_NAME", "12"),
        ("WAGATE_WHATSAPP__VERSION", "2.3000.1023456789"),
    ]));
    assert_eq!(config.state_dir, PathBuf::from("/srv/wagate"));
    assert_eq!(config.database.readers, 7);
    assert!(!config.database.migrate);
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.whatsapp.device_name, "12");
    assert_eq!(config.whatsapp.version, Some((2, 3000, 1_023_456_789)));
}

#[test]
fn the_first_file_that_is_there_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("there.toml");
    fs::write(&there, "state_dir = '/a'").unwrap();
    let searched = vec![dir.path().join("absent.toml"), there.clone()];
    let loaded = load(&Sources { searched, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.state_dir, PathBuf::from("/a"));
    assert_eq!(loaded.file, Some(there));
}

#[test]
fn systemd_s_state_directory_is_a_default_only() {
    let mut sources = variables(&[("STATE_DIRECTORY", "/var/lib/wagate:/var/lib/other")]);
    assert_eq!(config(&sources).state_dir, PathBuf::from("/var/lib/wagate"));
    sources.variables.push(("WAGATE_STATE_DIR".into(), "/elsewhere".into()));
    assert_eq!(config(&sources).state_dir, PathBuf::from("/elsewhere"));
}

#[test]
fn a_systemd_credential_is_the_master_key_s_file_unless_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = variables(&[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
    assert_eq!(config(&sources).encryption.master_key_file, None);
    let credential = dir.path().join("wagate-master-key");
    fs::write(&credential, "").unwrap();
    assert_eq!(config(&sources).encryption.master_key_file, Some(credential));
    let other = ("WAGATE_ENCRYPTION__MASTER_KEY_FILE".into(), "/etc/key".into());
    sources.variables.push(other);
    assert_eq!(config(&sources).encryption.master_key_file, Some("/etc/key".into()));
}

#[test]
fn a_master_key_in_the_environment_is_text_and_is_not_shown() {
    let key = "12".repeat(32);
    let config = config(&variables(&[("WAGATE_ENCRYPTION__MASTER_KEY", &key)]));
    assert_eq!(config.encryption.master_key.as_ref().unwrap().expose(), key);
    assert!(!format!("{config:?}").contains("1212"));
}

#[test]
fn a_mistake_is_one_line_with_the_key_and_its_origin() {
    for (pairs, line) in [
        (
            [("WAGATE_HTTP__LISTEN", "nowhere")],
            "http.listen (environment variable WAGATE_HTTP__LISTEN): invalid socket address syntax",
        ),
        (
            [("WAGATE_HTTP__LISTN", "127.0.0.1:1")],
            "http.listn (environment variable WAGATE_HTTP__LISTN): unknown key; known here: \
             admin_listen, cors_origins, forwarded_header, listen, max_body, open_metrics, \
             request_timeout, shutdown_grace, tls_certificate, tls_key, trusted_proxies",
        ),
        (
            [("WAGATE_HTP__LISTEN", "127.0.0.1:1")],
            "htp (environment variable WAGATE_HTP__LISTEN): unknown key; known here: database, \
             encryption, external, history, http, limits, log, media, meta, node, retention, state_dir, traces, webhooks, whatsapp",
        ),
        (
            [("WAGATE_HTTP_LISTEN", "127.0.0.1:1")],
            "http.listen (environment variable WAGATE_HTTP_LISTEN): two underscores after the \
             section: WAGATE_HTTP__LISTEN",
        ),
        (
            [("WAGATE_HTTP__REQUEST_TIMEOUT", "soon")],
            "http.request_timeout (environment variable WAGATE_HTTP__REQUEST_TIMEOUT): expected a \
             duration, found a text",
        ),
        (
            [("WAGATE_DATABASE__READERS", "0")],
            "database.readers (environment variable WAGATE_DATABASE__READERS): must be between 1 \
             and 1000",
        ),
        (
            [("WAGATE_RETENTION__META", "never")],
            "retention.message_statuses (default): must not be shorter than retention.meta: what is carried \
             out again would be told again",
        ),
        (
            [("WAGATE_RETENTION__MESSAGE_STATUSES", "29days")],
            "retention.message_statuses (environment variable WAGATE_RETENTION__MESSAGE_STATUSES): \
             must not be shorter than retention.meta: what is carried out again would be told again",
        ),
        (
            [("WAGATE_LOG__LEVEL", "loud")],
            "log.level (environment variable WAGATE_LOG__LEVEL): expected one of off, error, warn, \
             info, debug, trace",
        ),
        (
            [("WAGATE_WHATSAPP__VERSION", "2.3000")],
            "whatsapp.version (environment variable WAGATE_WHATSAPP__VERSION): expected three \
             numbers, as in 2.3000.1023456789",
        ),
    ] {
        assert_eq!(complaint(&variables(&pairs)), line);
    }
}

#[test]
fn a_file_s_mistakes_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("wagate.toml");
    let at = at.display();
    for (text, line) in [
        (
            "[http]\nlisten = 5",
            format!("http.listen ({at}): expected socket address, found a number"),
        ),
        // Its quotes were forgotten.
        (
            "[meta]\ndefault_verify_token = 998877665544",
            format!("meta.default_verify_token ({at}): expected a string, found a number"),
        ),
        (
            "[htp]\nlisten = 5",
            format!(
                "htp ({at}): unknown key; known here: database, encryption, external, history, http, \
                 limits, log, media, meta, node, retention, state_dir, traces, webhooks, whatsapp"
            ),
        ),
        ("http = 5", format!("http ({at}): this is a section, not a key")),
        ("[state_dir]\na = 1", format!("state_dir ({at}): this is a key, not a section")),
        ("\n[http\n", format!("{at}, line 2: invalid table header, expected `.`, `]`")),
    ] {
        assert_eq!(complaint(&with_file(dir.path(), text)), line);
    }
    let absent = Sources { file: Some("/nowhere/wagate.toml".into()), ..Sources::default() };
    assert_eq!(
        complaint(&absent),
        "cannot read the configuration file /nowhere/wagate.toml (--config)"
    );
}

#[test]
fn other_peoples_variables_are_left_alone() {
    let sources = variables(&[
        ("WAGATE_TEST_POSTGRES_URL", "postgres://localhost"),
        ("WAGATE_PORT", "tcp://10.0.0.1:80"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(config(&sources), Config::default());
}

#[test]
fn no_error_and_no_debug_output_shows_a_password() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        "database = 'postgres://me:hunter2@db/wagate'",
        "[database]\nurl = 'mysql://me:hunter2@db/wagate'",
        "[database]\nurl = 'hunter2'",
        "[database]\nurl = ['postgres://me:hunter2@db/wagate']",
        "[database]\nreaders = 'postgres://me:hunter2@db/wagate'",
        "[database]\nmigrate = 'hunter2'",
        "[log]\nformat = 'hunter2'",
        "[log]\nfilter = 'wagate=info, hunter2=hunter2'",
        "[encryption]\nmaster_key = ['hunter2']",
        "[database]\nurl = 'postgres://me:hunter2@db",
        "[database]\nurl = postgres://me:hunter2@db",
    ] {
        let error = load(&with_file(dir.path(), text)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error} {error:?}");
    }
    let url = "postgres://me:hunter2@db:5433/wagate?password=hunter2&sslmode=require";
    let config = config(&variables(&[("WAGATE_DATABASE__URL", url)]));
    let url = config.database.url.clone().unwrap();
    assert_eq!(url.to_string(), "postgres://db:5433/wagate");
    assert!(url.expose().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn sqlite_is_a_file_and_nothing_else() {
    for wrong in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:///a.db?mode=memory"] {
        let line = complaint(&variables(&[("WAGATE_DATABASE__URL", wrong)]));
        assert!(
            line.ends_with("expected the path of a file after sqlite: and no options"),
            "{line}"
        );
    }
    let config = config(&variables(&[("WAGATE_DATABASE__URL", "sqlite:///srv/wagate.db")]));
    let url = config.database.url.unwrap();
    assert_eq!(
        (url.expose(), url.to_string().as_str()),
        ("sqlite:///srv/wagate.db", "sqlite:/srv/wagate.db")
    );
}

#[test]
fn without_an_address_the_database_is_a_file_in_the_state_directory() {
    let database = Database::default();
    let url = |dir: &str| database.url_in(Path::new(dir)).expose().to_owned();
    assert_eq!(url("wagate-data"), "sqlite:wagate-data/wagate.db");
    assert_eq!(url("/srv/a b"), "sqlite:/srv/a%20b/wagate.db");
    assert_eq!(url("/srv/50%?"), "sqlite:/srv/50%25%3F/wagate.db");
    for dir in ["wagate-data", "/srv/a b", "/srv/50%?", "/srv/ä"] {
        let file = Path::new(dir).join("wagate.db");
        assert_eq!(DatabaseUrl::sqlite(&file).sqlite_file(), Some(file));
    }
    let file = |url: &str| url.parse::<DatabaseUrl>().unwrap().sqlite_file();
    assert_eq!(file("sqlite:///srv/a.db"), Some("/srv/a.db".into()));
    assert_eq!(file("sqlite://data/a.db"), Some("data/a.db".into()));
    assert_eq!(file("postgres://db/wagate"), None);
}

#[test]
fn another_server_than_whatsapp_s_needs_the_simulator_feature() {
    let sources = variables(&[("WAGATE_WHATSAPP__URL", "ws://127.0.0.1:7000/ws/chat")]);
    if SIMULATOR {
        assert!(config(&sources).whatsapp.url.is_some());
        let other = variables(&[("WAGATE_WHATSAPP__URL", "http://127.0.0.1:7000")]);
        assert!(complaint(&other).ends_with("expected ws://host:port/path"));
    } else {
        assert!(complaint(&sources).starts_with("whatsapp.url (environment variable"));
    }
}

/// `# key = value` shows a default, `## key = value` an example of a key that has none.
#[test]
fn the_example_shows_every_key_and_every_default() {
    let uncommented = |marker: &str| {
        let lines = EXAMPLE.lines().filter_map(|line| {
            let shown = line.strip_prefix(marker).filter(|rest| is_assignment(rest));
            shown.or_else(|| line.starts_with('[').then_some(line))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let defaults = uncommented("# ");
    let examples = uncommented("## ");

    let dir = tempfile::tempdir().unwrap();
    let shown = with_file(dir.path(), &defaults);
    assert_eq!(config(&shown), Config::default());
    if SIMULATOR {
        load(&with_file(dir.path(), &examples)).unwrap();
    }
    // As shipped, nothing is set.
    assert_eq!(config(&with_file(dir.path(), EXAMPLE)), Config::default());

    let mut shown: Vec<_> = keys(&defaults);
    shown.extend(keys(&examples));
    shown.sort();
    let mut known = Vec::new();
    if let Value::Dict(_, defaults) = Value::serialize(Config::default()).unwrap() {
        collect("", &defaults, &mut known);
    }
    assert_eq!(shown, known);
}

fn is_assignment(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

fn keys(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect("", &Toml::from_str::<Dict>(text).unwrap(), &mut found);
    found
}

fn collect(path: &str, values: &Dict, into: &mut Vec<String>) {
    for (name, value) in values {
        match value {
            Value::Dict(_, inner) => collect(&format!("{path}{name}."), inner, into),
            _ => into.push(format!("{path}{name}")),
        }
    }
}

#[test]
fn the_variables_of_the_app_of_the_whole_installation_are_taken_and_ours_win() {
    let meta = |pairs: &[(&str, &str)]| config(&variables(pairs)).meta;
    let taken = meta(&[
        ("DEFAULT_WEBHOOK_VERIFY_TOKEN", "fallback_token"),
        ("DEFAULT_WEBHOOK_SECRET", "fallback_secret"),
        ("WAGATE_META__DEFAULT_WEBHOOK_SECRET", "another_secret"),
    ]);
    let exposed = |secret: Option<SecretText>| secret.map(|it| it.expose().to_owned());
    assert_eq!(exposed(taken.default_verify_token).as_deref(), Some("fallback_token"));
    assert_eq!(exposed(taken.default_webhook_secret).as_deref(), Some("another_secret"));
    let complaint = complaint(&variables(&[("DEFAULT_WEBHOOK_SECRET", "short")]));
    assert!(complaint.contains("meta.default_webhook_secret"), "{complaint}");
    assert!(complaint.contains("DEFAULT_WEBHOOK_SECRET"));
}
