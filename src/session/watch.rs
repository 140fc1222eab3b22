//! Noticing that a connection has gone silent.
//!
//! A socket whose other end has vanished looks like one on which nothing happens. The client library
//! pings and has a watchdog of its own, but what it promises is not enough: a ping is left out while
//! an answer is outstanding, and a tick that comes just after something was received waits for the
//! next, so that more than a minute may pass. This is the bound: whatever happens, a connection that
//! hears nothing for 56 seconds is given up.
//!
//! Time is counted in ticks, not read from a clock: a machine that slept, or a clock that was set,
//! makes one long tick and not an outage of every session.

use std::time::Duration;

use entity::UnixMillis;

/// How often it is looked whether anything was received.
pub(super) const TICK: Duration = Duration::from_secs(8);

/// Ticks without a byte after which the server is asked for a sign of life. The library pings after at
/// most 30 s of silence, so that this hardly ever costs anything.
const ASK_AFTER: u32 = 4;

/// Ticks without a byte after which nobody is there.
const GONE_AFTER: u32 = 6;

/// No connection is silent for longer without being given up: a byte may come just after a tick.
#[cfg(test)]
const SILENT: Duration = Duration::from_secs(TICK.as_secs() * (GONE_AFTER as u64 + 1));

/// When the tick after the one that was due at `due` is due. One that came late does not make the next one
/// late, or silence would be noticed the later the busier the machine is; after one that was as late as a whole
/// tick, time is counted anew.
pub(super) fn next_tick(due: UnixMillis, now: UnixMillis) -> UnixMillis {
    let next = due + TICK;
    if next > now { at_hand(next, now) } else { now + TICK }
}

/// When a tick that was due at `due` is due now: never further away than a whole tick, or a clock that was
/// set back would put it off for as long.
pub(super) fn at_hand(due: UnixMillis, now: UnixMillis) -> UnixMillis {
    due.min(now + TICK)
}

/// What a tick has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Something came, or it is too early to say.
    Fine,
    /// Ask for a sign of life.
    Ask,
    /// Nobody is there.
    Gone,
}

/// Watches one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    received: u64,
    quiet: u32,
}

impl Watch {
    /// A tick has passed, and so many bytes have been received by now.
    pub(super) fn tick(&mut self, received: u64) -> Pulse {
        if received != self.received {
            *self = Self { received, quiet: 0 };
            return Pulse::Fine;
        }
        self.quiet += 1;
        match self.quiet {
            ASK_AFTER => Pulse::Ask,
            GONE_AFTER.. => Pulse::Gone,
            _ => Pulse::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bound_is_below_a_minute() {
        assert!(SILENT < Duration::from_mins(1), "{SILENT:?}");
    }

    #[test]
    fn ticks_that_come_late_do_not_add_up_and_a_long_sleep_is_one_tick() {
        let at = |seconds: i64| UnixMillis(seconds * 1_000);
        assert_eq!(next_tick(at(8), at(8)), at(16));
        assert_eq!(next_tick(at(8), at(15)), at(16));
        assert_eq!(next_tick(at(8), at(16)), at(24));
        assert_eq!(next_tick(at(8), at(3_600)), at(3_608));
    }

    #[test]
    fn a_clock_that_was_set_back_puts_off_no_tick() {
        let at = |seconds: i64| UnixMillis(seconds * 1_000);
        assert_eq!(next_tick(at(3_608), at(8)), at(16));
        assert_eq!(at_hand(at(3_608), at(8)), at(16));
        assert_eq!(at_hand(at(11), at(8)), at(11));
        assert_eq!(at_hand(at(7), at(8)), at(7));
    }

    proptest! {
        #[test]
        fn silence_is_noticed_in_time_and_nothing_else_is(
            // Bytes received up to each tick; then silence.
            heard in proptest::collection::vec(0u64..3, 0..60)
        ) {
            let (mut watch, mut received, mut quiet) = (Watch::default(), 0, 0);
            for bytes in heard {
                received += bytes;
                quiet = if bytes == 0 { quiet + 1 } else { 0 };
                let pulse = watch.tick(received);
                prop_assert_eq!(pulse == Pulse::Gone, quiet >= GONE_AFTER);
                prop_assert_eq!(pulse == Pulse::Ask, quiet == ASK_AFTER);
            }
            let left = (0..=GONE_AFTER).take_while(|_| watch.tick(received) != Pulse::Gone).count();
            prop_assert!(left < GONE_AFTER as usize);
        }
    }
}
