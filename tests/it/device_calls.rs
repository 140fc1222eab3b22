//! Every call that the client's storage traits know, by name, with arguments from small sets, so that
//! calls meet: its answer in words.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    store::{
        Device,
        traits::{
            AppStateSyncKey, Backend as Storage, DeviceInfo, DeviceListRecord, LidPnMappingEntry,
            MsgSecretEntry, PendingInboundKey, PendingInboundRow, TcTokenEntry,
        },
    },
};

/// All methods of the five traits. `device_differential.rs` compares the list with the sources.
pub(crate) const METHODS: [&str; 82] = [
    // SignalStore
    "put_identity",
    "put_identities_batch",
    "load_identity",
    "delete_identity",
    "get_session",
    "put_session",
    "put_sessions_batch",
    "delete_session",
    "has_session",
    "has_signal_state_for_user",
    "store_prekey",
    "store_prekeys_batch",
    "load_prekey",
    "load_prekeys_batch",
    "mark_prekeys_uploaded",
    "remove_prekey",
    "get_max_prekey_id",
    "store_signed_prekey",
    "load_signed_prekey",
    "load_all_signed_prekeys",
    "remove_signed_prekey",
    "put_sender_key",
    "put_sender_keys_batch",
    "get_sender_key",
    "delete_sender_key",
    // AppSyncStore
    "get_sync_key",
    "set_sync_key",
    "get_version",
    "set_version",
    "put_mutation_macs",
    "get_mutation_mac",
    "get_mutation_macs",
    "delete_mutation_macs",
    "clear_mutation_macs",
    "get_latest_sync_key_id",
    // ProtocolStore
    "get_sender_key_devices",
    "set_sender_key_status",
    "clear_sender_key_devices",
    "delete_sender_key_device_rows",
    "clear_all_sender_key_devices",
    "get_lid_mapping",
    "get_pn_mapping",
    "put_lid_mapping",
    "put_lid_mappings",
    "get_all_lid_mappings",
    "save_base_key",
    "has_same_base_key",
    "delete_base_key",
    "update_device_list",
    "update_device_lists",
    "get_devices",
    "delete_devices",
    "get_group_metadata",
    "put_group_metadata",
    "delete_group_metadata",
    "get_tc_token",
    "put_tc_token",
    "delete_tc_token",
    "get_all_tc_token_jids",
    "delete_expired_tc_tokens",
    "touch_tc_token_sender_timestamp",
    "store_received_tc_token",
    "store_sent_message",
    "take_sent_message",
    "delete_expired_sent_messages",
    "store_pending_inbound",
    "get_pending_inbound",
    "delete_pending_inbound",
    "delete_expired_pending_inbound",
    "store_pending_inbound_batch",
    "delete_pending_inbound_batch",
    // DeviceStore
    "save",
    "load",
    "exists",
    "create",
    "snapshot_db",
    "resource_report",
    // MsgSecretStore
    "put_msg_secret",
    "put_msg_secrets",
    "get_msg_secret",
    "get_msg_secret_with_ts",
    "delete_expired_msg_secrets",
];

/// One call: which, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Where it is in [`METHODS`]; behind the last one stands a restart of the client.
    pub(crate) method: usize,
    pub(crate) a: u8,
    b: u8,
    c: u8,
    time: i64,
    blob: Vec<u8>,
    several: Vec<(u8, u8)>,
}

impl Call {
    /// The same arguments for another method.
    pub(crate) fn of(method: usize, arguments: Self) -> Self {
        Self { method, ..arguments }
    }
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    (
        0..=METHODS.len(),
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

pub(crate) fn name(n: u8) -> String {
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
#[expect(clippy::too_many_lines, reason = "a line or two for each of 82 methods")]
pub(crate) async fn answer(storage: &dyn Storage, devices: &[Device], call: &Call) -> String {
    let &Call { method, a, b, c, time, ref blob, ref several } = call;
    let id = u32::from(a) + (u32::MAX - 10) * u32::from(b == 2);
    let ids: Vec<u32> = several.iter().map(|(id, _)| u32::from(*id)).collect();
    let records: Vec<(Arc<str>, Bytes)> =
        several.iter().map(|&(n, v)| (address(n).into(), Bytes::from(vec![v; 5]))).collect();
    let (one, two, three) = (name(a), name(b), name(c));
    let names: Vec<(String, Vec<u8>)> = several.iter().map(|&(n, v)| (name(n), vec![v])).collect();
    // Far from now, as storages stamp some rows with the time: all, or none.
    let cutoff = if c == 0 { wacore::time::now_secs() + 1000 } else { 0 };
    match METHODS[method] {
        "put_identity" => format!("{:?}", storage.put_identity(&address(a), mac(b)).await),
        "put_identities_batch" => {
            let keys: Vec<(Arc<str>, [u8; 32])> =
                several.iter().map(|&(n, v)| (address(n).into(), mac(v))).collect();
            format!("{:?}", storage.put_identities_batch(&keys).await)
        }
        "load_identity" => format!("{:?}", storage.load_identity(&address(a)).await),
        "delete_identity" => format!("{:?}", storage.delete_identity(&address(a)).await),
        "get_session" => format!("{:?}", storage.get_session(&address(a)).await),
        "put_session" => format!("{:?}", storage.put_session(&address(a), blob).await),
        "put_sessions_batch" => format!("{:?}", storage.put_sessions_batch(&records).await),
        "delete_session" => format!("{:?}", storage.delete_session(&address(a)).await),
        "has_session" => format!("{:?}", storage.has_session(&address(a)).await),
        "has_signal_state_for_user" => {
            format!("{:?}", storage.has_signal_state_for_user(user(a)).await)
        }
        "store_prekey" => format!("{:?}", storage.store_prekey(id, blob, b == 0).await),
        "store_prekeys_batch" => {
            let keys: Vec<(u32, Bytes)> =
                several.iter().map(|&(n, v)| (n.into(), Bytes::from(vec![v]))).collect();
            format!("{:?}", storage.store_prekeys_batch(&keys, b == 0).await)
        }
        "load_prekey" => format!("{:?}", storage.load_prekey(id).await),
        "load_prekeys_batch" => format!("{:?}", storage.load_prekeys_batch(&ids).await),
        "mark_prekeys_uploaded" => format!("{:?}", storage.mark_prekeys_uploaded(&ids).await),
        "remove_prekey" => format!("{:?}", storage.remove_prekey(id).await),
        "get_max_prekey_id" => format!("{:?}", storage.get_max_prekey_id().await),
        "store_signed_prekey" => format!("{:?}", storage.store_signed_prekey(id, blob).await),
        "load_signed_prekey" => format!("{:?}", storage.load_signed_prekey(id).await),
        "load_all_signed_prekeys" => sorted(storage.load_all_signed_prekeys().await.unwrap()),
        "remove_signed_prekey" => format!("{:?}", storage.remove_signed_prekey(id).await),
        "put_sender_key" => format!("{:?}", storage.put_sender_key(&address(a), blob).await),
        "put_sender_keys_batch" => format!("{:?}", storage.put_sender_keys_batch(&records).await),
        "get_sender_key" => format!("{:?}", storage.get_sender_key(&address(a)).await),
        "delete_sender_key" => format!("{:?}", storage.delete_sender_key(&address(a)).await),
        "get_sync_key" => format!("{:?}", storage.get_sync_key(&[a]).await),
        "set_sync_key" => {
            let key =
                AppStateSyncKey { key_data: blob.clone(), fingerprint: vec![b], timestamp: time };
            format!("{:?}", storage.set_sync_key(&[a], key).await)
        }
        "get_latest_sync_key_id" => format!("{:?}", storage.get_latest_sync_key_id().await),
        "get_version" => {
            let state = storage.get_version(&one).await.unwrap();
            let values: BTreeMap<_, _> = state.index_value_map.into_iter().collect();
            format!("{} {:?} {values:?} {}", state.version, state.hash, state.mac_mismatch_fatal)
        }
        "set_version" => {
            let state = HashState {
                version: u64::MAX - u64::from(b),
                hash: [c; 128],
                index_value_map: several.iter().map(|&(n, v)| (name(n), vec![v])).collect(),
                mac_mismatch_fatal: b == 1,
            };
            format!("{:?}", storage.set_version(&one, state).await)
        }
        "put_mutation_macs" => {
            let macs: Vec<_> = several
                .iter()
                .map(|&(n, v)| AppStateMutationMAC {
                    index_mac: mac(n).to_vec(),
                    value_mac: vec![v],
                })
                .collect();
            format!("{:?}", storage.put_mutation_macs(&one, u64::MAX, &macs).await)
        }
        "get_mutation_mac" => format!("{:?}", storage.get_mutation_mac(&one, &mac(b)).await),
        "get_mutation_macs" => {
            let wanted: Vec<[u8; 32]> = several.iter().map(|&(n, _)| mac(n)).collect();
            sorted(storage.get_mutation_macs(&one, &wanted).await.unwrap())
        }
        "delete_mutation_macs" => {
            let gone: Vec<Vec<u8>> = several.iter().map(|&(n, _)| mac(n).to_vec()).collect();
            format!("{:?}", storage.delete_mutation_macs(&one, &gone).await)
        }
        "clear_mutation_macs" => format!("{:?}", storage.clear_mutation_macs(&one).await),
        "get_sender_key_devices" => sorted(storage.get_sender_key_devices(&one).await.unwrap()),
        "set_sender_key_status" => {
            let jids: Vec<String> = several.iter().map(|&(n, _)| address(n)).collect();
            let entries: Vec<(&str, bool)> =
                jids.iter().zip(several).map(|(jid, &(_, v))| (jid.as_str(), v > 1)).collect();
            format!("{:?}", storage.set_sender_key_status(&one, &entries).await)
        }
        "clear_sender_key_devices" => format!("{:?}", storage.clear_sender_key_devices(&one).await),
        "delete_sender_key_device_rows" => {
            let jids: Vec<String> = several.iter().map(|&(n, _)| address(n)).collect();
            let jids: Vec<&str> = jids.iter().map(String::as_str).collect();
            format!("{:?}", storage.delete_sender_key_device_rows(&jids).await)
        }
        "clear_all_sender_key_devices" => {
            format!("{:?}", storage.clear_all_sender_key_devices().await)
        }
        "get_lid_mapping" => format!("{:?}", storage.get_lid_mapping(&one).await),
        "get_pn_mapping" => format!("{:?}", storage.get_pn_mapping(&one).await),
        "put_lid_mapping" => format!("{:?}", storage.put_lid_mapping(&mapping(a, b, time)).await),
        "put_lid_mappings" => {
            let entries: Vec<_> = several.iter().map(|&(l, p)| mapping(l, p, time)).collect();
            format!("{:?}", storage.put_lid_mappings(&entries).await)
        }
        "get_all_lid_mappings" => {
            let all = storage.get_all_lid_mappings().await.unwrap();
            sorted(all.iter().map(|entry| format!("{entry:?}")))
        }
        "save_base_key" => format!("{:?}", storage.save_base_key(&one, &two, blob).await),
        "has_same_base_key" => format!("{:?}", storage.has_same_base_key(&one, &two, blob).await),
        "delete_base_key" => format!("{:?}", storage.delete_base_key(&one, &two).await),
        "update_device_list" => format!("{:?}", storage.update_device_list(record(a, call)).await),
        "update_device_lists" => {
            let records = several.iter().map(|&(n, _)| record(n, call)).collect();
            format!("{:?}", storage.update_device_lists(records).await)
        }
        "get_devices" => format!("{:?}", storage.get_devices(user(a)).await),
        "delete_devices" => format!("{:?}", storage.delete_devices(user(a)).await),
        "get_group_metadata" => format!("{:?}", storage.get_group_metadata(&one).await),
        "put_group_metadata" => format!("{:?}", storage.put_group_metadata(&one, blob).await),
        "delete_group_metadata" => format!("{:?}", storage.delete_group_metadata(&one).await),
        "get_tc_token" => format!("{:?}", storage.get_tc_token(&one).await),
        "put_tc_token" => {
            let entry = TcTokenEntry {
                token: blob.clone(),
                token_timestamp: time,
                sender_timestamp: (b > 0).then_some(time - 1),
            };
            format!("{:?}", storage.put_tc_token(&one, &entry).await)
        }
        "delete_tc_token" => format!("{:?}", storage.delete_tc_token(&one).await),
        "get_all_tc_token_jids" => sorted(storage.get_all_tc_token_jids().await.unwrap()),
        "delete_expired_tc_tokens" => {
            format!("{:?}", storage.delete_expired_tc_tokens(time, i64::from(b)).await)
        }
        "touch_tc_token_sender_timestamp" => {
            format!("{:?}", storage.touch_tc_token_sender_timestamp(&one, time).await)
        }
        "store_received_tc_token" => {
            format!("{:?}", storage.store_received_tc_token(&one, blob, time).await)
        }
        "store_sent_message" => format!("{:?}", storage.store_sent_message(&one, &two, blob).await),
        "take_sent_message" => format!("{:?}", storage.take_sent_message(&one, &two).await),
        "delete_expired_sent_messages" => {
            format!("{:?}", storage.delete_expired_sent_messages(cutoff).await)
        }
        "store_pending_inbound" => {
            format!("{:?}", storage.store_pending_inbound(&one, &two, &three, blob).await)
        }
        "get_pending_inbound" => {
            let single = storage.get_pending_inbound(&one, &two, &three).await;
            let batched = storage.get_pending_inbound(&one, "s", &three).await;
            format!("{single:?} {batched:?}")
        }
        "delete_pending_inbound" => {
            format!("{:?}", storage.delete_pending_inbound(&one, &two, &three).await)
        }
        "delete_expired_pending_inbound" => {
            format!("{:?}", storage.delete_expired_pending_inbound(cutoff).await)
        }
        "store_pending_inbound_batch" => {
            let rows: Vec<_> = names
                .iter()
                .map(|(id, message)| PendingInboundRow { chat: &one, sender: "s", id, message })
                .collect();
            format!("{:?}", storage.store_pending_inbound_batch(&rows).await)
        }
        "delete_pending_inbound_batch" => {
            let keys: Vec<_> = names
                .iter()
                .map(|(id, _)| PendingInboundKey { chat: &one, sender: "s", id })
                .collect();
            format!("{:?}", storage.delete_pending_inbound_batch(&keys).await)
        }
        "put_msg_secret" => {
            format!("{:?}", storage.put_msg_secret(&one, &two, &three, &mac(b)).await)
        }
        "put_msg_secrets" => {
            let entries = several.iter().map(|&(n, v)| secret(call, n, v)).collect();
            format!("{:?}", storage.put_msg_secrets(entries).await)
        }
        "get_msg_secret" => format!("{:?}", storage.get_msg_secret(&one, &two, &three).await),
        "get_msg_secret_with_ts" => {
            format!("{:?}", storage.get_msg_secret_with_ts(&one, &two, &three).await)
        }
        "delete_expired_msg_secrets" => {
            format!("{:?}", storage.delete_expired_msg_secrets(time - 3).await)
        }
        "save" => {
            format!("{:?}", storage.save(&devices[usize::from(a) % devices.len()]).await)
        }
        "load" => serde_json::to_string(&storage.load().await.unwrap()).unwrap(),
        "exists" => format!("{:?}", storage.exists().await),
        "create" => {
            let there = storage.exists().await.unwrap();
            storage.create().await.unwrap();
            let made = storage.load().await.unwrap();
            if !there {
                // With keys of its own, which no other device has.
                storage.save(&devices[0]).await.unwrap();
            }
            format!("{there} {}", made.is_some())
        }
        "snapshot_db" => format!("{:?}", storage.snapshot_db(&one, Some(blob)).await),
        "resource_report" => format!("{:?}", storage.resource_report().await),
        unknown => panic!("{unknown} has no call"),
    }
}
