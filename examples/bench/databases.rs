//! The databases that are measured: files in a directory, and a PostgreSQL cluster of our own.

use std::path::{Path, PathBuf};

use sea_orm::{ConnectOptions, ConnectionTrait, Database};

use crate::{
    Size,
    failure::Failure,
    postgres::{Cluster, binaries},
};

/// A cluster as PostgreSQL is installed, every commit on disk; or why there is none.
pub(crate) async fn cluster(size: &Size) -> Result<Cluster, Failure> {
    let Some(binaries) = binaries() else {
        return Err(Failure::wrong("PostgreSQL was not measured: it is not installed"));
    };
    let parent: PathBuf = size.dir.clone().unwrap_or_else(std::env::temp_dir);
    let started =
        tokio::task::spawn_blocking(move || Cluster::start(&binaries, Path::new(&parent), "", ""));
    let started = started.await.map_err(|panicked| Failure::wrong(panicked.to_string()))?;
    started.map_err(|error| Failure::wrong(format!("PostgreSQL was not measured: {error}")))
}

/// Makes empty databases on it.
pub(crate) async fn create(cluster: &Cluster, names: &[&str]) -> Result<(), Failure> {
    let wrong = |error: sea_orm::DbErr| Failure::wrong(format!("PostgreSQL: {error}"));
    let mut options = ConnectOptions::new(cluster.url("postgres"));
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await.map_err(wrong)?;
    for name in names {
        db.execute_unprepared(&format!("CREATE DATABASE {name}")).await.map_err(wrong)?;
    }
    db.close().await.map_err(wrong)
}
