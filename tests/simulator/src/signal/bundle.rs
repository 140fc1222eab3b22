//! Public key bundles: what one device publishes so that others can write to it first.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use wacore_libsignal::protocol::{
    CurveError, IdentityKey, PreKeyBundle, PublicKey, SignalProtocolError,
};

use crate::wire::stanza::{Stanza, node_with_bytes, number, three_bytes};

/// The key type byte of Curve25519, the content of every `<type>`.
pub(crate) const KEY_TYPE: u8 = 5;

pub(crate) type Key = [u8; 32];

/// A medium-term key, signed by the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedKey {
    pub(crate) id: u32,
    pub(crate) public: Key,
    pub(crate) signature: Vec<u8>,
}

/// A key for one session only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneTimeKey {
    pub(crate) id: u32,
    pub(crate) public: Key,
}

/// Everything needed to open a session with a device.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) registration_id: u32,
    pub(crate) identity: Key,
    pub(crate) signed: SignedKey,
    pub(crate) one_time: Option<OneTimeKey>,
    /// The signed device identity of a companion; a primary phone has none.
    pub(crate) device_identity: Option<Vec<u8>>,
}

impl SignedKey {
    /// Whether the identity really signed this key, type byte included.
    pub(crate) fn is_signed_by(&self, identity: &Key) -> bool {
        let (Ok(identity), Ok(public)) = (public_key(identity), public_key(&self.public)) else {
            return false;
        };
        identity.verify_signature(&public.serialize(), &self.signature)
    }

    pub(crate) fn from_node(node: &Node) -> Option<Self> {
        Some(Self {
            id: number(node.child_bytes("id")?),
            public: node.child_bytes("value")?.try_into().ok()?,
            signature: node.child_bytes("signature")?.to_vec(),
        })
    }

    pub(crate) fn to_node(&self) -> Node {
        NodeBuilder::new("skey")
            .children([
                node_with_bytes("id", three_bytes(self.id)),
                node_with_bytes("value", self.public),
                node_with_bytes("signature", self.signature.clone()),
            ])
            .build()
    }
}

impl OneTimeKey {
    pub(crate) fn from_node(node: &Node) -> Option<Self> {
        Some(Self {
            id: number(node.child_bytes("id")?),
            public: node.child_bytes("value")?.try_into().ok()?,
        })
    }

    pub(crate) fn to_node(self) -> Node {
        NodeBuilder::new("key")
            .children([
                node_with_bytes("id", three_bytes(self.id)),
                node_with_bytes("value", self.public),
            ])
            .build()
    }
}

impl Bundle {
    /// One `<user>` of the answer to a prekey fetch.
    pub(crate) fn to_user_node(&self, jid: &Jid) -> Node {
        let mut children = vec![
            node_with_bytes("registration", self.registration_id.to_be_bytes()),
            node_with_bytes("type", [KEY_TYPE]),
            node_with_bytes("identity", self.identity),
            self.signed.to_node(),
        ];
        children.extend(self.one_time.map(OneTimeKey::to_node));
        children.extend(self.device_identity_node());
        NodeBuilder::new("user").attr("jid", jid).children(children).build()
    }

    /// `<keys>` of a retry receipt.
    pub(crate) fn to_keys_node(&self) -> Node {
        let mut children =
            vec![node_with_bytes("type", [KEY_TYPE]), node_with_bytes("identity", self.identity)];
        children.extend(self.one_time.map(OneTimeKey::to_node));
        children.push(self.signed.to_node());
        children.extend(self.device_identity_node());
        NodeBuilder::new("keys").children(children).build()
    }

    /// Reads `<registration>` and `<keys>` of a retry receipt.
    pub(crate) fn from_retry(receipt: &Node) -> Option<Self> {
        let keys = receipt.child("keys")?;
        Some(Self {
            registration_id: number(receipt.child_bytes("registration")?),
            identity: keys.child_bytes("identity")?.try_into().ok()?,
            signed: SignedKey::from_node(keys.child("skey")?)?,
            one_time: keys.child("key").and_then(OneTimeKey::from_node),
            device_identity: keys.child_bytes("device-identity").map(<[u8]>::to_vec),
        })
    }

    /// The bundle as libsignal takes it. The WhatsApp device number is part of the address, so the
    /// Signal device is always the same.
    pub(crate) fn to_signal(&self) -> Result<PreKeyBundle, SignalProtocolError> {
        let one_time = match self.one_time {
            Some(key) => Some((key.id.into(), public_key(&key.public)?)),
            None => None,
        };
        PreKeyBundle::new(
            self.registration_id,
            0.into(),
            one_time,
            self.signed.id.into(),
            public_key(&self.signed.public)?,
            self.signed.signature.clone(),
            IdentityKey::new(public_key(&self.identity)?),
        )
    }

    fn device_identity_node(&self) -> Option<Node> {
        self.device_identity.clone().map(|bytes| node_with_bytes("device-identity", bytes))
    }
}

pub(crate) fn public_key(bytes: &Key) -> Result<PublicKey, CurveError> {
    PublicKey::from_djb_public_key_bytes(bytes)
}

/// The 32 bytes of a public key, without its type byte.
pub(crate) fn key_bytes(key: &PublicKey) -> Key {
    key.public_key_bytes().try_into().expect("a Curve25519 key has 32 bytes")
}
