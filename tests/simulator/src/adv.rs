//! ADV: how a phone vouches for its companions, and how a companion agrees.
//!
//! The account's identity signs `06 00 ‖ details ‖ companion identity`; the companion answers with
//! `06 01 ‖ details ‖ companion identity ‖ account identity`, and the list of valid companions is
//! `06 02 ‖ list`. The container of a pairing is authenticated by an HMAC under the secret that
//! only the QR code (or the code exchange) carried.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wacore_libsignal::protocol::IdentityKeyPair;
use waproto::buffa::Message as _;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::signal::bundle::{Key, key_bytes, public_key};

const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];
const DEVICE_SIGNATURE: [u8; 2] = [6, 1];
const KEY_INDEX_LIST: [u8; 2] = [6, 2];

/// The phone's half of a companion's device identity, wrapped for `<pair-success>`.
pub(crate) fn introduce(
    account: &IdentityKeyPair,
    raw_id: u32,
    companion: &Key,
    key_index: u32,
    adv_secret: &[u8],
) -> Vec<u8> {
    let details = wa::ADVDeviceIdentity {
        raw_id: Some(raw_id),
        timestamp: Some(seconds()),
        key_index: Some(key_index),
        ..Default::default()
    }
    .encode_to_vec();
    let signature = sign(account, &[&ACCOUNT_SIGNATURE, &details, companion]);
    let signed = wa::ADVSignedDeviceIdentity {
        details: Some(details),
        account_signature_key: Some(key_bytes(account.public_key()).to_vec()),
        account_signature: Some(signature),
        device_signature: None,
    }
    .encode_to_vec();
    let mut mac =
        Hmac::<Sha256>::new_from_slice(adv_secret).expect("HMAC takes a key of any length");
    mac.update(&signed);
    wa::ADVSignedDeviceIdentityHMAC {
        hmac: Some(mac.finalize().into_bytes().to_vec()),
        details: Some(signed),
        ..Default::default()
    }
    .encode_to_vec()
}

/// Checks what `<pair-device-sign>` or `<device-identity>` carries: both signatures, by the
/// account's identity and by the companion's.
pub(crate) fn verify(identity: &[u8], account: &Key, companion: &Key) -> Result<(), &'static str> {
    let signed = wa::ADVSignedDeviceIdentity::decode_from_slice(identity)
        .map_err(|_| "the device identity is not a protobuf")?;
    let details = signed.details.as_deref().ok_or("the device identity has no details")?;
    // Clients may leave the account's key out when they talk to the account's own server.
    if signed.account_signature_key.as_deref().is_some_and(|key| !key.is_empty() && key != account)
    {
        return Err("the account key is not this account's");
    }
    let by_account = signed.account_signature.ok_or("the account signature is missing")?;
    let by_device = signed.device_signature.ok_or("the device signature is missing")?;
    let valid = |signer: &Key, parts: &[&[u8]], signature: &[u8]| {
        public_key(signer)
            .is_ok_and(|key| key.verify_signature_for_multipart_message(parts, signature))
    };
    if !valid(account, &[&ACCOUNT_SIGNATURE, details, companion], &by_account) {
        return Err("the account signature does not verify");
    }
    if !valid(companion, &[&DEVICE_SIGNATURE, details, companion, account], &by_device) {
        return Err("the device signature does not verify");
    }
    Ok(())
}

/// The signed list of an account's valid companions, the content of `<key-index-list>`.
pub(crate) fn key_index_list(
    account: &IdentityKeyPair,
    raw_id: u32,
    valid_indexes: Vec<u32>,
) -> Vec<u8> {
    let details = wa::ADVKeyIndexList {
        raw_id: Some(raw_id),
        timestamp: Some(seconds()),
        current_index: valid_indexes.iter().max().copied(),
        valid_indexes,
        ..Default::default()
    }
    .encode_to_vec();
    wa::ADVSignedKeyIndexList {
        account_signature: Some(sign(account, &[&KEY_INDEX_LIST, &details])),
        account_signature_key: Some(key_bytes(account.public_key()).to_vec()),
        details: Some(details),
    }
    .encode_to_vec()
}

fn sign(identity: &IdentityKeyPair, parts: &[&[u8]]) -> Vec<u8> {
    identity
        .private_key()
        .calculate_signature_for_multipart_message(parts, &mut rand::rng())
        .expect("a generated key signs anything")
        .to_vec()
}

fn seconds() -> u64 {
    u64::try_from(unix_seconds()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_that_did_not_sign_is_found_out() {
        let mut rng = rand::rng();
        let account = IdentityKeyPair::generate(&mut rng);
        let companion = IdentityKeyPair::generate(&mut rng);
        let (theirs, ours) = (key_bytes(companion.public_key()), key_bytes(account.public_key()));
        let container = introduce(&account, 1, &theirs, 1, b"secret");
        let container = wa::ADVSignedDeviceIdentityHMAC::decode_from_slice(&container).unwrap();
        let mut signed =
            wa::ADVSignedDeviceIdentity::decode_from_slice(&container.details.unwrap()).unwrap();
        let details = signed.details.clone().unwrap();
        signed.device_signature = Some(vec![1; 64]);
        assert_eq!(
            verify(&signed.encode_to_vec(), &ours, &theirs),
            Err("the device signature does not verify")
        );
        signed.device_signature =
            Some(sign(&companion, &[&DEVICE_SIGNATURE, &details, &theirs, &ours]));
        assert_eq!(verify(&signed.encode_to_vec(), &ours, &theirs), Ok(()));
        assert!(verify(&signed.encode_to_vec(), &theirs, &theirs).is_err());
    }
}
