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

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    store::{
        Device, InMemoryBackend,
        traits::{
            AppStateSyncKey, Backend as Storage, DeviceInfo, DeviceListRecord, LidPnMappingEntry,
            MsgSecretEntry, PendingInboundKey, PendingInboundRow, TcTokenEntry,
        },
    },
};
use wagate::device::{self, Backend};

use crate::database::{Database, Kind, Opened};

/// One call: which, and with what. Arguments come from small sets, so that calls meet.
#[derive(Clone, Debug)]
struct Call {
    method: u8,
    a: u8,
    b: u8,
    c: u8,
    time: i64,
    blob: Vec<u8>,
    several: Vec<(u8, u8)>,
}

const METHODS: u8 = 65;
/// The client is built anew over the same device. Nothing else may change by that.
const RESTART: u8 = METHODS;

fn call() -> impl Strategy<Value = Call> {
    (
        0..=METHODS,
        0..4_u8,
        0..3_u8,
        0..3_u8,
        0..6_i64,
        proptest::collection::vec(any::<u8>(), 0..4),
        proptest::collection::vec((0..5_u8, 0..4_u8), 0..6),
    )
        .prop_map(|(method, a, b, c, time, blob, several)| Call {
            method,
            a,
            b,
            c,
            time,
            blob,
            several,
        })
}

fn address(n: u8) -> String {
    ["1@s.whatsapp.net", "1:2@s.whatsapp.net", "12@s.whatsapp.net", "A:1@lid", "a%_@lid"]
        [usize::from(n) % 5]
        .to_owned()
}

fn user(n: u8) -> &'static str {
    ["1", "12", "A", "a", "a%_"][usize::from(n) % 5]
}

fn name(n: u8) -> String {
    format!("name {n}")
}

fn mac(n: u8) -> [u8; 32] {
    [n; 32]
}

/// Sorted: neither storage promises an order.
fn sorted<T: Ord + std::fmt::Debug>(items: impl IntoIterator<Item = T>) -> String {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    format!("{items:?}")
}

fn record(n: u8, call: &Call) -> DeviceListRecord {
    DeviceListRecord {
        user: user(n).to_owned(),
        devices: call
            .several
            .iter()
            .map(|&(id, index)| {
                DeviceInfo::new(id.into(), (index > 1).then_some(u32::MAX)).with_hosting(index == 2)
            })
            .collect(),
        timestamp: call.time,
        phash: (call.b > 0).then(|| name(call.b)),
        raw_id: (call.c > 0).then_some(u32::MAX - u32::from(call.c)),
    }
}

fn mapping(lid: u8, phone: u8, time: i64) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: name(lid),
        phone_number: name(phone),
        created_at: time,
        updated_at: time,
        learning_source: "usync".to_owned(),
    }
}

fn secret(call: &Call, a: u8, b: u8) -> MsgSecretEntry {
    MsgSecretEntry {
        chat: name(call.a).into(),
        sender: name(b).into(),
        msg_id: name(a).into(),
        secret: [a.wrapping_mul(7).wrapping_add(b); 32],
        expires_at: (call.time + i64::from(b)) % 4,
        message_ts: (call.time + i64::from(a)) % 3,
    }
}

/// Makes a call and puts its answer into words.
async fn answer(storage: &dyn Storage, devices: &[Device], call: &Call) -> String {
    let &Call { method, a, b, c, time, ref blob, ref several } = call;
    let id = u32::from(a) + (u32::MAX - 10) * u32::from(b == 2);
    let ids: Vec<u32> = several.iter().map(|(id, _)| u32::from(*id)).collect();
    let records: Vec<(Arc<str>, Bytes)> =
        several.iter().map(|&(n, v)| (address(n).into(), Bytes::from(vec![v; 5]))).collect();
    let (one, two, three) = (name(a), name(b), name(c));
    // Far from now, as storages stamp some rows with the time: all, or none.
    let cutoff = if c == 0 { 0 } else { wacore::time::now_secs() + 1000 };
    match method {
        0 => format!("{:?}", storage.put_identity(&address(a), mac(b)).await),
        1 => {
            let keys: Vec<(Arc<str>, [u8; 32])> =
                several.iter().map(|&(n, v)| (address(n).into(), mac(v))).collect();
            format!("{:?}", storage.put_identities_batch(&keys).await)
        }
        2 => format!("{:?}", storage.load_identity(&address(a)).await),
        3 => format!("{:?}", storage.delete_identity(&address(a)).await),
        4 => format!("{:?}", storage.get_session(&address(a)).await),
        5 => format!("{:?}", storage.put_session(&address(a), blob).await),
        6 => format!("{:?}", storage.put_sessions_batch(&records).await),
        7 => format!("{:?}", storage.delete_session(&address(a)).await),
        8 => format!("{:?}", storage.has_session(&address(a)).await),
        9 => format!("{:?}", storage.has_signal_state_for_user(user(a)).await),
        10 => format!("{:?}", storage.store_prekey(id, blob, b == 0).await),
        11 => {
            let keys: Vec<(u32, Bytes)> =
                several.iter().map(|&(n, v)| (n.into(), Bytes::from(vec![v]))).collect();
            format!("{:?}", storage.store_prekeys_batch(&keys, b == 0).await)
        }
        12 => format!("{:?}", storage.load_prekey(id).await),
        13 => format!("{:?}", storage.load_prekeys_batch(&ids).await),
        14 => format!("{:?}", storage.mark_prekeys_uploaded(&ids).await),
        15 => format!("{:?}", storage.remove_prekey(id).await),
        16 => format!("{:?}", storage.get_max_prekey_id().await),
        17 => format!("{:?}", storage.store_signed_prekey(id, blob).await),
        18 => format!("{:?}", storage.load_signed_prekey(id).await),
        19 => sorted(storage.load_all_signed_prekeys().await.unwrap()),
        20 => format!("{:?}", storage.remove_signed_prekey(id).await),
        21 => format!("{:?}", storage.put_sender_key(&address(a), blob).await),
        22 => format!("{:?}", storage.put_sender_keys_batch(&records).await),
        23 => format!("{:?}", storage.get_sender_key(&address(a)).await),
        24 => format!("{:?}", storage.delete_sender_key(&address(a)).await),
        25 => format!("{:?}", storage.get_sync_key(&[a]).await),
        26 => {
            let key =
                AppStateSyncKey { key_data: blob.clone(), fingerprint: vec![b], timestamp: time };
            format!("{:?}", storage.set_sync_key(&[a], key).await)
        }
        27 => format!("{:?}", storage.get_latest_sync_key_id().await),
        28 => {
            let state = storage.get_version(&one).await.unwrap();
            let values: BTreeMap<_, _> = state.index_value_map.into_iter().collect();
            format!("{} {:?} {values:?} {}", state.version, state.hash, state.mac_mismatch_fatal)
        }
        29 => {
            let state = HashState {
                version: u64::MAX - u64::from(b),
                hash: [c; 128],
                index_value_map: several.iter().map(|&(n, v)| (name(n), vec![v])).collect(),
                mac_mismatch_fatal: b == 1,
            };
            format!("{:?}", storage.set_version(&one, state).await)
        }
        30 => {
            let macs: Vec<_> = several
                .iter()
                .map(|&(n, v)| AppStateMutationMAC {
                    index_mac: mac(n).to_vec(),
                    value_mac: vec![v],
                })
                .collect();
            format!("{:?}", storage.put_mutation_macs(&one, u64::MAX, &macs).await)
        }
        31 => format!("{:?}", storage.get_mutation_mac(&one, &mac(b)).await),
        32 => {
            let wanted: Vec<[u8; 32]> = several.iter().map(|&(n, _)| mac(n)).collect();
            sorted(storage.get_mutation_macs(&one, &wanted).await.unwrap())
        }
        33 => {
            let gone: Vec<Vec<u8>> = several.iter().map(|&(n, _)| mac(n).to_vec()).collect();
            format!("{:?}", storage.delete_mutation_macs(&one, &gone).await)
        }
        34 => format!("{:?}", storage.clear_mutation_macs(&one).await),
        35 => sorted(storage.get_sender_key_devices(&one).await.unwrap()),
        36 => {
            let jids: Vec<String> = several.iter().map(|&(n, _)| address(n)).collect();
            let entries: Vec<(&str, bool)> =
                jids.iter().zip(several).map(|(jid, &(_, v))| (jid.as_str(), v > 1)).collect();
            format!("{:?}", storage.set_sender_key_status(&one, &entries).await)
        }
        37 => format!("{:?}", storage.clear_sender_key_devices(&one).await),
        38 => {
            let jids: Vec<String> = several.iter().map(|&(n, _)| address(n)).collect();
            let jids: Vec<&str> = jids.iter().map(String::as_str).collect();
            format!("{:?}", storage.delete_sender_key_device_rows(&jids).await)
        }
        39 if b == 0 => format!("{:?}", storage.clear_all_sender_key_devices().await),
        40 => format!("{:?}", storage.get_lid_mapping(&one).await),
        41 => format!("{:?}", storage.get_pn_mapping(&one).await),
        42 => format!("{:?}", storage.put_lid_mapping(&mapping(a, b, time)).await),
        43 => {
            let entries: Vec<_> = several.iter().map(|&(l, p)| mapping(l, p, time)).collect();
            format!("{:?}", storage.put_lid_mappings(&entries).await)
        }
        44 => {
            let all = storage.get_all_lid_mappings().await.unwrap();
            sorted(all.iter().map(|entry| format!("{entry:?}")))
        }
        45 => format!("{:?}", storage.save_base_key(&one, &two, blob).await),
        46 => format!("{:?}", storage.has_same_base_key(&one, &two, blob).await),
        47 => format!("{:?}", storage.delete_base_key(&one, &two).await),
        48 => format!("{:?}", storage.update_device_list(record(a, call)).await),
        49 => {
            let records = several.iter().map(|&(n, _)| record(n, call)).collect();
            format!("{:?}", storage.update_device_lists(records).await)
        }
        50 => format!("{:?}", storage.get_devices(user(a)).await),
        51 => format!("{:?}", storage.delete_devices(user(a)).await),
        52 => match c {
            0 => format!("{:?}", storage.get_group_metadata(&one).await),
            1 => format!("{:?}", storage.put_group_metadata(&one, blob).await),
            _ => format!("{:?}", storage.delete_group_metadata(&one).await),
        },
        53 => format!("{:?}", storage.get_tc_token(&one).await),
        54 => {
            let entry = TcTokenEntry {
                token: blob.clone(),
                token_timestamp: time,
                sender_timestamp: (b > 0).then_some(time - 1),
            };
            format!("{:?}", storage.put_tc_token(&one, &entry).await)
        }
        55 if b == 0 => format!("{:?}", storage.delete_tc_token(&one).await),
        56 => sorted(storage.get_all_tc_token_jids().await.unwrap()),
        57 => format!("{:?}", storage.delete_expired_tc_tokens(time, i64::from(b)).await),
        58 => format!("{:?}", storage.touch_tc_token_sender_timestamp(&one, time).await),
        59 => format!("{:?}", storage.store_received_tc_token(&one, blob, time).await),
        60 => match c {
            0 => format!("{:?}", storage.store_sent_message(&one, &two, blob).await),
            1 => format!("{:?}", storage.take_sent_message(&one, &two).await),
            _ if b == 0 => format!("{:?}", storage.delete_expired_sent_messages(cutoff).await),
            _ => format!("{:?}", storage.delete_expired_sent_messages(0).await),
        },
        61 => match b {
            0 => format!("{:?}", storage.store_pending_inbound(&one, &two, &three, blob).await),
            1 => {
                let names: Vec<_> = several.iter().map(|&(n, v)| (name(n), vec![v])).collect();
                let rows: Vec<_> = names
                    .iter()
                    .map(|(id, message)| PendingInboundRow { chat: &one, sender: "s", id, message })
                    .collect();
                format!("{:?}", storage.store_pending_inbound_batch(&rows).await)
            }
            _ => {
                let names: Vec<_> = several.iter().map(|&(n, _)| name(n)).collect();
                let keys: Vec<_> = names
                    .iter()
                    .map(|id| PendingInboundKey { chat: &one, sender: "s", id })
                    .collect();
                format!("{:?}", storage.delete_pending_inbound_batch(&keys).await)
            }
        },
        62 => {
            let mut answer = String::new();
            for n in 0..5 {
                for sender in [two.as_str(), "s"] {
                    let found = storage.get_pending_inbound(&one, sender, &name(n)).await;
                    write!(answer, "{found:?} ").unwrap();
                }
            }
            if c == 1 {
                let gone = storage.delete_pending_inbound(&one, &two, &three).await;
                write!(answer, "{gone:?}").unwrap();
            }
            if time == 5 {
                let gone = storage.delete_expired_pending_inbound(cutoff).await;
                write!(answer, "{gone:?}").unwrap();
            }
            answer
        }
        63 => match c {
            0 => {
                let entries = several.iter().map(|&(n, v)| secret(call, n, v)).collect();
                format!("{:?}", storage.put_msg_secrets(entries).await)
            }
            1 => {
                let secret = storage.get_msg_secret(&one, &two, &name(c)).await;
                let with_ts = storage.get_msg_secret_with_ts(&one, &two, &three).await;
                format!("{secret:?} {with_ts:?}")
            }
            _ => format!("{:?}", storage.delete_expired_msg_secrets(time - 3).await),
        },
        64 => {
            if b == 0 {
                storage.save(&devices[usize::from(a) % devices.len()]).await.unwrap();
            }
            let loaded = storage.load().await.unwrap();
            let exists = storage.exists().await;
            format!("{} {exists:?}", serde_json::to_string(&loaded).unwrap())
        }
        _ => String::new(),
    }
}

async fn compare(opened: &Opened, devices: &[Device], calls: &[Call]) -> Result<(), TestCaseError> {
    let number: u64 = rand::random();
    let key = opened.session(&format!("case{number}")).await.id;
    let id = device::create(&opened.store, &key).await.unwrap();
    let mut ours = Backend::new(opened.store.clone(), id, &key);
    let reference = InMemoryBackend::new();
    for (at, call) in calls.iter().enumerate() {
        if call.method == RESTART {
            ours.write_pending().await.unwrap();
            ours = Backend::new(opened.store.clone(), id, &key);
            continue;
        }
        let expected = answer(&reference, devices, call).await;
        let got = answer(&ours, devices, call).await;
        let finds_more = call.method == 41
            && expected == "Ok(None)"
            && got.contains(&format!("phone_number: {:?}", name(call.a)));
        prop_assert!(
            expected == got || finds_more,
            "call {at}: {call:?}\nreference: {expected}\nours:      {got}"
        );
    }
    device::erase(&opened.store, id).await.unwrap();
    Ok(())
}

fn compare_on(kind: Kind, cases: u32) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(database) = runtime.block_on(Database::new(kind)) else { return };
    let opened = runtime.block_on(database.open());
    let devices = [Device::new(), Device::new()];
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let calls = proptest::collection::vec(call(), 1..120);
    TestRunner::new(config)
        .run(&calls, |calls| runtime.block_on(compare(&opened, &devices, &calls)))
        .unwrap();
    runtime.block_on(opened.close());
}

#[test]
fn sqlite_answers_as_the_reference_does() {
    compare_on(Kind::Sqlite, 60);
}

#[test]
fn postgres_answers_as_the_reference_does() {
    compare_on(Kind::Postgres, 60);
}
