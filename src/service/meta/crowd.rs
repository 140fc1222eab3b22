//! Those who post go before what they have posted.
//!
//! Meta gives up on an answer after a while, and what it tells is safe as soon as it is kept; to carry it out costs many times
//! what keeping it does, by the same writer. So while many wait to be answered, few things are carried out at a time:
//! some, as what is told must not stand still for as long as there are posts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Posts at a time that are a crowd. Fewer do not fill a group of the writer's.
const MANY: usize = 8;

/// Things that are carried out at a time beside a crowd.
const FEW: usize = 4;

/// Signed posts that are not on disk yet, and the few places beside them. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Crowd(Arc<Places>);

#[derive(Debug)]
struct Places {
    posting: AtomicUsize,
    few: Semaphore,
}

/// A signed post that is not on disk yet.
#[derive(Debug)]
pub(super) struct Posting(Arc<Places>);

impl Default for Crowd {
    fn default() -> Self {
        Self(Arc::new(Places { posting: AtomicUsize::new(0), few: Semaphore::new(FEW) }))
    }
}

impl Crowd {
    /// Somebody posts, until what this returns is dropped.
    pub(super) fn join(&self) -> Posting {
        self.0.posting.fetch_add(1, Ordering::Relaxed);
        Posting(Arc::clone(&self.0))
    }

    /// A place to carry something out: at once, unless there is a crowd. Beside one there are few, each for as long as it is
    /// held; None where none is needed.
    pub(super) async fn give_way(&self) -> Option<SemaphorePermit<'_>> {
        if self.0.posting.load(Ordering::Relaxed) < MANY {
            return None;
        }
        self.0.few.acquire().await.ok()
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.posting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn beside_a_crowd_few_have_a_place_and_one_who_leaves_it_makes_room() {
        let crowd = Crowd::default();
        let posting: Vec<_> = (0..MANY).map(|_| crowd.join()).collect();
        let mut few: Vec<_> = (0..FEW).map(|_| crowd.give_way().now_or_never().unwrap()).collect();
        assert!(few.iter().all(Option::is_some));
        assert!(crowd.give_way().now_or_never().is_none(), "there is no place left");
        few.pop();
        assert!(crowd.give_way().now_or_never().is_some_and(|place| place.is_some()));
        drop(posting);
    }

    #[test]
    fn nobody_gives_way_to_a_few_posts() {
        let crowd = Crowd::default();
        let mut posting: Vec<_> = (1..MANY).map(|_| crowd.join()).collect();
        for _ in 0..=FEW {
            assert!(crowd.give_way().now_or_never().is_some_and(|place| place.is_none()));
        }
        posting.push(crowd.join());
        assert!(crowd.give_way().now_or_never().is_some_and(|place| place.is_some()));
        posting.pop();
        assert!(crowd.give_way().now_or_never().is_some_and(|place| place.is_none()));
    }
}
