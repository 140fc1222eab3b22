//! `docs/configuration.md`: every key, from the types and rules themselves.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Config, changes, rule::Ruled, shape};

/// What must be so of keys, wherever it is written.
fn rules() -> Vec<(&'static str, &'static str)> {
    Config::told()
        .chain(super::Http::told())
        .chain(super::Limits::told())
        .chain(super::Database::told())
        .chain(super::Node::told())
        .chain(super::Retention::told())
        .chain(super::Webhooks::told())
        .chain(super::External::told())
        .chain(super::Meta::told())
        .chain(super::Log::told())
        .chain(super::Traces::told())
        .chain(super::WhatsApp::told())
        .chain(super::History::told())
        .chain(super::Media::told())
        .collect()
}

/// The whole page.
pub fn page() -> String {
    let mut page = include_str!("reference.md").to_owned();
    let schema = schemars::generate::SchemaSettings::default()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Config>();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let (sections, keys): (Vec<_>, Vec<_>) =
        properties(schema.as_value()).into_iter().partition(|(_, of)| of["properties"].is_object());
    let rules = rules();
    for (name, of) in keys {
        page += &key(&name, &of, &defaults[&name], &rules);
    }
    for (section, of) in sections {
        let _ = writeln!(page, "\n## [{section}]\n\n{}", text(&of));
        for (name, of) in properties(&of) {
            let default = &defaults[&section][&name];
            page += &key(&format!("{section}.{name}"), &of, default, &rules);
        }
    }
    page
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema["properties"].as_object().cloned().unwrap_or_default()
}

fn text(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn key(key: &str, schema: &Value, default: &Value, rules: &[(&str, &str)]) -> String {
    let variable = key.to_ascii_uppercase().replace('.', "__");
    let mut part = format!("\n### {key}\n\n{}\n\n- Variable: `WAGATE_{variable}`\n", text(schema));
    part += &value(schema);
    let _ = match default {
        Value::Null => writeln!(part, "- Default: not set"),
        Value::String(text) => {
            let shown = shape::size(text).or_else(|| shape::days(text));
            writeln!(part, "- Default: `\"{}\"`", shown.as_ref().unwrap_or(text))
        }
        other => writeln!(part, "- Default: `{other}`"),
    };
    for (_, must) in rules.iter().filter(|(of, _)| *of == key) {
        let (first, rest) = must.split_at(1);
        let _ = writeln!(part, "- {}{rest}", first.to_ascii_uppercase());
    }
    if changes::is_live(key) {
        part += "- A daemon that runs takes it over at SIGHUP.\n";
    }
    part
}

fn value(schema: &Value) -> String {
    let choices = |all: &Vec<Value>| {
        let choice = |one: &Value| {
            let word = one["const"].as_str().unwrap_or_default();
            format!("  - `\"{word}\"`: {}\n", text(one))
        };
        format!("- Value: one of\n{}", all.iter().map(choice).collect::<String>())
    };
    if let Some(all) = schema["oneOf"].as_array() {
        return choices(all);
    }
    let kinds = &schema["type"];
    let has = |kind: &str| {
        kinds == kind || kinds.as_array().is_some_and(|all| all.contains(&kind.into()))
    };
    let called = match schema["title"].as_str() {
        Some(called) => called,
        None if has("boolean") => "`true` or `false`",
        None if has("integer") => "a whole number",
        None => "a text",
    };
    format!("- Value: {called}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_and_every_rule_is_of_a_key() {
        let page = page();
        let mut keys = Vec::new();
        for part in page.split("\n### ").skip(1) {
            let (key, rest) = part.split_once("\n\n").unwrap();
            let (explained, facts) = rest.split_once("\n\n- Variable").unwrap();
            assert!(explained.trim_end().ends_with('.'), "{key}: {explained:?}");
            assert!(
                facts.contains("\n- Value: ") && facts.contains("\n- Default: "),
                "{key}: {facts}"
            );
            assert!(!part.contains("[`"), "{key} links into the code");
            keys.push(key);
        }
        assert!(keys.contains(&"state_dir") && keys.contains(&"media.timeout"), "{keys:?}");
        for (key, must) in rules() {
            assert!(keys.contains(&key), "{key} is no key: {must}");
        }
    }
}
