//! Figures about the process and its runtime, under the names that Prometheus' own clients use.

use std::sync::atomic::AtomicU64;

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// A gauge with fractions.
type Fraction = Gauge<f64, AtomicU64>;

/// Adds what the kernel says of this process, and what tokio says of its tasks. What cannot be read
/// (`/proc` may be hidden) is left out.
pub(super) fn register(registry: &mut Registry) {
    register_runtime(registry);
    if let Ok(process) = Process::myself() {
        register_process(registry, &process);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ticks and seconds are far below what a fraction counts exactly"
)]
fn register_process(registry: &mut Registry, process: &Process) {
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by((stat.utime + stat.stime) as f64 / ticks);
        registry.register("process_cpu_seconds", "Processor time used", cpu);
        gauge(registry, "process_resident_memory_bytes", "Memory in use", bytes(&stat));
        gauge(registry, "process_threads", "Threads", stat.num_threads);
        if let Ok(boot) = procfs::boot_time_secs() {
            let start = Fraction::default();
            start.set(boot as f64 + stat.starttime as f64 / ticks);
            let help = "When the process began, in seconds since 1970";
            registry.register("process_start_time_seconds", help, start);
        }
    }
    if let Ok(open) = process.fd_count() {
        gauge(registry, "process_open_fds", "File descriptors in use", open);
    }
    if let Ok(LimitValue::Value(limit)) =
        process.limits().map(|limits| limits.max_open_files.soft_limit)
    {
        gauge(registry, "process_max_fds", "File descriptors that may be in use", limit);
    }
}

fn bytes(stat: &procfs::process::Stat) -> u64 {
    stat.rss * procfs::page_size()
}

fn register_runtime(registry: &mut Registry) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let runtime = runtime.metrics();
    gauge(registry, "wagate_runtime_workers", "Threads that run tasks", runtime.num_workers());
    gauge(registry, "wagate_runtime_tasks", "Tasks that have not ended", runtime.num_alive_tasks());
    let help = "Tasks that wait for a thread, in the queue that all threads share";
    gauge(registry, "wagate_runtime_queued_tasks", help, runtime.global_queue_depth());
    let busy = Counter::<f64, AtomicU64>::default();
    let workers = 0..runtime.num_workers();
    busy.inc_by(workers.map(|it| runtime.worker_total_busy_duration(it).as_secs_f64()).sum());
    let help = "Time that threads were running tasks, over all threads";
    registry.register("wagate_runtime_busy_seconds", help, busy);
    let parked = Counter::<u64>::default();
    let workers = 0..runtime.num_workers();
    parked.inc_by(workers.map(|it| runtime.worker_park_count(it)).sum());
    let help = "How often threads had nothing to run, over all threads";
    registry.register("wagate_runtime_parks", help, parked);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}
