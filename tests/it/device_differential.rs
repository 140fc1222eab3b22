//! Our storage against the client's own in-memory storage: the same calls, the same answers.
//!
//! Where the two differ on purpose:
//!
//! - The reference forgets which hidden identity is behind a phone number when *any* identity that
//!   once had that number moves on; ours answers with the latest that still has it, as the trait
//!   says. Accepted here: ours knows one that the reference does not, and it has that number.
//! - The reference keeps 4,096 sent messages at most; ours keeps them until they expire.
//! - The reference knows nothing of `uploaded`; ours keeps it (`device_storage.rs` looks at it).
//! - The reference's `create` makes a device without keeping one that is there from being loaded
//!   (both do), but its id is a counter; ours is the device's own.
//! - `device_props` and `client_profile` are not part of the saved form; ours come back as new.
//! - NUL in an identifier becomes U+FFFD, in what is listed back as well.

use std::{
    collections::BTreeSet,
    future::{Pending, pending},
    path::{Path, PathBuf},
    process::Command,
};

use entity::id::SessionKey;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use wacore::store::{Device, InMemoryBackend};
use wagate::device::{self, Backend, Watched};

use crate::{
    database::{Database, Kind, Opened},
    device_calls::{Call, METHODS, answer, call, name},
};

/// The client is built anew over the same device. Nothing may change by that.
const RESTART: usize = METHODS.len();

async fn compare(opened: &Opened, devices: &[Device], calls: &[Call]) -> Result<(), TestCaseError> {
    let number: u64 = rand::random();
    let key = opened.session(&format!("case{number}")).await.id;
    let id = device::create(&opened.store, &key).await.unwrap();
    // Ratchets are noted, as those of a client are, and written when nobody has his turn any more; some answers wait for that.
    let (mut ours, mut turn) = noting(opened, id, &key);
    let reference = InMemoryBackend::new();
    for (at, call) in calls.iter().enumerate() {
        if call.method == RESTART {
            ours.write_pending().await.unwrap();
            drop(turn);
            ours.written().await.unwrap();
            (ours, turn) = noting(opened, id, &key);
            continue;
        }
        if METHODS[call.method].starts_with("store_prekey") {
            drop(turn);
            ours.written().await.unwrap();
            turn = ours.tasks().watch(pending());
        }
        let expected = answer(&reference, devices, call).await;
        let got = answer(&ours, devices, call).await;
        let finds_more = METHODS[call.method] == "get_pn_mapping"
            && expected == "Ok(None)"
            && got.contains(&format!("phone_number: {:?}", name(call.a)));
        prop_assert!(
            expected == got || finds_more,
            "call {at}: {} {call:?}\nreference: {expected}\nours:      {got}",
            METHODS[call.method]
        );
    }
    drop(turn);
    ours.written().await.unwrap();
    device::erase(&opened.store, id).await.unwrap();
    Ok(())
}

/// A client's storage, and somebody who has his turn: until that is dropped, no ratchet is written.
fn noting(opened: &Opened, id: i32, key: &SessionKey) -> (Backend, Watched<Pending<()>>) {
    let backend = Backend::new(opened.store.clone(), id, key);
    backend.write_behind();
    let turn = backend.tasks().watch(pending());
    (backend, turn)
}

fn compare_on(kind: Kind, cases: u32) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(database) = runtime.block_on(Database::new(kind)) else { return };
    let opened = runtime.block_on(database.open());
    let devices = [Device::new(), Device::new()];
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    // Each method once with whatever arguments, so that none is left out by chance; then at random.
    let all: Vec<Call> = (0..METHODS.len())
        .map(|method| Call::of(method, call().new_tree(&mut runner).unwrap().current()))
        .collect();
    runtime.block_on(compare(&opened, &devices, &all)).unwrap();
    let calls = proptest::collection::vec(call(), 1..150);
    runner.run(&calls, |calls| runtime.block_on(compare(&opened, &devices, &calls))).unwrap();
    runtime.block_on(opened.close());
}

#[test]
fn sqlite_answers_as_the_reference_does() {
    compare_on(Kind::Sqlite, 80);
}

#[test]
fn postgres_answers_as_the_reference_does() {
    compare_on(Kind::Postgres, 80);
}

/// A method that a later version of the client adds has a default, and nobody would notice that ours
/// lacks it: so the list is compared with the sources that this very build was made from.
#[test]
fn every_method_of_every_storage_trait_is_compared() {
    let source = std::fs::read_to_string(traits()).unwrap();
    let mut there = BTreeSet::new();
    let mut traits = BTreeSet::new();
    let mut inside = false;
    for line in source.lines() {
        if let Some(of) = line.strip_prefix("pub trait ") {
            inside = true;
            traits.insert(of.split(|c: char| !c.is_alphanumeric()).next().unwrap());
        } else if line.starts_with('}') {
            inside = false;
        }
        let method = line.trim_start().strip_prefix("async fn ");
        if let Some(method) = method.filter(|_| inside) {
            let name = method.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            assert!(there.insert(name), "{name} is in two traits");
        }
    }
    assert_eq!(
        traits,
        BTreeSet::from([
            "AppSyncStore",
            "Backend",
            "DeviceStore",
            "MsgSecretStore",
            "ProtocolStore",
            "SignalStore"
        ])
    );
    let compared = BTreeSet::from(METHODS);
    assert_eq!(there.difference(&compared).collect::<Vec<_>>(), Vec::<&&str>::new(), "new");
    assert_eq!(compared.difference(&there).collect::<Vec<_>>(), Vec::<&&str>::new(), "gone");
}

/// Where cargo keeps the sources of the traits.
fn traits() -> PathBuf {
    // Of this platform only: what others need was never fetched.
    let rustc = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let rustc = String::from_utf8(rustc).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", host, "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let wacore = packages.iter().find(|package| package["name"] == "wacore").unwrap();
    let manifest = Path::new(wacore["manifest_path"].as_str().unwrap());
    manifest.with_file_name("src").join("store").join("traits.rs")
}
