//! One device's keys, sessions and chains.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use tokio::sync::Mutex as AsyncMutex;
use wacore::messages::MessageUtils;
use wacore_libsignal::protocol::{
    self as signal, CiphertextMessage, DeviceId, GenericSignedPreKey, IdentityKey, IdentityKeyPair,
    KeyPair, PreKeyRecord, PreKeySignalMessage, ProtocolAddress, SenderKeyDistributionMessage,
    SenderKeyName, SenderKeyRecord, SessionRecord, SignalMessage, SignedPreKeyRecord, Timestamp,
    UsePQRatchet,
};
use waproto::whatsapp as wa;

use super::bundle::{Bundle, Key, OneTimeKey, SignedKey, key_bytes};
use super::stores::{self, Identities, OneChain, OneSession, OneTimeKeys};
use super::{EncKind, Sealed, SignalError};
use crate::address::DeviceKey;
use crate::locked;

const SIGNED_KEY_ID: u32 = 1;

/// A simulated device's Signal identity.
pub(crate) struct Endpoint {
    identity: IdentityKeyPair,
    registration_id: u32,
    signed: SignedPreKeyRecord,
    signed_public: SignedKey,
    one_time: Mutex<HashMap<u32, PreKeyRecord>>,
    next_one_time: AtomicU32,
    sessions: Shelf<DeviceKey, Session>,
    chains: Shelf<ChainKey, Option<SenderKeyRecord>>,
}

/// A chain is one sender's, in one group; our own has no sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ChainKey {
    group: String,
    sender: Option<DeviceKey>,
}

#[derive(Default)]
struct Session {
    record: Option<SessionRecord>,
    peer: Option<IdentityKey>,
}

/// What decrypting told us.
pub(crate) struct Opened {
    pub(crate) plaintext: Vec<u8>,
    /// The identity the sender used, to be compared with the one it registered.
    pub(crate) identity: Option<Key>,
}

impl Endpoint {
    pub(crate) fn generate() -> Self {
        let mut rng = rand::rng();
        let identity = IdentityKeyPair::generate(&mut rng);
        let pair = KeyPair::generate(&mut rng);
        let signature = identity
            .private_key()
            .calculate_signature(&pair.public_key.serialize(), &mut rng)
            .expect("a generated key signs anything")
            .to_vec();
        let made = Timestamp::from_epoch_millis(0);
        let signed = SignedPreKeyRecord::new(SIGNED_KEY_ID.into(), made, &pair, &signature);
        let public = key_bytes(&pair.public_key);
        Self {
            identity,
            // Fourteen bits and never 0, as phones choose it.
            registration_id: rand::random_range(1..0x3fff),
            signed,
            signed_public: SignedKey { id: SIGNED_KEY_ID, public, signature },
            one_time: Mutex::default(),
            next_one_time: AtomicU32::new(1),
            sessions: Shelf::default(),
            chains: Shelf::default(),
        }
    }

    pub(crate) fn identity(&self) -> &IdentityKeyPair {
        &self.identity
    }

    pub(crate) fn identity_public(&self) -> Key {
        key_bytes(self.identity.public_key())
    }

    /// A bundle with a fresh one-time key.
    pub(crate) fn publish(&self) -> Bundle {
        let id = self.next_one_time.fetch_add(1, Ordering::Relaxed);
        let pair = KeyPair::generate(&mut rand::rng());
        locked(&self.one_time).insert(id, PreKeyRecord::new(id.into(), &pair));
        Bundle {
            registration_id: self.registration_id,
            identity: self.identity_public(),
            signed: self.signed_public.clone(),
            one_time: Some(OneTimeKey { id, public: key_bytes(&pair.public_key) }),
            device_identity: None,
        }
    }

    /// Encrypts for a device; `bundle` is asked for only if there is no session yet.
    pub(crate) async fn seal(
        &self,
        to: &DeviceKey,
        message: &wa::Message,
        bundle: impl FnOnce() -> Option<Bundle> + Send,
    ) -> Result<Sealed, SignalError> {
        let slot = self.sessions.get(to);
        let mut session = slot.lock().await;
        let Session { record, peer } = &mut *session;
        if record.is_none() {
            let bundle = bundle().ok_or(SignalError::NoSession)?;
            self.begin(record, peer, to, &bundle).await?;
        }
        let address = address(to);
        let mut identities =
            Identities { own: &self.identity, registration_id: self.registration_id, peer };
        let plaintext = MessageUtils::encode_and_pad(message);
        let sealed =
            signal::message_encrypt(&plaintext, &address, &mut OneSession(record), &mut identities)
                .await?;
        Ok(match sealed {
            CiphertextMessage::PreKeySignalMessage(message) => {
                Sealed { kind: EncKind::PreKey, bytes: message.serialized().to_vec() }
            }
            other => Sealed { kind: EncKind::Message, bytes: other.serialize().to_vec() },
        })
    }

    /// Decrypts what a device wrote to us.
    pub(crate) async fn open(
        &self,
        from: &DeviceKey,
        kind: EncKind,
        bytes: &[u8],
    ) -> Result<Opened, SignalError> {
        let message = match kind {
            EncKind::PreKey => {
                CiphertextMessage::PreKeySignalMessage(PreKeySignalMessage::try_from(bytes)?)
            }
            _ => CiphertextMessage::SignalMessage(SignalMessage::try_from(bytes)?),
        };
        let slot = self.sessions.get(from);
        let mut session = slot.lock().await;
        let Session { record, peer } = &mut *session;
        let mut rng: StdRng = rand::make_rng();
        let opened = signal::message_decrypt(
            &message,
            &address(from),
            &mut OneSession(record),
            &mut Identities { own: &self.identity, registration_id: self.registration_id, peer },
            &mut OneTimeKeys(&self.one_time),
            &stores::SignedKey { id: SIGNED_KEY_ID, record: &self.signed },
            &mut rng,
            UsePQRatchet::No,
        )
        .await?;
        // libsignal leaves the used key to whoever makes the session durable; here that is now.
        if let Some(id) = opened.consumed_prekey_id {
            locked(&self.one_time).remove(&u32::from(id));
        }
        let identity = session.peer.as_ref().map(|key| key_bytes(key.public_key()));
        Ok(Opened { plaintext: opened.plaintext, identity })
    }

    /// Begins a new session with a device that could not read the last one. As libsignal does on every phone, the
    /// one before is kept beside it: what the device has written with that meanwhile can still be read.
    pub(crate) async fn renew(&self, peer: &DeviceKey, bundle: &Bundle) -> Result<(), SignalError> {
        let slot = self.sessions.get(peer);
        let mut session = slot.lock().await;
        let Session { record, peer: identity } = &mut *session;
        self.begin(record, identity, peer, bundle).await
    }

    async fn begin(
        &self,
        record: &mut Option<SessionRecord>,
        peer: &mut Option<IdentityKey>,
        with: &DeviceKey,
        bundle: &Bundle,
    ) -> Result<(), SignalError> {
        let mut rng: StdRng = rand::make_rng();
        signal::process_prekey_bundle(
            &address(with),
            &mut OneSession(record),
            &mut Identities { own: &self.identity, registration_id: self.registration_id, peer },
            &bundle.to_signal()?,
            &mut rng,
            UsePQRatchet::No,
        )
        .await?;
        Ok(())
    }

    /// Forgets the session with a device, as a phone does that was restored from nothing.
    pub(crate) async fn forget(&self, peer: &DeviceKey) {
        let slot = self.sessions.get(peer);
        slot.lock().await.record = None;
    }

    /// Forgets the chain of a sender in a group.
    pub(crate) async fn forget_chain(&self, group: &str, sender: &DeviceKey) {
        let key = ChainKey { group: group.to_owned(), sender: Some(sender.clone()) };
        *self.chains.get(&key).lock().await = None;
    }

    /// Our own chain in a group, as the message that lets others read it.
    pub(crate) async fn distribute(&self, group: &str) -> Result<Vec<u8>, SignalError> {
        let slot = self.chains.get(&ChainKey { group: group.to_owned(), sender: None });
        let mut chain = slot.lock().await;
        let mut rng: StdRng = rand::make_rng();
        let message = signal::create_sender_key_distribution_message(
            &chain_name(group),
            &mut OneChain(&mut chain),
            &mut rng,
        )
        .await?;
        Ok(message.serialized().to_vec())
    }

    /// Encrypts for a group under our own chain, which must have been distributed.
    pub(crate) async fn seal_group(
        &self,
        group: &str,
        message: &wa::Message,
    ) -> Result<Sealed, SignalError> {
        let slot = self.chains.get(&ChainKey { group: group.to_owned(), sender: None });
        let mut chain = slot.lock().await;
        let mut rng: StdRng = rand::make_rng();
        let plaintext = MessageUtils::encode_and_pad(message);
        let name = chain_name(group);
        let sealed =
            signal::group_encrypt(&mut OneChain(&mut chain), &name, &plaintext, &mut rng).await?;
        Ok(Sealed { kind: EncKind::SenderKey, bytes: sealed.serialized().to_vec() })
    }

    /// Learns a sender's chain.
    pub(crate) async fn learn_chain(
        &self,
        group: &str,
        sender: &DeviceKey,
        distribution: &[u8],
    ) -> Result<(), SignalError> {
        let message = SenderKeyDistributionMessage::try_from(distribution)?;
        let key = ChainKey { group: group.to_owned(), sender: Some(sender.clone()) };
        let slot = self.chains.get(&key);
        let mut chain = slot.lock().await;
        signal::process_sender_key_distribution_message(
            &chain_name(group),
            &message,
            &mut OneChain(&mut chain),
        )
        .await?;
        Ok(())
    }

    /// Decrypts a group message.
    pub(crate) async fn open_group(
        &self,
        group: &str,
        sender: &DeviceKey,
        bytes: &[u8],
    ) -> Result<Vec<u8>, SignalError> {
        let key = ChainKey { group: group.to_owned(), sender: Some(sender.clone()) };
        let slot = self.chains.get(&key);
        let mut chain = slot.lock().await;
        Ok(signal::group_decrypt(bytes, &mut OneChain(&mut chain), &chain_name(group)).await?)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// Only ever a label: the session it names is already in our hands.
fn address(device: &DeviceKey) -> ProtocolAddress {
    ProtocolAddress::new(&device.to_string(), DeviceId::new(0))
}

fn chain_name(group: &str) -> SenderKeyName {
    SenderKeyName::from_parts(group, "0")
}

/// Values that are locked one by one.
#[derive(Debug)]
struct Shelf<K, V>(Mutex<HashMap<K, Arc<AsyncMutex<V>>>>);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Default> Shelf<K, V> {
    fn get(&self, key: &K) -> Arc<AsyncMutex<V>> {
        let mut values = locked(&self.0);
        if let Some(value) = values.get(key) {
            return Arc::clone(value);
        }
        Arc::clone(values.entry(key.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: &str) -> DeviceKey {
        DeviceKey { pn: number.into(), device: 1 }
    }

    fn text(text: &str) -> wa::Message {
        wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() }
    }

    #[tokio::test]
    async fn what_was_written_before_a_new_session_was_heard_of_can_still_be_read() {
        let (one, other) = (Endpoint::generate(), Endpoint::generate());
        let (of_one, of_other) = (device("1"), device("2"));
        let read = async |reader: &Endpoint, by: &DeviceKey, sealed: Sealed| {
            reader.open(by, sealed.kind, &sealed.bytes).await.unwrap();
        };
        // Both have heard of each other.
        let hello = one.seal(&of_other, &text("hello"), || Some(other.publish())).await.unwrap();
        read(&other, &of_one, hello).await;
        let answer = other.seal(&of_one, &text("answer"), || None).await.unwrap();
        read(&one, &of_other, answer).await;

        // One is asked to write again, and has; the other has not read it yet and writes as before.
        one.renew(&of_other, &other.publish()).await.unwrap();
        let again = one.seal(&of_other, &text("again"), || None).await.unwrap();
        assert_eq!(again.kind, EncKind::PreKey);
        let crossed = other.seal(&of_one, &text("crossed"), || None).await.unwrap();
        read(&one, &of_other, crossed).await;
        read(&other, &of_one, again).await;
        let after = other.seal(&of_one, &text("after"), || None).await.unwrap();
        read(&one, &of_other, after).await;
    }
}
