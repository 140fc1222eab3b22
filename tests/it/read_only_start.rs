//! A start on a database that can only be read: said in one line, and nothing is half begun.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
};

use crate::{
    database::{Database, Kind, on},
    program::{command, ended},
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_of_somebody_else_is_named_and_why_it_cannot_be_written_to() {
    /// Whoever has nothing; root could write anyway.
    const NOBODY: u32 = 65_534;
    on(Kind::Sqlite, async |database: &Database| {
        database.open().await.close().await;
        let data = database.path.parent().unwrap();
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut start = command(&state);
        if fs::metadata(data).unwrap().uid() == 0 {
            // Where nobody may look, nobody starts programs either.
            let program = place.path().join("wagate");
            fs::copy(env!("CARGO_BIN_EXE_wagate"), &program).unwrap();
            set_mode(place.path(), 0o755);
            chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
            let mut as_nobody = std::process::Command::new(program);
            as_nobody.env_clear().uid(NOBODY).gid(NOBODY).current_dir(&state);
            for (name, value) in start.get_envs() {
                as_nobody.env(name, value.unwrap());
            }
            start = as_nobody;
        }
        start.env("WAGATE_DATABASE__URL", &database.url);
        set_mode(&database.path, 0o444);
        set_mode(data, 0o555);
        let before = fs::read(&database.path).unwrap();
        let (code, log) = ended(start);
        set_mode(data, 0o755);
        assert_eq!(code, Some(1), "{log}");
        let said: Vec<_> = log.lines().filter(|line| line.contains("Cannot start")).collect();
        assert_eq!(said.len(), 1, "{log}");
        let file = format!("cannot open the database file {}", database.path.display());
        assert!(said[0].contains(&file) && said[0].contains("Permission denied"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(fs::read(&database.path).unwrap(), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_that_only_reads_is_refused_in_one_line_and_taken_when_it_writes() {
    on(Kind::Postgres, async |database: &Database| {
        database.open().await.close().await;
        let name = database.name();
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        database.execute_on_server(&set).await;
        let place = tempfile::tempdir().unwrap();
        let mut start = command(&place.path().join("state"));
        start.env("WAGATE_DATABASE__URL", &database.url);
        let (code, log) = ended(start);
        assert_eq!(code, Some(1), "{log}");
        let said: Vec<_> = log.lines().filter(|line| line.contains("Cannot start")).collect();
        assert_eq!(said.len(), 1, "{log}");
        assert!(said[0].contains("read-only transaction"), "{log}");
        assert!(!log.contains("panicked"), "{log}");

        let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
        database.execute_on_server(&reset).await;
        database.open().await.close().await;
    })
    .await;
}
