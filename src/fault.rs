//! Named moments at which a test may end this process, as a power cut would, or pause it, and what it may hold
//! up.
//!
//! A build with the feature `simulator` reads `KILL_WAGATE_AT=name:n` from its environment and aborts
//! when it comes to the moment called `name` for the n-th time; `any:n` counts all moments. With
//! `PAUSE_WAGATE_AT=name:n` it stops there instead, as a machine that is suspended, until it is sent
//! `SIGCONT`; with `BLOCK_WAGATE_AT=name:n` the thread that comes there goes no further, and the tasks that
//! were to have their turns on it do not get them, which the log says; with `PANIC_WAGATE_AT=name:n` whoever comes
//! there panics. With `TELL_WAGATE_AT=name` the log
//! says whenever it comes to that moment. With
//! `HOLD_WAGATE_AT=name` a task that comes to a place of that name goes no further, as one that has not got
//! its turn yet when the process dies. In any other build the macros are nothing, and neither the names nor
//! the variables are in the program.
//!
//! `tests/it/crash_matrix.rs` kills a daemon at each of them, and fails when it misses one.

/// Marks a moment at which nothing may be lost.
#[cfg(feature = "simulator")]
macro_rules! moment {
    ($name:literal) => {
        $crate::fault::come_to($name)
    };
}

/// Marks a moment at which nothing may be lost.
#[cfg(not(feature = "simulator"))]
macro_rules! moment {
    ($name:literal) => {};
}

/// Marks work that may come as late as it likes.
#[cfg(feature = "simulator")]
macro_rules! late {
    ($name:literal) => {
        $crate::fault::hold($name).await
    };
}

/// Marks work that may come as late as it likes.
#[cfg(not(feature = "simulator"))]
macro_rules! late {
    ($name:literal) => {};
}

/// Marks work that may take as long as it likes.
#[cfg(feature = "simulator")]
macro_rules! slow {
    ($name:literal) => {
        $crate::fault::dawdle($name).await
    };
}

/// Marks work that may take as long as it likes.
#[cfg(not(feature = "simulator"))]
macro_rules! slow {
    ($name:literal) => {};
}

pub(crate) use {late, moment, slow};

#[cfg(feature = "simulator")]
pub(crate) use armed::{come_to, dawdle, hold};

#[cfg(feature = "simulator")]
mod armed {
    use std::{
        future::poll_fn,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        task::Poll,
        time::{Duration, Instant},
    };

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::runtime::Handle;

    /// Not among the configuration's variables, which all begin with `WAGATE_`.
    const KILL: &str = "KILL_WAGATE_AT";
    const PAUSE: &str = "PAUSE_WAGATE_AT";
    const BLOCK: &str = "BLOCK_WAGATE_AT";
    const PANIC: &str = "PANIC_WAGATE_AT";
    const HOLD: &str = "HOLD_WAGATE_AT";
    const SLOW: &str = "SLOW_WAGATE_AT";
    const TELL: &str = "TELL_WAGATE_AT";

    /// Longer than a stop takes, and shorter than it may take.
    const DAWDLING: Duration = Duration::from_secs(2);

    /// Which moment is the last, and how often it was come to.
    struct Armed {
        name: String,
        passage: u64,
        passed: AtomicU64,
    }

    impl Armed {
        fn by(variable: &str) -> Option<Self> {
            let wish = std::env::var(variable).ok()?;
            let (name, passage) = wish.split_once(':').unwrap_or((&wish, "1"));
            let passage = passage.parse().expect("it is a moment's name, `:`, a count");
            Some(Self { name: name.to_owned(), passage, passed: AtomicU64::new(0) })
        }

        /// Whether this is the moment.
        fn is_now(&self, name: &str) -> bool {
            (self.name == name || self.name == "any")
                && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.passage
        }
    }

    /// Ends the process, or pauses it, if this is the moment.
    pub(crate) fn come_to(name: &'static str) {
        static KILLED: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::by(KILL));
        static PAUSED: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::by(PAUSE));
        static BLOCKED: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::by(BLOCK));
        static PANICS: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::by(PANIC));
        static TOLD: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(TELL).ok());

        if TOLD.as_deref() == Some(name) {
            tracing::info!(moment = name, "Came to {name}");
        }
        if KILLED.as_ref().is_some_and(|armed| armed.is_now(name)) {
            std::process::abort();
        }
        if PAUSED.as_ref().is_some_and(|armed| armed.is_now(name)) {
            kill_process(getpid(), Signal::STOP).expect("a process may stop itself");
            stand_still();
        }
        let panics = PANICS.as_ref().is_some_and(|armed| armed.is_now(name));
        assert!(!panics, "a test wants a panic at {name}");
        if BLOCKED.as_ref().is_some_and(|armed| armed.is_now(name)) {
            tracing::info!(moment = name, "Blocked at {name}");
            // This may be the thread that has waited for sockets and timers until now. Another one takes that over when it
            // is woken, as by whatever is spawned from outside.
            if let Ok(runtime) = Handle::try_current() {
                std::thread::spawn(move || runtime.spawn(async {}));
            }
            loop {
                std::thread::park();
            }
        }
    }

    /// Another thread may be the one that takes the signal, and stops this one a moment later.
    #[expect(clippy::disallowed_methods, reason = "nothing shall go on here, whatever it blocks")]
    fn stand_still() {
        std::thread::sleep(Duration::from_millis(100));
    }

    /// Never comes back, if this is the place.
    pub(crate) async fn hold(name: &'static str) {
        static HELD: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(HOLD).ok());

        if HELD.as_deref() == Some(name) {
            tracing::info!(place = name, "Held at {name}");
            std::future::pending::<()>().await;
        }
    }
    /// Comes back late, if this is the place.
    pub(crate) async fn dawdle(name: &'static str) {
        static SLOWED: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::by(SLOW));

        if SLOWED.as_ref().is_some_and(|armed| armed.is_now(name)) {
            tracing::info!(place = name, "Slow at {name}");
            let begun = Instant::now();
            poll_fn(|cx| {
                if begun.elapsed() >= DAWDLING {
                    return Poll::Ready(());
                }
                // At once, as whoever gives it its turn does; tokio's own yield wakes it some time later.
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            tracing::info!(place = name, "Went on at {name}");
        }
    }
}
