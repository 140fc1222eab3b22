//! How the process is told to stop, and how it tells systemd where it is.
//!
//! Stopping has two degrees. *Soft*: finish what was begun, take on nothing new. *Hard*: leave at
//! once; the database needs no goodbye. The first SIGTERM or SIGINT asks softly, a second one hard,
//! and so does a stop that takes longer than its deadline. Nothing here is global: whoever starts
//! something hands it the [`Stop`] it shall obey, so that tests run several daemons in one process.

use std::{io, sync::Arc};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// The two wishes to stop. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what was begun, take on nothing new.
    pub soft: CancellationToken,
    /// Leave at once.
    pub hard: CancellationToken,
}

impl Stop {
    /// Neither wish has been expressed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One degree more: softly at first, then hard.
    fn insist(&self) {
        if self.soft.is_cancelled() {
            self.hard.cancel();
        } else {
            self.soft.cancel();
        }
    }
}

/// The signals this process listens to. Installed before anything is opened, so that a signal during
/// the start is kept and not fatal half-way.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over from the kernel's default, which is to end the process.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into wishes, until the last one has been expressed. SIGHUP wishes for what can be
    /// read again to be read again.
    pub async fn forward_to(mut self, stop: Stop, reload: Arc<Notify>) {
        while !stop.hard.is_cancelled() {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                Some(()) = self.hang_up.recv() => {
                    reload.notify_one();
                    continue;
                }
                () = stop.hard.cancelled() => return,
                // The runtime is shutting down and no signal will come.
                else => return,
            };
            tracing::info!(signal = name, again = stop.soft.is_cancelled(), "{name}: stopping");
            stop.insist();
        }
    }
}

/// Tells systemd that the daemon does what it is there for.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that something is read again, until [`notify_ready`].
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "Cannot notify systemd");
        }
    }
}

/// Tells systemd again and again that the daemon works, if it wants to know (`WatchdogSec=`), and each
/// time only when `ping` has come back.
///
/// A process whose tasks get no turns, or whose pings are never answered, is then ended and started
/// again. A ping that is answered "the database is away" has come back: a restart would mend nothing.
pub async fn feed_watchdog<P: Future + Send>(ping: impl Fn() -> P + Send + Sync) {
    let asked = sd_notify::watchdog_enabled();
    let Some(patience) = asked.filter(|patience| !patience.is_zero()) else { return };
    loop {
        sign_of_life(&ping, || notify(&[NotifyState::Watchdog])).await;
        // The rest is for the ping.
        tokio::time::sleep(patience / WATCHDOG_TURNS).await;
    }
}

/// How often the watchdog is fed in the time it waits, if pings took none.
pub const WATCHDOG_TURNS: u32 = 4;

async fn sign_of_life<P: Future + Send>(ping: impl Fn() -> P + Sync, tell: impl Fn() + Send) {
    ping().await;
    tell();
}

/// Tells systemd that the daemon is on its way out.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
}

/// Without systemd there is nobody to tell, and nothing happens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = &error as &dyn std::error::Error, "Cannot notify systemd");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn there_is_no_sign_of_life_before_the_ping_has_come_back() {
        let times = AtomicUsize::new(0);
        let tell = || {
            times.fetch_add(1, Ordering::Relaxed);
        };
        assert!(sign_of_life(std::future::pending::<()>, tell).now_or_never().is_none());
        assert_eq!(times.load(Ordering::Relaxed), 0);
        // Whatever it says.
        let away = || std::future::ready(Err::<(), _>("the database is away"));
        assert!(sign_of_life(away, tell).now_or_never().is_some());
        assert_eq!(times.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_second_wish_is_the_hard_one() {
        let stop = Stop::new();
        stop.insist();
        assert!(stop.soft.is_cancelled() && !stop.hard.is_cancelled());
        stop.insist();
        assert!(stop.hard.is_cancelled());
    }
}
