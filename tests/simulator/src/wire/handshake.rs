//! The responder's half of Noise, in the three patterns WhatsApp uses.
//!
//! The client speaks first. A hello with only an ephemeral key is XX; a hello that also carries
//! an encrypted static key and payload is IK, which we can answer only if it was made for our
//! present static key. If it was not, the server hello carries a static key of its own and the
//! client goes on as `XXfallback`: the same messages as XX, under another protocol name, with the
//! ephemeral key it has already sent.

use std::fmt;

use serde::Serialize;
use wacore_binary::consts::{
    NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER,
};
use wacore_libsignal::protocol::KeyPair;
use wacore_noise::{NoiseCipher, NoiseHandshake};
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp::{ClientPayload, HandshakeMessage, handshake_message as message};

use super::certificate::ServerKeys;
use super::frames::{FrameReader, FrameWriter};
use super::{WireError, frames};

/// Which Noise pattern a connection was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NoisePattern {
    /// First contact: the client knows nothing of the server.
    #[serde(rename = "XX")]
    Xx,
    /// The client had the server's key and sent its payload at once.
    #[serde(rename = "IK")]
    Ik,
    /// The client had an old key of the server.
    #[serde(rename = "XXfallback")]
    XxFallback,
}

impl fmt::Display for NoisePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xx => "XX",
            Self::Ik => "IK",
            Self::XxFallback => "XXfallback",
        })
    }
}

/// A finished handshake.
pub(crate) struct Established {
    pub(crate) pattern: NoisePattern,
    pub(crate) payload: ClientPayload,
    /// The key the client proved to hold: what a device is recognised by.
    pub(crate) client: [u8; 32],
    pub(crate) reading: NoiseCipher,
    pub(crate) writing: NoiseCipher,
}

/// Answers a client's hello and finishes the handshake.
pub(crate) async fn respond(
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    keys: &ServerKeys,
) -> Result<Established, WireError> {
    let frame = reader.next_raw().await?.ok_or(WireError::Closed("the hello"))?;
    let hello = decode(&frame)?.client_hello.into_option();
    let hello = hello.ok_or(WireError::Incomplete("client_hello"))?;
    let theirs = key(hello.ephemeral, "an ephemeral key")?;
    let ours = KeyPair::generate(&mut rand::rng());

    let (Some(sealed_static), Some(sealed_payload)) = (hello.r#static, hello.payload) else {
        return full(NoisePattern::Xx, reader, writer, keys, &ours, &theirs).await;
    };
    match resume(keys, &ours, &theirs, &sealed_static, &sealed_payload) {
        Ok((established, answer)) => {
            writer.send_raw(frames::frame(&answer)?).await?;
            Ok(established)
        }
        // It was made for another static key: ours has changed since the client cached it.
        Err(WireError::Noise(_)) => {
            full(NoisePattern::XxFallback, reader, writer, keys, &ours, &theirs).await
        }
        Err(other) => Err(other),
    }
}

/// XX and `XXfallback`: `<- e, ee, s, es` and then `-> s, se`.
async fn full(
    pattern: NoisePattern,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
    keys: &ServerKeys,
    ours: &KeyPair,
    theirs: &[u8; 32],
) -> Result<Established, WireError> {
    let name = match pattern {
        NoisePattern::XxFallback => NOISE_PATTERN_XXFALLBACK,
        NoisePattern::Xx | NoisePattern::Ik => NOISE_PATTERN_XX,
    };
    let mut noise = NoiseHandshake::new(name, &WA_CONN_HEADER).map_err(noise_error)?;
    noise.authenticate(theirs);
    noise.authenticate(ours.public_key.public_key_bytes());
    noise.mix_shared_secret(ours.private_key.serialize(), theirs).map_err(noise_error)?;
    let sealed_static = noise.encrypt(keys.public()).map_err(noise_error)?;
    noise.mix_shared_secret(keys.private(), theirs).map_err(noise_error)?;
    let sealed_chain = noise.encrypt(keys.chain()).map_err(noise_error)?;
    let answer = server_hello(ours, Some(sealed_static), sealed_chain);
    writer.send_raw(frames::frame(&answer)?).await?;

    let frame = reader.next_raw().await?.ok_or(WireError::Closed("the finish"))?;
    let finish = decode(&frame)?.client_finish.into_option();
    let finish = finish.ok_or(WireError::Incomplete("client_finish"))?;
    let sealed = finish.r#static.ok_or(WireError::Incomplete("a static key"))?;
    let client = key(noise.decrypt(&sealed).ok(), "a static key")?;
    noise.mix_shared_secret(ours.private_key.serialize(), &client).map_err(noise_error)?;
    let sealed = finish.payload.ok_or(WireError::Incomplete("a payload"))?;
    let payload = noise.decrypt(&sealed).map_err(noise_error)?;
    establish(pattern, noise, &payload, client)
}

/// IK: everything the client has to say is in its hello, `-> e, es, s, ss` and `<- e, ee, se`.
fn resume(
    keys: &ServerKeys,
    ours: &KeyPair,
    theirs: &[u8; 32],
    sealed_static: &[u8],
    sealed_payload: &[u8],
) -> Result<(Established, Vec<u8>), WireError> {
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER).map_err(noise_error)?;
    noise.authenticate(keys.public());
    noise.authenticate(theirs);
    noise.mix_shared_secret(keys.private(), theirs).map_err(noise_error)?;
    let client = key(Some(noise.decrypt(sealed_static).map_err(noise_error)?), "a static key")?;
    noise.mix_shared_secret(keys.private(), &client).map_err(noise_error)?;
    let payload = noise.decrypt(sealed_payload).map_err(noise_error)?;

    noise.authenticate(ours.public_key.public_key_bytes());
    noise.mix_shared_secret(ours.private_key.serialize(), theirs).map_err(noise_error)?;
    noise.mix_shared_secret(ours.private_key.serialize(), &client).map_err(noise_error)?;
    let sealed_chain = noise.encrypt(keys.chain()).map_err(noise_error)?;
    let answer = server_hello(ours, None, sealed_chain);
    Ok((establish(NoisePattern::Ik, noise, &payload, client)?, answer))
}

fn establish(
    pattern: NoisePattern,
    noise: NoiseHandshake,
    payload: &[u8],
    client: [u8; 32],
) -> Result<Established, WireError> {
    // The first cipher is the initiator's: what the client writes with, we read with.
    let (reading, writing) = noise.finish().map_err(noise_error)?;
    let payload = ClientPayload::decode_from_slice(payload)
        .map_err(|error| WireError::Protobuf(error.to_string()))?;
    Ok(Established { pattern, payload, client, reading, writing })
}

fn server_hello(ours: &KeyPair, r#static: Option<Vec<u8>>, payload: Vec<u8>) -> Vec<u8> {
    waproto::codec::handshake_message_to_vec(&HandshakeMessage {
        server_hello: MessageField::some(message::ServerHello {
            ephemeral: Some(ours.public_key.public_key_bytes().to_vec()),
            r#static,
            payload: Some(payload),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn decode(frame: &[u8]) -> Result<HandshakeMessage, WireError> {
    waproto::codec::handshake_message_decode(frame)
        .map_err(|error| WireError::Protobuf(error.to_string()))
}

fn key(bytes: Option<Vec<u8>>, what: &'static str) -> Result<[u8; 32], WireError> {
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(WireError::Incomplete(what))
}

fn noise_error(error: impl fmt::Display) -> WireError {
    WireError::Noise(error.to_string())
}
