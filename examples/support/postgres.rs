//! A throw-away PostgreSQL cluster, made from the installed binaries; for tests and benchmarks.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Starts the server of the cluster in `$dir`, and waits until it answers. A [`shell`] runs it.
pub(crate) const START: &str = r#""$bin/pg_ctl" -D "$dir/data" -w -l "$dir/log" \
    -o "-k $dir -c listen_addresses='' $settings" start >&2"#;

/// A cluster of our own. It goes with this value, and with this process, however that ends: a shell
/// waits for the other end of its standard input to close, and cleans up.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Where its socket and its files are. They belong to whoever may run PostgreSQL.
    pub(crate) directory: PathBuf,
    keeper: Child,
}

/// Where `initdb` and `pg_ctl` are: Debian keeps them out of the path.
pub(crate) fn binaries() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = debian
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .chain(std::env::split_paths(&std::env::var_os("PATH")?))
        .filter(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
        .collect();
    // The newest last, by name; good enough for two versions side by side.
    found.sort();
    found.pop()
}

/// A shell that may run PostgreSQL, which refuses to run as root. The script has the binaries' folder
/// as `$bin`, the cluster's as `$dir`, and the server's settings as `$settings`.
pub(crate) fn shell(script: &str, binaries: &Path, directory: &Path, settings: &str) -> Command {
    let as_root = std::fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt as _;
        me.uid() == 0
    });
    let mut command = Command::new(if as_root { "runuser" } else { "sh" });
    if as_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    let script = format!("set -e; bin=\"$1\"; dir=\"$2\"; settings=\"$3\"; shift 3\n{script}");
    command.args(["-c", &script, "sh"]).arg(binaries).arg(directory).arg(settings);
    command.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

impl Cluster {
    /// Makes a cluster in a new directory below `parent` and starts it with `settings`, after a shell
    /// has run `prepare` in that directory. Without settings it listens on its socket only.
    pub(crate) fn start(
        binaries: &Path,
        parent: &Path,
        settings: &str,
        prepare: &str,
    ) -> io::Result<Self> {
        let script = format!(
            r#"
            mkdir -m 700 "$dir"
            trap '"$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
            "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >&2
            cd "$dir"
            eval "$1" >&2
            {START}
            echo started
            read -r _ || true
            "#
        );
        let directory = parent.join(format!("wagate-postgres-{:016x}", rand::random::<u64>()));
        let mut keeper = shell(&script, binaries, &directory, settings)
            .arg(prepare)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout.take(4096)).read_line(&mut said)?;
        }
        if said.is_empty() {
            return Err(io::Error::other("the throw-away PostgreSQL cluster did not start"));
        }
        Ok(Self { directory, keeper })
    }

    /// The URL of a database on it, by its socket.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.directory.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The other end of the shell's standard input.
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}
