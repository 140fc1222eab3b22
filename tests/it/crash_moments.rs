//! Where the crash matrix kills: every moment that the sources name.

use std::{collections::BTreeSet, path::Path};

/// What happens to a daemon before it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// An empty directory: everything is made.
    FirstStart,
    /// It starts where another has died.
    Start,
    /// A phone scans a code.
    Pairing,
    /// The same, and whatever the library saves behind its own back does not get its turn before the end.
    PairingUnsaved,
    /// Messages both ways, receipts, a change of the account's name.
    Traffic,
    /// It is told to stop, in the middle of the same.
    Stop,
}

/// Every moment, where it is come to, and for the how-manieth time it shall be the last.
pub(crate) const MOMENTS: [(&str, Scene, &[u32]); 48] = [
    ("start.before_migration", Scene::FirstStart, &[1]),
    ("start.migrated", Scene::FirstStart, &[1]),
    ("start.store_opened", Scene::Start, &[1]),
    ("start.first_run_done", Scene::Start, &[1]),
    ("start.statuses_corrected", Scene::Start, &[1]),
    ("leases.taken", Scene::Start, &[1]),
    ("lease.taken", Scene::Pairing, &[1]),
    ("session.device_made", Scene::Start, &[1]),
    ("session.started", Scene::Start, &[1]),
    ("session.dialling", Scene::Start, &[1]),
    ("prekeys.stored", Scene::Pairing, &[1]),
    ("prekeys.uploaded", Scene::Pairing, &[1]),
    ("pairing.before_signing", Scene::Pairing, &[1]),
    ("pairing.signed", Scene::Pairing, &[1]),
    ("pairing.succeeded", Scene::Pairing, &[1]),
    ("pairing.kept", Scene::Pairing, &[1]),
    ("handover.written", Scene::Pairing, &[1]),
    ("outbound.adopted", Scene::Pairing, &[1]),
    ("pairing.before_signing", Scene::PairingUnsaved, &[1]),
    ("pairing.signed", Scene::PairingUnsaved, &[1]),
    ("device.before_save", Scene::Pairing, &[1, 2, 4, 6]),
    ("device.saved", Scene::Pairing, &[1, 2, 3, 5]),
    ("app_state.key_saved", Scene::Pairing, &[1]),
    ("app_state.before_version", Scene::Pairing, &[1, 3]),
    ("app_state.version_saved", Scene::Pairing, &[2]),
    // The first is the library's own, which tries whether a message can be kept. Of a later one of a burst the ratchet may
    // be in a copy that is about to be written (`device/tasks.rs`).
    ("inbound.opened", Scene::Traffic, &[1, 2, 3, 5, 8, 13]),
    ("inbound.held", Scene::Traffic, &[1, 5]),
    ("inbound.decrypted", Scene::Traffic, &[1, 6]),
    ("inbound.committed", Scene::Traffic, &[1, 4, 9]),
    ("inbound.before_ack", Scene::Traffic, &[1, 7]),
    ("inbound.pending_dropped", Scene::Traffic, &[1]),
    ("signal.copied", Scene::Traffic, &[1, 2, 4]),
    ("signal.before_flush", Scene::Traffic, &[1, 2, 3]),
    ("signal.flushed", Scene::Traffic, &[1, 2, 3]),
    ("store.before_commit", Scene::Traffic, &[8, 20, 33]),
    ("store.committed", Scene::Traffic, &[9, 21, 34]),
    ("facts.received", Scene::Traffic, &[1, 3]),
    ("facts.recorded", Scene::Traffic, &[1, 3]),
    ("outbound.stored", Scene::Traffic, &[1, 4]),
    ("outbound.marked", Scene::Traffic, &[1, 4]),
    ("outbound.handed_over", Scene::Traffic, &[1, 5]),
    ("outbound.announced", Scene::Traffic, &[1, 4]),
    ("shutdown.begun", Scene::Stop, &[1]),
    ("shutdown.http_closed", Scene::Stop, &[1]),
    ("session.closing", Scene::Stop, &[1]),
    ("session.closed", Scene::Stop, &[1]),
    ("shutdown.sessions_closed", Scene::Stop, &[1]),
    ("shutdown.store_closed", Scene::Stop, &[1]),
];

/// A moment that nobody dies at would be a promise that nobody has tried.
#[test]
fn every_moment_that_the_sources_name_is_in_the_matrix() {
    fn moments(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                moments(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let named = text.split("moment!(\"").skip(1);
            found.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let mut there = BTreeSet::new();
    moments(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut there);
    let killed_at: BTreeSet<String> =
        MOMENTS.iter().map(|(moment, ..)| (*moment).to_owned()).collect();
    assert_eq!(there, killed_at);
}
