//! `docs/field-lessons.md` names the tests that show each row: they exist, and no row has nothing to say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The groups of which every row is there, and how many rows each has.
const WHOLE: [(char, usize); 5] = [('A', 20), ('B', 13), ('C', 12), ('D', 13), ('J', 16)];

/// A row of the table.
struct Row {
    id: String,
    shown_by: String,
}

impl Row {
    /// What is set in code, without paths of files.
    fn tests(&self) -> Vec<&str> {
        let spans = self.shown_by.split('`').skip(1).step_by(2);
        spans.filter(|it| !it.contains('/')).collect()
    }
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/field-lessons.md");
    let page = fs::read_to_string(page).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.map(|line| line.split(" | ").collect::<Vec<_>>());
    rows.filter(|cells| cells[0] != "row")
        .map(|cells| {
            let [id, _, shown_by] = cells[..] else { panic!("three columns: {cells:?}") };
            Row { id: id.to_owned(), shown_by: shown_by.to_owned() }
        })
        .collect()
}

/// The names of all functions that follow a mark of a test, in all sources.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["src", "tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let source = fs::read_to_string(path).unwrap();
                let in_proptest = source.contains("proptest!");
                let mut is_test = false;
                for line in source.lines().map(str::trim) {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                    let Some(name) = name else { continue };
                    if std::mem::take(&mut is_test) || in_proptest {
                        let end = name.find(|c: char| c != '_' && !c.is_alphanumeric());
                        found.insert(name[..end.unwrap_or(name.len())].to_owned());
                    }
                }
            }
        }
    }
    found
}

#[test]
fn each_test_that_a_lesson_names_exists() {
    let tests = tests();
    let rows = rows();
    let named: Vec<_> =
        rows.iter().flat_map(|row| row.tests().into_iter().map(|test| (&*row.id, test))).collect();
    assert!(named.len() > 100, "the page is read");
    let missing: Vec<_> = named.iter().filter(|(_, test)| !tests.contains(*test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn no_row_is_left_out_and_each_has_a_test_or_a_reason() {
    let rows = rows();
    for (group, count) in WHOLE {
        for n in 1..=count {
            let id = format!("{group}-{n}");
            let found = rows.iter().filter(|row| row.id == id).count();
            assert_eq!(found, 1, "{id}");
        }
    }
    for row in &rows {
        let reason = row.shown_by.starts_with("Not here: ");
        assert!(reason || !row.tests().is_empty(), "{} shows nothing", row.id);
    }
}
