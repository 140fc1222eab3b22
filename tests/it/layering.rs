//! Who may import whom: the arrows of ARCHITECTURE.md, read from the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A module, and the modules it may name. What is missing here may name nothing; `daemon` and `cli`,
/// which put everything together, may name everything, and nobody may name them.
const ALLOWED: [(&str, &[&str]); 22] = [
    ("backup", &["config", "store"]),
    ("clock", &[]),
    ("config", &[]),
    ("copies", &["device", "event", "state_dir", "store"]),
    ("lifecycle", &[]),
    ("maintenance", &["clock", "store"]),
    ("restore", &["backup", "config", "store"]),
    ("telemetry", &["config", "traces"]),
    ("traces", &["config"]),
    ("qr", &[]),
    ("event", &[]),
    // Keys and what they seal: no rows. Who has a secret to keep asks the store for a sealer.
    ("vault", &[]),
    // Meta's Graph API, and nothing of ours.
    ("graph", &[]),
    // The words and rules of Meta's webhooks: signatures, envelopes, keys. No rows, no sockets.
    ("meta", &[]),
    // The words and rules of webhooks: an event's type, a body, a signature. No rows, no sockets.
    ("webhook", &["event"]),
    ("store", &["clock", "event", "vault", "webhook"]),
    ("delivery", &["clock", "store", "webhook"]),
    ("device", &["clock", "store", "vault"]),
    ("session", &["clock", "device", "event", "store", "vault"]),
    (
        "service",
        &["clock", "delivery", "event", "graph", "meta", "session", "store", "vault", "webhook"],
    ),
    // The view of a session is computed by `session`, the words of an event are `event`'s.
    ("http", &["clock", "event", "qr", "service", "webhook"]),
    ("lib", &[]),
];

/// The moments of the crash tests: nothing, in a build without the simulator.
const EVERYWHERE: &str = "fault";

/// Those that see all.
const WIRING: [&str; 3] = ["daemon", "cli", "main"];

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&src) {
        let module = module_of(file.strip_prefix(&src).unwrap());
        if WIRING.contains(&module.as_str()) {
            continue;
        }
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, a)| a);
        for named in modules_named(&fs::read_to_string(&file).unwrap()) {
            if named != module && named != EVERYWHERE && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{}: {module} must not use {named}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The client library is known to one folder and to the storage it asks for.
#[test]
fn only_the_client_s_neighbours_name_the_client_library() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let neighbours =
        [src.join("session/client"), src.join("session/client.rs"), src.join("device")];
    for file in sources(&src) {
        if neighbours.iter().any(|neighbour| file.starts_with(neighbour)) {
            continue;
        }
        let text = code(&fs::read_to_string(&file).unwrap());
        for library in ["whatsapp_rust::", "wacore::", "waproto::"] {
            assert!(!text.contains(library), "{} names {library}", file.display());
        }
    }
}

/// What every dial needs is made by the one factory of a process, and not for each session.
#[test]
fn what_all_links_share_is_made_once() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (made, by) in [
        ("default_tls_connector()", "session/client/mod.rs"),
        ("Http::new(", "session/client/mod.rs"),
        ("Versions::new(options.version", "session/client/mod.rs"),
        ("Factory::new(", "session/manager/mod.rs"),
    ] {
        let mut makers = Vec::new();
        for file in sources(&src) {
            let count = code(&fs::read_to_string(&file).unwrap()).matches(made).count();
            let name = file.strip_prefix(&src).unwrap().display().to_string();
            makers.extend(std::iter::repeat_n(name, count));
        }
        assert_eq!(makers, [by], "{made}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// `http/api/qr.rs` belongs to `http`, `clock.rs` to `clock`.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The text without its comments. A `//` in a string hides what follows it on its line, and that is
/// no import.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The top-level modules that stand after `crate::`, alone or in braces.
fn modules_named(text: &str) -> BTreeSet<String> {
    let text = code(text);
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            named.extend(module_at(rest));
            continue;
        };
        let mut depth = 0_usize;
        let mut start = Some(0);
        for (position, character) in inside.char_indices() {
            match character {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => start = Some(position + 1),
                _ if character.is_whitespace() => {}
                _ if start.is_some() => {
                    start = None;
                    named.extend(module_at(&inside[position..]));
                }
                _ => {}
            }
        }
    }
    named
}

/// The name at the beginning of `text`, if it is a module's: constants and types are not.
fn module_at(text: &str) -> Option<String> {
    let name: String =
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    name.starts_with(|first: char| first.is_ascii_lowercase()).then_some(name)
}

#[test]
fn imports_are_found_alone_and_in_braces() {
    let text = "
        use crate::clock::Clock;
        // use crate::http;
        use crate::{
            SIMULATOR,
            event::{kind::Kind, payload},
            store::{self, Error},
        };
        fn f() { crate::session::view(); }
    ";
    let named: Vec<_> = modules_named(text).into_iter().collect();
    assert_eq!(named, ["clock", "event", "session", "store"]);
}
