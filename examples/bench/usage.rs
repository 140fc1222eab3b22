//! What a process uses, from `/proc`.

use std::{fs, io, time::Duration};

/// Clock ticks per second in `/proc/*/stat`: 100 wherever Linux runs today.
const TICKS: u64 = 100;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory that is backed by no file: heap and stacks.
    pub(crate) rss_anon_kib: u64,
    /// The most memory that was resident at any time, files included.
    pub(crate) peak_kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// User and system time since it was started.
    pub(crate) cpu: Duration,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.ok_or_else(|| io::Error::other(format!("no {name} of process {pid}")))
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may hold anything; what follows begins with the third field.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Self {
            rss_anon_kib: number("RssAnon:")?,
            peak_kib: number("VmHWM:")?,
            threads: number("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            cpu: Duration::from_millis(ticks * (1000 / TICKS)),
        })
    }
}

/// Lets the peak of a process begin anew.
pub(crate) fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}
