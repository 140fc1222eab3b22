//! The wire, bottom-up: certificate, intro, Noise handshake, frames, stanzas.
//!
//! Nothing in here knows accounts or messages. A connection goes through [`intro`] (what the
//! client says before Noise), [`handshake`] (XX, IK or `XXfallback`, answered as the responder),
//! and then [`frames`] turns ciphertext into [`stanza`] trees and back.

pub(crate) mod certificate;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod intro;
pub(crate) mod stanza;

use thiserror::Error;

/// Why a connection could not be understood.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("websocket")]
    WebSocket(#[from] tokio_websockets::Error),
    #[error("connection closed during {0}")]
    Closed(&'static str),
    #[error("the intro is not WhatsApp's: {0:02x?}")]
    Intro(Vec<u8>),
    #[error("noise: {0}")]
    Noise(String),
    #[error("handshake message lacks {0}")]
    Incomplete(&'static str),
    #[error("protobuf: {0}")]
    Protobuf(String),
    #[error("binary XML: {0}")]
    Xml(#[from] wacore_binary::BinaryError),
    #[error("frame: {0}")]
    Frame(String),
}
