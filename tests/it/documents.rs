//! What the documents beside the code point at is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sea_orm_migration::MigratorTrait as _;
use wagate::config;

/// Folders whose pages are for people.
const FOLDERS: [&str; 7] = [
    "",
    "docs",
    "examples",
    "src/http/docs",
    "tests/schemathesis",
    "tests/simulator",
    "tests/vectors/meta",
];

/// All pages, from the root of the repository.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    pages
}

/// Where the links of a page lead to, without its blocks of code.
fn targets(page: &str) -> Vec<&str> {
    let lines = page.lines().filter(|line| !line.starts_with("    "));
    lines
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// The names under which a page's headings can be linked to.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.map(|it| if it == ' ' { '-' } else { it }).collect()
        })
        .collect()
}

#[test]
fn the_page_of_the_configuration_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = config::reference();
    if std::env::var_os("WAGATE_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
}

/// By which whoever goes back to an older version knows whether it can read the database.
#[test]
fn the_changelog_names_the_schema_of_this_version() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let page = fs::read_to_string(path).unwrap();
    let steps = migration::Migrator::migrations();
    let last = steps.last().unwrap().name();
    let line = format!("Schema: {} steps, the last is `{last}`.", steps.len());
    let newest = page.split("\n## ").nth(1).unwrap();
    assert!(newest.contains(&line), "{line}");
}

#[test]
fn the_image_is_built_with_the_pinned_toolchain_and_runs_as_nobody() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pinned = fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
    let pinned = pinned.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap();
    let pinned = pinned.trim_end_matches('"');
    let image = fs::read_to_string(root.join("Dockerfile")).unwrap();
    assert!(image.contains(&format!("\nFROM rust:{pinned}-slim-bookworm AS build\n")), "{pinned}");
    assert!(image.contains(&format!("\nENV RUSTUP_TOOLCHAIN={pinned}\n")), "{pinned}");
    // What is in the last stage is what runs.
    let last = image.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("gcr.io/distroless/"), "{last}");
    assert!(last.contains("\nUSER 65532:65532\n") && !last.contains("\nRUN "), "{last}");
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let pages = pages();
    assert!(pages.iter().any(|page| page.ends_with("docs/operations.md")), "{pages:?}");
    let mut followed = 0;
    for path in pages {
        let page = fs::read_to_string(&path).unwrap();
        for target in targets(&page) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(linked.exists(), "{} links to {target}, which is not there", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&linked).unwrap());
                let is_there = there.iter().any(|it| it == anchor);
                assert!(is_there, "{} links to {target}: {there:?}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 5, "{followed} links");
}
