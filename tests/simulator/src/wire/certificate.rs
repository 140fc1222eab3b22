//! The server's Noise identity: a static key under a certificate chain of our own root.

use wacore_libsignal::protocol::KeyPair;
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp::{CertChain, cert_chain::NoiseCertificate};

/// 2020-09-13. The client compares dates only to decide whether IK may be used.
const NOT_BEFORE: u64 = 1_600_000_000;
/// 2096-10-02, later than any test runs.
const NOT_AFTER: u64 = 4_000_000_000;

const INTERMEDIATE_SERIAL: u32 = 1;
const LEAF_SERIAL: u32 = 2;

/// The static key a client may cache, and the chain that vouches for it.
///
/// The chain is signed for real: root, intermediate, leaf, each `XEdDSA`. A production client still
/// refuses it, because the root is not WhatsApp's; that is what keeps production clients away.
pub(crate) struct ServerKeys {
    pair: KeyPair,
    chain: Vec<u8>,
}

impl ServerKeys {
    pub(crate) fn generate() -> Self {
        let mut rng = rand::rng();
        let root = KeyPair::generate(&mut rng);
        let intermediate = KeyPair::generate(&mut rng);
        let pair = KeyPair::generate(&mut rng);
        let chain = CertChain {
            // The issuer's serial is 0: that is how the client recognises the root.
            intermediate: MessageField::some(certificate(
                INTERMEDIATE_SERIAL,
                0,
                &intermediate,
                &root,
            )),
            leaf: MessageField::some(certificate(
                LEAF_SERIAL,
                INTERMEDIATE_SERIAL,
                &pair,
                &intermediate,
            )),
        };
        Self { pair, chain: chain.encode_to_vec() }
    }

    pub(crate) fn public(&self) -> &[u8] {
        self.pair.public_key.public_key_bytes()
    }

    pub(crate) fn private(&self) -> &[u8; 32] {
        self.pair.private_key.serialize()
    }

    pub(crate) fn chain(&self) -> &[u8] {
        &self.chain
    }
}

fn certificate(serial: u32, issuer: u32, subject: &KeyPair, signer: &KeyPair) -> NoiseCertificate {
    let details = waproto::whatsapp::cert_chain::noise_certificate::Details {
        serial: Some(serial),
        issuer_serial: Some(issuer),
        key: Some(subject.public_key.public_key_bytes().to_vec()),
        not_before: Some(NOT_BEFORE),
        not_after: Some(NOT_AFTER),
    }
    .encode_to_vec();
    let signature = signer
        .private_key
        .calculate_signature(&details, &mut rand::rng())
        .expect("a generated key signs anything");
    NoiseCertificate { details: Some(details), signature: Some(signature.to_vec()) }
}
