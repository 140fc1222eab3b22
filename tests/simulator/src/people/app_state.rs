//! App state: settings shared by an account's devices, encrypted under keys the phone hands out.
//!
//! The server keeps numbered patches per collection and cannot read them. The phone, which is
//! ours too, writes the first one: the push name, without which clients repeat their first sync
//! at every login.

use std::collections::HashMap;
use std::sync::Mutex;

use wacore_appstate::encode::encode_record;
use wacore_appstate::hash::{HashState, generate_patch_mac};
use wacore_appstate::keys::{ExpandedAppStateKeys, expand_app_state_keys};
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::locked;

/// The collection that must be there before a client calls itself ready.
const CRITICAL: &str = "critical_block";
/// The id of the one key: a device number and a counter, as phones number them.
const KEY_ID: [u8; 6] = [0, 0, 0, 0, 0, 1];

/// One account's app state.
#[derive(Debug)]
pub(crate) struct AppState {
    key: [u8; 32],
    expanded: ExpandedAppStateKeys,
    collections: Mutex<HashMap<String, Collection>>,
}

/// Numbered patches, the first being number 1.
#[derive(Clone, Default)]
pub(crate) struct Collection {
    patches: Vec<Vec<u8>>,
    /// The hash over all values, as far as the phone wrote them.
    hash: HashState,
    /// The MAC of the value each index has now.
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("patches", &self.patches.len()).finish_non_exhaustive()
    }
}

impl AppState {
    pub(crate) fn generate() -> Self {
        let key: [u8; 32] = rand::random();
        Self { key, expanded: expand_app_state_keys(&key), collections: Mutex::default() }
    }

    /// The phone's message that hands a companion the key.
    pub(crate) fn share(&self) -> wa::Message {
        use wa::message as m;
        let fingerprint = m::AppStateSyncKeyFingerprint {
            raw_id: Some(1),
            current_index: Some(1),
            device_indexes: vec![0, 1],
        };
        let key = m::AppStateSyncKey {
            key_id: MessageField::some(m::AppStateSyncKeyId { key_id: Some(KEY_ID.to_vec()) }),
            key_data: MessageField::some(m::AppStateSyncKeyData {
                key_data: Some(self.key.to_vec()),
                fingerprint: MessageField::some(fingerprint),
                timestamp: Some(unix_seconds()),
            }),
        };
        wa::Message {
            protocol_message: MessageField::some(m::ProtocolMessage {
                r#type: Some(m::protocol_message::Type::AppStateSyncKeyShare),
                app_state_sync_key_share: MessageField::some(m::AppStateSyncKeyShare {
                    keys: vec![key],
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Writes the account's name, as the phone does.
    ///
    /// Returns the collection and its new version.
    pub(crate) fn set_push_name(&self, name: &str) -> (&'static str, u64) {
        let value = wa::SyncActionValue {
            timestamp: Some(unix_seconds() * 1000),
            push_name_setting: MessageField::some(wa::sync_action_value::PushNameSetting {
                name: Some(name.to_owned()),
            }),
            ..Default::default()
        };
        let mut collections = locked(&self.collections);
        let collection = collections.entry(CRITICAL.to_owned()).or_default();
        collection.set(CRITICAL, br#"["setting_pushName"]"#, &value, &self.expanded);
        (CRITICAL, collection.version())
    }

    /// The version of a collection and the patches after one a client has.
    pub(crate) fn since(&self, name: &str, version: u64) -> (u64, Vec<Vec<u8>>) {
        let collections = locked(&self.collections);
        let Some(collection) = collections.get(name) else { return (0, Vec::new()) };
        let known = usize::try_from(version).unwrap_or(usize::MAX).min(collection.patches.len());
        (collection.version(), collection.patches[known..].to_vec())
    }

    /// Takes a client's patch, made on top of `version`; `None` if others came first.
    pub(crate) fn accept(&self, name: &str, version: u64, patch: &[u8]) -> Option<u64> {
        let mut collections = locked(&self.collections);
        let collection = collections.entry(name.to_owned()).or_default();
        if collection.version() != version {
            return None;
        }
        collection.patches.push(with_version(patch, version + 1));
        Some(version + 1)
    }

    /// Checks a client's patch as the account's other devices will: its key and its MAC.
    pub(crate) fn check(&self, name: &str, version: u64, patch: &[u8]) -> Result<(), &'static str> {
        let patch = waproto::codec::syncd_patch_decode(patch)
            .map_err(|_| "an app state patch is not a protobuf")?;
        if patch.key_id.id.as_deref() != Some(&KEY_ID) {
            return Err("an app state patch is under a key the phone never shared");
        }
        let mac = generate_patch_mac(&patch, name, &self.expanded.patch_mac, version + 1);
        if patch.patch_mac.as_ref() != Some(&mac) {
            return Err("the MAC of an app state patch does not verify");
        }
        Ok(())
    }
}

impl Collection {
    fn version(&self) -> u64 {
        self.patches.len() as u64
    }

    fn set(
        &mut self,
        name: &str,
        index: &[u8],
        value: &wa::SyncActionValue,
        keys: &ExpandedAppStateKeys,
    ) {
        let (mutation, mac) = encode_record(
            wa::syncd_mutation::SyncdOperation::SET,
            index,
            value,
            keys,
            &KEY_ID,
            &rand::random(),
            1,
        );
        let version = self.version() + 1;
        let values = &self.values;
        let (_, hashed) = self.hash.update_hash(std::slice::from_ref(&mutation), |index, _| {
            Ok(values.get(index).cloned())
        });
        hashed.expect("the mutation is one we made");
        self.hash.version = version;
        let index_mac = mutation.record.index.blob.clone().unwrap_or_default();
        self.values.insert(index_mac, mac.to_vec());
        let mut patch = wa::SyncdPatch {
            version: MessageField::some(wa::SyncdVersion { version: Some(version) }),
            mutations: vec![mutation],
            snapshot_mac: Some(self.hash.generate_snapshot_mac(name, &keys.snapshot_mac)),
            key_id: MessageField::some(wa::KeyId { id: Some(KEY_ID.to_vec()) }),
            ..Default::default()
        };
        patch.patch_mac = Some(generate_patch_mac(&patch, name, &keys.patch_mac, version));
        self.patches.push(waproto::codec::syncd_patch_to_vec(&patch));
    }
}

/// Clients leave the number of a new patch to the server.
fn with_version(patch: &[u8], version: u64) -> Vec<u8> {
    let Ok(mut decoded) = waproto::codec::syncd_patch_decode(patch) else { return patch.to_vec() };
    decoded.version = MessageField::some(wa::SyncdVersion { version: Some(version) });
    waproto::codec::syncd_patch_to_vec(&decoded)
}
