//! What the client library counts.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::known;

/// The library's counters: messages by outcome, requests, streams' ends. Cheap to clone.
///
/// Counters and nothing else: a histogram costs something with every message, and its one gauge says
/// of a single session what we say of all.
#[derive(Clone, Default)]
pub(super) struct LibraryCounters(Arc<RwLock<HashMap<Key, Arc<AtomicU64>>>>);

/// The labels of a counter, and what it stands at.
type Series = (Vec<(String, String)>, u64);

impl fmt::Debug for LibraryCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryCounters").finish_non_exhaustive()
    }
}

impl LibraryCounters {
    /// The counters of this process. The library reports to one recorder, so whoever asks first
    /// installs it; none when the process has another one.
    pub(super) fn install() -> Option<Self> {
        static INSTALLED: OnceLock<Option<LibraryCounters>> = OnceLock::new();
        INSTALLED
            .get_or_init(|| {
                let counters = Self::default();
                counters.register_known();
                set_global_recorder(counters.clone()).is_ok().then_some(counters)
            })
            .clone()
    }

    /// Has what the library counts stand at zero until it does.
    fn register_known(&self) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for known in known::COUNTERS {
            for &value in known.values {
                let labels = known.label.map(|label| Label::new(label, value));
                all.entry(Key::from_parts(known.name, labels.into_iter().collect::<Vec<_>>()))
                    .or_default();
            }
        }
    }
}

impl Recorder for LibraryCounters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let counter = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(key.clone()).or_default())
        });
        Counter::from_arc(counter)
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Collector for LibraryCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for (key, counter) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            let labels = key.labels().map(|label| (label.key().into(), label.value().into()));
            // The ending is the encoder's to write.
            let name = key.name().trim_end_matches("_total").to_owned();
            let value = counter.load(Ordering::Relaxed);
            families.entry(name).or_default().push((labels.collect(), value));
        }
        for (name, mut series) in families {
            series.sort_unstable();
            let mut family = encoder.encode_descriptor(
                &name,
                "Counted by the WhatsApp client library",
                None,
                MetricType::Counter,
            )?;
            for (labels, value) in series {
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }
}
