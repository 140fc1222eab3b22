//! What the figures were measured on.

use std::{
    fs, io,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

/// A machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: f64,
    kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: f64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, processor, memory_gib, kernel } = self;
        write!(f, "{cores} cores ({processor}), {memory_gib:.1} GiB, Linux {kernel}")
    }
}

/// How often in a second the disk under a directory can be made to keep something: what a commit
/// costs at the least.
pub(crate) fn syncs_per_second(directory: &Path) -> io::Result<f64> {
    const TIME: Duration = Duration::from_millis(500);
    let mut file = fs::File::create(directory.join("syncs"))?;
    let begun = Instant::now();
    let mut syncs = 0_u32;
    while begun.elapsed() < TIME {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / begun.elapsed().as_secs_f64())
}
