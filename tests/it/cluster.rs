//! A PostgreSQL server of a test's own, which dies and comes back when the test says so.

use std::path::{Path, PathBuf};

use crate::{
    database,
    postgres::{self, START, shell},
};

/// What is on it is worth nothing, and many tests share it.
const SETTINGS: &str = "-c fsync=off -c max_connections=400 -c max_prepared_transactions=0";

/// A cluster that can be stopped and started again. It goes with this value.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: PathBuf,
    cluster: postgres::Cluster,
}

impl Cluster {
    /// A cluster from the newest binaries that are installed, or none where it may be skipped.
    pub(crate) fn new() -> Option<Self> {
        let binaries = database::server_binaries()?;
        let started = postgres::Cluster::start(&binaries, Path::new("/tmp"), SETTINGS, "");
        Some(Self { cluster: started.unwrap(), binaries })
    }

    /// Another one with all that this one holds at this moment, as a standby that hears of nothing more
    /// and takes over one day. This one crashes and starts again.
    pub(crate) fn copy(&self) -> Self {
        self.stop();
        let from = self.cluster.directory.display();
        let copy = format!(r#"rm -r data && cp -a "{from}/data" . && rm -f data/postmaster.pid"#);
        let (binaries, settings) = (self.binaries.clone(), SETTINGS);
        let started = postgres::Cluster::start(&binaries, Path::new("/tmp"), settings, &copy);
        self.start_again();
        Self { cluster: started.unwrap(), binaries }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url("postgres")
    }

    pub(crate) async fn execute(&self, sql: &str) {
        database::execute(&self.url(), sql).await;
    }

    /// Ends the server as a crash would, without a word to anybody.
    pub(crate) fn stop(&self) {
        self.control(r#""$bin/pg_ctl" -D "$dir/data" -m immediate stop >&2"#);
    }

    /// Starts it again.
    pub(crate) fn start_again(&self) {
        self.control(START);
    }

    fn control(&self, script: &str) {
        let status =
            shell(script, &self.binaries, &self.cluster.directory, SETTINGS).status().unwrap();
        assert!(status.success(), "{script}");
    }
}
