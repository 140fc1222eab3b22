//! What the documents beside the code point at is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
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

/// The lines of a section of a manifest.
fn section<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != name).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty()).collect()
}

/// Names of this repository's released versions, if it is one and has been told of them.
fn tags() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let told = Command::new("git").args(["-C", root, "tag", "--list", "v*"]).output();
    let told = told.map(|it| String::from_utf8(it.stdout).unwrap()).unwrap_or_default();
    told.lines().map(|line| line[1..].to_owned()).collect()
}

#[test]
fn each_released_version_has_its_schema_kept_and_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("CHANGELOG.md")).unwrap();
    let entries: Vec<(&str, &str)> = page
        .split("\n## [")
        .skip(1)
        .filter_map(|entry| entry.split_once(']'))
        .filter(|(version, _)| *version != "Unreleased")
        .collect();
    assert!(entries.iter().any(|(version, _)| *version == "0.1.0"), "{entries:?}");
    for tag in tags() {
        assert!(entries.iter().any(|(version, _)| *version == tag), "{tag} has no entry");
    }
    for (version, entry) in entries {
        for file in ["sqlite.sql", "postgres.sql"] {
            let kept = root.join("tests/it/schemas").join(version).join(file);
            assert!(kept.exists(), "{} is not kept", kept.display());
        }
        let kept = root.join("tests/it/schemas").join(version).join("sqlite.sql");
        let kept = fs::read_to_string(kept).unwrap();
        let steps: Vec<&str> = kept
            .lines()
            .filter_map(|line| line.strip_prefix("INSERT INTO seaql_migrations VALUES('"))
            .filter_map(|line| Some(line.split_once('\'')?.0))
            .collect();
        let last = steps.last().unwrap();
        let line = format!("\nSchema: {} steps, the last is `{last}`.", steps.len());
        assert!(entry.contains(&line), "{version} does not say{line}");
    }
}

#[test]
fn what_is_handed_on_is_optimised_as_a_whole_stripped_and_unwinds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let dist = section(&manifest, "[profile.dist]");
    for line in ["inherits = \"release\"", "strip = true", "lto = \"thin\"", "codegen-units = 1"] {
        assert!(dist.contains(&line), "no {line} in {dist:?}");
    }
    let panics = |profile: &[&str]| -> Vec<String> {
        let lines = profile.iter().filter(|line| line.starts_with("panic"));
        lines.map(|line| (*line).to_owned()).collect()
    };
    // A panic of one session must not be the end of the others.
    assert_eq!(panics(&section(&manifest, "[profile.release]")), ["panic = \"unwind\""]);
    assert_eq!(panics(&dist), [""; 0]);
    // By what makes it, and by what tells people how to.
    for page in ["packaging/build.sh", "Dockerfile", "README.md", "docs/operations.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        assert!(text.contains("--profile dist"), "{page} builds something else");
    }
    // So is what the build is called.
    for page in ["packaging/build.sh", "Dockerfile", ".ci/run"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        assert!(text.contains("WAGATE_REVISION"), "{page} does not say of which commit it is");
    }
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
    for text in ["/LICENSE ", "/AGPL-3.0.txt ", "/third-party-licences.txt.gz "] {
        assert!(last.contains(text), "{text} is not in the image");
    }
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
