//! Figures about the whole daemon, in the text format that Prometheus reads.
//!
//! They are about the installation and never about one tenant or session: no label holds an id.
//! All are there from the start, with a zero where nothing has happened, those of the client library's too (`library.rs`,
//! and `known.rs`, which has their names). `process.rs` is about the process itself.

mod known;
mod library;
mod meta;
mod outbox;
mod process;
mod webhooks;

use std::sync::atomic::AtomicU64;

use entity::state::{Role, SessionStatus};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use sea_orm::{ActiveEnum as _, Iterable as _};

use self::library::LibraryCounters;
use super::{Error, Meta, Principal};
use crate::{
    REVISION,
    delivery::Deliveries,
    event::Group,
    session::{DialStats, SendStats, Sessions},
    store::{Store, Writer, retention::RetentionStats, sessions::StatusCount},
};

/// Gauges told apart by one label.
type Gauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// Counters told apart by one label.
type Counters = Family<[(&'static str, &'static str); 1], Counter>;

/// The figures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    store: Store,
    sessions: Sessions,
    deliveries: Deliveries,
    meta: Meta,
    library: Option<LibraryCounters>,
}

impl Metrics {
    /// Figures of what is on this store, of the sessions that run here and the deliveries made here.
    pub fn new(store: Store, sessions: Sessions, deliveries: Deliveries, meta: Meta) -> Self {
        Self { store, sessions, deliveries, meta, library: LibraryCounters::install() }
    }

    /// All figures, for the operator. `more` adds those of whoever asks, which we know nothing of.
    pub async fn show(
        &self,
        caller: &Principal,
        more: impl FnOnce(&mut Registry) + Send,
    ) -> Result<String, Error> {
        caller.require(Role::Operator)?;
        Ok(self.render(more).await)
    }

    /// All figures, for anybody: only where the operator has decided so.
    ///
    /// What cannot be read while the database is away is left out rather than shown as it was.
    pub async fn render(&self, more: impl FnOnce(&mut Registry) + Send) -> String {
        // Made anew each time: two who ask at once must not see each other's half.
        let mut registry = Registry::default();
        more(&mut registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION)]);
        registry.register("wagate_build", "Which wagate this is", build);
        process::register(&mut registry);
        register_writer(&mut registry, self.store.writer());
        register_retention(&mut registry, &self.store.retention().stats());
        let panics = Counter::<u64>::default();
        panics.inc_by(self.sessions.panics());
        let help = "Panics in the tasks of sessions and of their clients, each of which has its session begin anew";
        registry.register("wagate_session_panics", help, panics);
        let unreadable = Counter::<u64>::default();
        unreadable.inc_by(self.sessions.unreadable());
        let help =
            "Messages that could not be decrypted when they came; many are when they come again";
        registry.register("wagate_messages_undecryptable", help, unreadable);

        register_dials(&mut registry, &self.sessions.dial_stats());
        register_sends(&mut registry, self.sessions.send_stats());
        outbox::register(&mut registry, &self.store).await;
        webhooks::register(&mut registry, &self.store, &self.deliveries.stats()).await;

        meta::register(&mut registry, &self.store, self.meta.figures()).await;

        let unopened = Counter::<u64>::default();
        unopened.inc_by(self.store.unopened_secrets());
        let help = "Sealed values in the database that do not open, each time that one is read";
        registry.register("wagate_secrets_unopened", help, unopened);
        let database_up = Gauge::<i64>::default();
        match self.store.sessions().count_all().await {
            Ok(counts) => {
                database_up.set(1);
                register_sessions(&mut registry, &counts);
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Sessions could not be counted"
            ),
        }
        registry.register("wagate_database_up", "Whether the database can be read", database_up);
        if let Some(library) = &self.library {
            registry.register_collector(Box::new(library.clone()));
        }

        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &registry).ok();
        text
    }
}

fn register_writer(registry: &mut Registry, writer: &Writer) {
    let stats = writer.stats();
    let mut count = |name: &str, help: &str, value| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    count("wagate_events", "Events recorded, repetitions included", stats.events);
    count("wagate_store_groups", "Write transactions committed", stats.groups);
    count("wagate_store_units", "Units of work written, without events", stats.units);
    count("wagate_store_retries", "Write transactions tried again", stats.retries);

    let recorded = Family::<[(&str, String); 1], Counter>::default();
    for (kind, events) in writer.recorded() {
        recorded.get_or_create(&[("kind", kind.to_value())]).inc_by(events);
    }
    registry.register("wagate_events_recorded", "New events, by kind", recorded);
    let help = "Time of a write transaction, from its first statement to the disk";
    registry.register("wagate_store_group_seconds", help, writer.group_seconds());
    let waiting = Gauge::<i64>::default();
    waiting.set(i64::try_from(writer.waiting()).unwrap_or(i64::MAX));
    registry.register("wagate_store_waiting", "Units and events not yet written", waiting);
    let oldest = Gauge::<f64, AtomicU64>::default();
    oldest.set(writer.longest_wait().as_secs_f64());
    let help = "How long the one of them has waited that has waited for longest";
    registry.register("wagate_store_oldest_seconds", help, oldest);
}

fn register_dials(registry: &mut Registry, stats: &DialStats) {
    let dials = Counter::<u64>::default();
    dials.inc_by(stats.begun);
    registry.register("wagate_dials", "Connections to WhatsApp begun", dials);
    let again = Counter::<u64>::default();
    again.inc_by(stats.again);
    let help = "Of those, begun anew after a connection was lost, or a dial came to nothing";
    registry.register("wagate_reconnects", help, again);
    let (waiting, under_way) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    waiting.set(number(stats.waiting));
    under_way.set(number(stats.under_way));
    registry.register("wagate_dials_waiting", "Sessions that wait for their turn", waiting);
    registry.register("wagate_dials_under_way", "Sessions that are dialling", under_way);
}

fn register_sends(registry: &mut Registry, stats: &SendStats) {
    let (put_off, unconfirmed) = (Counter::<u64>::default(), Counter::<u64>::default());
    put_off.inc_by(stats.times_put_off());
    unconfirmed.inc_by(stats.times_unconfirmed());
    let help = "Messages that WhatsApp refused for the moment; they are sent again later";
    registry.register("wagate_sends_put_off", help, put_off);
    let help = "Messages that WhatsApp did not acknowledge in time; they are sent again";
    registry.register("wagate_sends_unconfirmed", help, unconfirmed);
}

fn register_retention(registry: &mut Registry, stats: &RetentionStats) {
    let rows = Counters::default();
    let (chunks, slow) = (Counter::<u64>::default(), Counter::<u64>::default());
    for (table, deleted) in &stats.rows {
        rows.get_or_create(&[("table", table.name())]).inc_by(*deleted);
    }
    chunks.inc_by(stats.chunks);
    slow.inc_by(stats.slow);
    registry.register("wagate_retention_rows", "Old rows deleted, by table", rows);
    registry.register(
        "wagate_retention_chunks",
        "Write transactions' worth of deleting and giving back",
        chunks,
    );
    registry.register(
        "wagate_retention_slow_chunks",
        "Those that held the writer for more than 50 ms, commit included",
        slow,
    );
}

fn register_sessions(registry: &mut Registry, counts: &[StatusCount]) {
    let (by_status, by_group) = (Gauges::default(), Gauges::default());
    for status in SessionStatus::iter() {
        let of_status = counts.iter().filter(|count| count.status == status);
        let sessions = number(of_status.map(|count| count.sessions).sum());
        by_status.get_or_create(&[("status", status.word())]).set(sessions);
    }
    for group in Group::ALL {
        let of_group = counts.iter().flat_map(StatusCount::groups).filter(|(it, _)| *it == group);
        let sessions = number(of_group.map(|(_, sessions)| sessions).sum());
        by_group.get_or_create(&[("group", group.word())]).set(sessions);
    }
    let reconnecting = Gauge::<i64>::default();
    reconnecting.set(number(counts.iter().map(|count| count.reconnecting).sum()));

    registry.register("wagate_sessions", "Sessions of all organizations, by status", by_status);
    registry.register("wagate_session_groups", "The same, grouped as lists do it", by_group);
    registry.register(
        "wagate_sessions_reconnecting",
        "Sessions coming back after their connection was lost",
        reconnecting,
    );
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
