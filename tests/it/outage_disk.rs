//! The disk of an SQLite file is full for a while, and then can only be read.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    database::skip,
    outage::{Name, Scene, UNDER_WAY},
    process::Installation,
    world::DEADLINE,
};

/// A small disk, in a namespace of mounts that lasts as long as this.
struct Disk(Child);

impl Disk {
    /// One that is mounted at `at`; none where that is not allowed.
    fn new(at: &Path) -> Option<Self> {
        let script = r#"mount -t tmpfs -o size=256m tmpfs "$1" && echo mounted && exec cat"#;
        let mut keeper = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let disk = Self(keeper);
        (said == "mounted\n").then_some(disk)
    }

    /// A path on it, as this process sees it.
    fn seen(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.0.id())).join(path)
    }

    /// Runs a shell script where the disk is seen, in its folder.
    fn run(&self, at: &Path, script: &str) {
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.0.id().to_string()])
            .args(["sh", "-c", &format!("cd \"$1\" && {script}"), "sh"])
            .arg(at)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The other end of its standard input.
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// How much of SQLite's log is in the file, by its index.
#[derive(Clone, Copy, Debug)]
struct Log {
    /// Pages, and the length of the log's file in pages. A log that was begun anew has room up to there, on a disk
    /// that has none.
    pages: u32,
    length: u64,
    copied: u32,
}

impl Log {
    /// A page, and its head in the log.
    const FRAME: u64 = 4096 + 24;

    /// The head of the log.
    const HEAD: u64 = 32;

    /// As it is now. Whoever writes the index at this moment may not have done so completely.
    fn of(database: &Path) -> Self {
        let beside = |end: &str| PathBuf::from(format!("{}{end}", database.display()));
        let index = fs::read(beside("-shm")).unwrap();
        let word = |at: usize| u32::from_ne_bytes(index[at..at + 4].try_into().unwrap());
        let length = fs::metadata(beside("-wal")).unwrap().len() / Self::FRAME;
        // `mxFrame` and `nBackfill` of SQLite's walformat.html.
        Self { pages: word(16), length, copied: word(96) }
    }

    /// Cuts off what it was longer before it was begun anew.
    fn cut(self, database: &Path) {
        let path = format!("{}-wal", database.display());
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(Self::HEAD + u64::from(self.pages) * Self::FRAME).unwrap();
    }

    /// Waits until all of it is in the file.
    ///
    /// Then what is written next begins the log anew, and while a message is in it that the file has no room for,
    /// it is not begun again: what does not fit is told of, until there is room. Were there something to be copied
    /// that does fit, it would be copied after some seconds, and the log would have room again in the middle of it all.
    async fn is_copied(database: &Path) -> Self {
        let begun = Instant::now();
        loop {
            let log = Self::of(database);
            if log.copied == log.pages {
                return log;
            }
            assert!(begun.elapsed() < DEADLINE, "{log:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What the log has room for when the disk has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// What it has grown to: whatever is small may find a place later.
    Some,
    /// What was taken when it was noticed, and nothing more.
    None,
}

/// The disk is full while `meanwhile` lasts, which is given when that began.
async fn a_full_disk_and_then_a_read_only_one(
    room: Room,
    meanwhile: impl AsyncFnOnce(&Scene, Instant),
    name: Name,
) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("disk");
    fs::create_dir(&at).unwrap();
    let Some(disk) = Disk::new(&at) else {
        return skip("no namespace of mounts, which takes root");
    };
    let scene = Scene::new(|whatsapp| {
        Installation::new(directory.path(), None, whatsapp).within(disk.0.id())
    })
    .await;
    let on_disk = |script| disk.run(&at, script);
    let before = scene.given();

    let database = disk.seen(&at.join("state/wagate.db"));
    let at_first = Log::is_copied(&database).await;
    on_disk("head -c 300m /dev/zero >fill || true");
    let begun = Instant::now();
    let ids = scene.arrive().await;
    scene.is_noticed().await;
    if room == Room::None {
        Log::of(&database).cut(&database);
        on_disk("head -c 64m /dev/zero >rest || true");
    }
    meanwhile(&scene, begun).await;
    // The log has grown no further.
    let log = Log::of(&database);
    assert!(log.length <= at_first.length + 1, "{at_first:?}, {log:?}");
    let given = scene.given() - before;
    let log = scene.installation.log();
    assert!(given < UNDER_WAY, "{given} bytes were taken without a place for them\n{log}");
    // A few fitted into what the log had left; what is acknowledged is among them.
    let acknowledged = scene.acknowledged(&ids);
    let stored = scene.daemon.messages("sales").await;
    for (id, _) in &acknowledged {
        assert!(stored.iter().any(|message| message["waId"] == id.as_str()), "{id}\n{log}");
    }
    assert!(stored.len() < ids.len() / 2, "the disk is full");

    // There is room again, but the disk has been found broken and can only be read.
    on_disk("mount --bind state state && mount -o remount,bind,ro state");
    // Longer than a lane waits between two tries: what it opened before that could be written to.
    scene.is_told(Duration::from_secs(3)).await;
    // Room for all that is stored, and for as much of the log as there may be before it is begun anew.
    on_disk("mount -o remount,size=1g . && rm -f fill rest");
    scene.is_told(Duration::from_secs(5)).await;
    assert_eq!(scene.daemon.messages("sales").await.len(), stored.len());
    assert_eq!(scene.acknowledged(&ids).len(), acknowledged.len());

    on_disk("umount state");
    scene.recovers(&ids, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_has_a_full_disk_and_then_a_read_only_one_and_nothing_is_lost() {
    let moment = async |scene: &Scene, _| scene.is_told(Duration::from_secs(3)).await;
    a_full_disk_and_then_a_read_only_one(Room::Some, moment, Name::Saved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_a_full_disk_loses_nothing() {
    // The socket goes after a minute, and to say so takes little: not more than a log may have left.
    let minute = async |scene: &Scene, begun| scene.lasts(begun).await;
    a_full_disk_and_then_a_read_only_one(Room::None, minute, Name::Unknown).await;
}
