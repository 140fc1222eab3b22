//! `docs/field-lessons.md` names the tests that show each row: they exist, and no row has nothing to say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The groups of which every row is there, and how many rows each has.
const WHOLE: [(char, usize); 6] =
    [('A', 20), ('B', 13), ('C', 12), ('D', 13), ('F', 18), ('J', 16)];

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

/// The names of all tests in all sources: functions that follow a mark of one, also within a macro, and that
/// are not left out of runs.
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
                found.extend(marked(&source));
            }
        }
    }
    found
}

/// The names of a source's tests.
fn marked(source: &str) -> Vec<String> {
    let (mut is_test, mut is_left_out, mut in_attribute) = (false, false, false);
    let mut found = Vec::new();
    for line in source.lines().map(str::trim) {
        // An attribute may have several lines.
        let of_attribute = in_attribute || line.starts_with("#[");
        in_attribute = of_attribute && !line.ends_with(']');
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        is_left_out |= line.starts_with("#[ignore");
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let Some(name) = name else {
            // A mark is that of the function right below it.
            if !of_attribute && !line.starts_with("//") {
                (is_test, is_left_out) = (false, false);
            }
            continue;
        };
        if std::mem::take(&mut is_test) && !std::mem::take(&mut is_left_out) {
            let end = name.find(|c: char| c != '_' && !c.is_alphanumeric());
            found.push(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    found
}

#[test]
fn only_what_is_marked_as_a_test_and_run_counts_as_one() {
    let source = "
        fn helper() {}
        proptest! {
            #![proptest_config(Config::with_cases(10))]
            #[test]
            fn in_a_macro(it in any::<u8>()) { }
            fn helper_in_a_macro() {}
        }
        #[tokio::test(flavor = \"multi_thread\")]
        // Why it is so.
        #[expect(
            clippy::too_many_lines,
            reason = \"it is long\"
        )]
        async fn over_several_lines() {
            let not_one = || ();
        }
        #[test]
        #[ignore = \"nobody runs it\"]
        fn left_out() {}
        #[test]
        mod not_a_function {}
        fn after_it() {}
    ";
    assert_eq!(marked(source), ["in_a_macro", "over_several_lines"]);
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
