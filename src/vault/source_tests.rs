use super::*;

fn own(dir: &Path) -> Source {
    Source::Own(dir.join("master.key"))
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn our_own_file_is_made_once_and_only_while_nothing_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let source = own(dir.path());
    let missing = source.find(true, |_| true).unwrap_err();
    assert!(matches!(missing, Error::Missing(_)), "{missing}");
    assert!(files(dir.path()).is_empty());

    let key = source.find(false, |_| unreachable!()).unwrap();
    let mode = fs::metadata(dir.path().join("master.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(source.find(false, |_| unreachable!()).unwrap(), key);
    assert_eq!(source.find(true, |found| *found == key).unwrap(), key);
    let wrong = source.find(true, |_| false).unwrap_err();
    assert!(wrong.to_string().contains(key.id().as_str()), "{wrong}");
    assert_eq!(files(dir.path()), ["master.key"]);
}

#[test]
fn somebody_else_s_file_is_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::File(dir.path().join("key"));
    assert!(matches!(source.find(false, |_| true), Err(Error::Absent(_))));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_file_that_others_may_read_or_that_holds_no_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = own(dir.path());
    source.find(false, |_| true).unwrap();
    let path = dir.path().join("master.key");
    for (mode, refused) in
        [(0o604, true), (0o602, true), (0o620, true), (0o644, true), (0o440, false)]
    {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let found = source.find(true, |_| true);
        assert_eq!(matches!(found, Err(Error::Exposed(_))), refused, "{mode:o}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for text in ["", "hunter2", &"x".repeat(100_000)] {
        fs::write(&path, text).unwrap();
        let error = source.find(false, |_| true).unwrap_err();
        assert!(matches!(error, Error::Malformed(..)), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[test]
fn a_rotation_that_is_killed_anywhere_leaves_the_key_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let source = own(dir.path());
    let old = source.find(false, |_| true).unwrap();

    // Before the database took the new one: the old one fits, and the new one is in nobody's way.
    let killed = source.prepare().unwrap();
    assert!(matches!(source.prepare(), Err(Error::Rotating(_))));
    drop(killed);
    assert_eq!(source.find(true, |key| *key == old).unwrap(), old);
    assert_eq!(files(dir.path()), ["master.key", "master.key.new"]);

    // After that, before the files changed places: the next start does it. Whoever could read the
    // old key can read the new one.
    let path = dir.path().join("master.key");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let rotation = source.prepare().unwrap();
    let new = rotation.key().clone();
    drop(rotation);
    assert_eq!(source.find(true, |key| *key == new).unwrap(), new);
    let retired = format!("master.key.retired-{}", old.id());
    assert_eq!(files(dir.path()), ["master.key", retired.as_str()]);
    assert_eq!(source.read().unwrap().unwrap(), new);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert_eq!(read(&dir.path().join(retired)).unwrap().unwrap(), old);
    assert_eq!(source.find(true, |key| *key == new).unwrap(), new);
    assert!(matches!(source.find(true, |key| *key == old), Err(Error::Wrong { .. })));
}
