//! Connections at the same time, shared out: no neighbourhood keeps the others out.
//!
//! Behind a proxy all connections are the proxy's. One that is trusted says whom it passes on, and bounds them itself; so
//! its own are not counted here, and those of a proxy that nobody has named are.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::neighbourhood;

/// Who has how many. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::http) struct Crowd {
    most: usize,
    /// As large as there are connections.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection of a neighbourhood, until it is let go of.
#[derive(Debug)]
pub(in crate::http) struct Seat {
    crowd: Crowd,
    neighbourhood: IpAddr,
}

impl Crowd {
    /// Of `all` connections, a neighbourhood has a quarter at most, and one at least.
    pub(in crate::http) fn of(all: usize) -> Self {
        Self { most: (all / 4).max(1), counts: Arc::default() }
    }

    /// One more connection from this address, if it may have one.
    pub(in crate::http) fn enter(&self, address: IpAddr) -> Option<Seat> {
        let neighbourhood = neighbourhood(address.to_canonical());
        let mut counts = self.counts();
        let count = counts.entry(neighbourhood).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { crowd: self.clone(), neighbourhood })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        if let Some(count) = counts.get_mut(&self.neighbourhood) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.neighbourhood);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbourhood_has_its_quarter_and_what_it_lets_go_of_again() {
        let crowd = Crowd::of(8);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "one network of one customer");
        let other = enter("2001:db8:0:1::1").unwrap();
        drop(second);
        let third = enter("2001:db8::3").unwrap();
        assert!(enter("2001:db8::1").is_none());
        let v4 = [enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_none());
        drop((first, third, other, v4));
        assert!(crowd.counts().is_empty());
        // However few there are.
        assert!(Crowd::of(1).enter("192.0.2.1".parse().unwrap()).is_some());
    }
}
