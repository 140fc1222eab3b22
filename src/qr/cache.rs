//! Images rendered lately, bounded by number, size and age.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use super::{CACHED_FOR, Key};

/// The cache. Forgetting an image costs a millisecond, so nothing here is clever.
#[derive(Debug)]
pub(super) struct Cache {
    images: usize,
    bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Key, (Bytes, Instant)>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(images: usize, bytes: usize) -> Self {
        Self { images, bytes, entries: Mutex::default() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (image, used) = entries.by_key.get_mut(key)?;
        *used = Instant::now();
        Some(image.clone())
    }

    pub(super) fn put(&self, key: Key, image: Bytes) {
        if image.len() > self.bytes {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.forget(|_, used| used.elapsed() > CACHED_FOR);
        while entries.by_key.len() >= self.images || entries.bytes + image.len() > self.bytes {
            let Some(oldest) = entries.by_key.values().map(|(_, used)| *used).min() else { break };
            entries.forget(|_, used| *used == oldest);
        }
        entries.bytes += image.len();
        if let Some((before, _)) = entries.by_key.insert(key, (image, Instant::now())) {
            entries.bytes -= before.len();
        }
    }
}

impl Entries {
    fn forget(&mut self, which: impl Fn(&Bytes, &Instant) -> bool) {
        let bytes = &mut self.bytes;
        self.by_key.retain(|_, (image, used)| {
            let stays = !which(image, used);
            if !stays {
                *bytes -= image.len();
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    #[test]
    fn it_stays_within_its_bounds() {
        let cache = Cache::new(3, 100);
        for n in 0_u8..50 {
            let key = Key::new(&n.to_string(), Format::Png, Layout::default());
            cache.put(key, Bytes::from(vec![n; 30]));
            let entries = cache.entries.lock().unwrap();
            assert!(entries.by_key.len() <= 3);
            let held: usize = entries.by_key.values().map(|(image, _)| image.len()).sum();
            assert_eq!(entries.bytes, held);
        }
        let last = Key::new("49", Format::Png, Layout::default());
        assert!(cache.get(&last).is_some());
        cache.put(last, Bytes::from(vec![0; 101]));
        assert_eq!(cache.get(&last).unwrap().len(), 30, "too large to keep");
    }
}
