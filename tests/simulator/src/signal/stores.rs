//! The store traits of libsignal, each over exactly the piece an operation needs.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use wacore_libsignal::protocol::{
    Direction, IdentityChange, IdentityKey, IdentityKeyPair, IdentityKeyStore, PreKeyId,
    PreKeyRecord, PreKeyStore, ProtocolAddress, SenderKeyName, SenderKeyRecord, SenderKeyStore,
    SessionRecord, SessionStore, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord,
    SignedPreKeyStore,
};

use crate::locked;

type Result<T> = std::result::Result<T, SignalProtocolError>;

/// One session, lent out while its lock is held.
pub(super) struct OneSession<'a>(pub(super) &'a mut Option<SessionRecord>);

#[async_trait]
impl SessionStore for OneSession<'_> {
    async fn load_session(&self, _: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.clone())
    }

    async fn has_session(&self, _: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.is_some())
    }

    async fn store_session(&mut self, _: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        *self.0 = Some(record);
        Ok(())
    }
}

/// Our identity, and the peer's as far as this session knows it.
pub(super) struct Identities<'a> {
    pub(super) own: &'a IdentityKeyPair,
    pub(super) registration_id: u32,
    pub(super) peer: &'a mut Option<IdentityKey>,
}

#[async_trait]
impl IdentityKeyStore for Identities<'_> {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.own.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.registration_id)
    }

    async fn save_identity(
        &mut self,
        _: &ProtocolAddress,
        identity: &IdentityKey,
    ) -> Result<IdentityChange> {
        let known = self.peer.replace(*identity);
        Ok(IdentityChange::from_changed(known.is_some_and(|known| known != *identity)))
    }

    /// Always: the server compares identities with what the device registered, and complains.
    async fn is_trusted_identity(
        &self,
        _: &ProtocolAddress,
        _: &IdentityKey,
        _: Direction,
    ) -> Result<bool> {
        Ok(true)
    }

    async fn get_identity(&self, _: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(*self.peer)
    }
}

/// The one-time prekeys handed out and not yet used.
pub(super) struct OneTimeKeys<'a>(pub(super) &'a Mutex<HashMap<u32, PreKeyRecord>>);

#[async_trait]
impl PreKeyStore for OneTimeKeys<'_> {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        let key = locked(self.0).get(&u32::from(id)).cloned();
        key.ok_or(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, id: PreKeyId, record: &PreKeyRecord) -> Result<()> {
        locked(self.0).insert(id.into(), record.clone());
        Ok(())
    }

    async fn remove_pre_key(&mut self, id: PreKeyId) -> Result<()> {
        locked(self.0).remove(&u32::from(id));
        Ok(())
    }
}

/// The one signed prekey.
pub(super) struct SignedKey<'a> {
    pub(super) id: u32,
    pub(super) record: &'a SignedPreKeyRecord,
}

#[async_trait]
impl SignedPreKeyStore for SignedKey<'_> {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        if u32::from(id) == self.id {
            Ok(self.record.clone())
        } else {
            Err(SignalProtocolError::InvalidSignedPreKeyId)
        }
    }

    async fn save_signed_pre_key(
        &mut self,
        _: SignedPreKeyId,
        _: &SignedPreKeyRecord,
    ) -> Result<()> {
        Err(SignalProtocolError::InvalidSignedPreKeyId)
    }
}

/// One sender's chain in one group, lent out while its lock is held.
pub(super) struct OneChain<'a>(pub(super) &'a mut Option<SenderKeyRecord>);

#[async_trait]
impl SenderKeyStore for OneChain<'_> {
    async fn store_sender_key(&mut self, _: &SenderKeyName, record: SenderKeyRecord) -> Result<()> {
        *self.0 = Some(record);
        Ok(())
    }

    async fn load_sender_key(&self, _: &SenderKeyName) -> Result<Option<SenderKeyRecord>> {
        Ok(self.0.clone())
    }
}
