//! Frames over a WebSocket: length-prefixed, and after the handshake encrypted.
//!
//! Reading and writing are two halves that never wait for each other, as the two tasks of a
//! connection must not: a client may stop reading while it still sends.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::ZlibEncoder};
use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use tokio_websockets::{CloseCode, Message};
use wacore_binary::{Node, OwnedNodeRef};
use wacore_noise::NoiseCipher;
use wacore_noise::framing::{FrameDecoder, encode_frame};

use super::WireError;
use super::intro::Socket;

/// Payload flag: the rest is deflated.
const FLAG_DEFLATED: u8 = 2;
/// Above this size a stanza is worth deflating, and the client's inflating gets exercised.
const DEFLATE_FROM: usize = 8 * 1024;

/// The receiving half.
pub(crate) struct FrameReader {
    stream: SplitStream<Socket>,
    decoder: FrameDecoder,
    cipher: Option<NoiseCipher>,
    counter: u32,
}

impl FrameReader {
    pub(crate) fn new(stream: SplitStream<Socket>) -> Self {
        Self { stream, decoder: FrameDecoder::new(), cipher: None, counter: 0 }
    }

    pub(crate) fn stream(&mut self) -> &mut SplitStream<Socket> {
        &mut self.stream
    }

    /// Puts bytes that arrived together with the intro in front.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    pub(crate) fn encrypt_with(&mut self, cipher: NoiseCipher) {
        self.cipher = Some(cipher);
    }

    /// The next frame as it came, or `None` when the client has closed.
    pub(crate) async fn next_raw(&mut self) -> Result<Option<BytesMut>, WireError> {
        loop {
            if let Some(frame) = self.decoder.decode_frame() {
                return Ok(Some(frame));
            }
            match self.stream.next().await {
                Some(Ok(message)) if message.is_binary() => {
                    self.decoder.feed(&Bytes::from(message.into_payload()));
                }
                Some(Ok(message)) if message.is_close() => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }

    /// The next stanza and its size on the wire.
    pub(crate) async fn next(&mut self) -> Result<Option<(Node, usize)>, WireError> {
        let Some(mut frame) = self.next_raw().await? else { return Ok(None) };
        let size = frame.len();
        if let Some(cipher) = &self.cipher {
            cipher
                .decrypt_in_place_with_counter(self.counter, &mut frame)
                .map_err(|error| WireError::Noise(error.to_string()))?;
            self.counter = self.counter.wrapping_add(1);
        }
        let plain = wacore_binary::util::unpack_bytes(frame)?;
        Ok(Some((OwnedNodeRef::new(plain)?.to_owned_node(), size)))
    }
}

/// The sending half.
pub(crate) struct FrameWriter {
    sink: SplitSink<Socket, Message>,
    cipher: Option<NoiseCipher>,
    counter: u32,
}

impl FrameWriter {
    pub(crate) fn new(sink: SplitSink<Socket, Message>) -> Self {
        Self { sink, cipher: None, counter: 0 }
    }

    pub(crate) fn encrypt_with(&mut self, cipher: NoiseCipher) {
        self.cipher = Some(cipher);
    }

    pub(crate) async fn send_raw(&mut self, frame: Vec<u8>) -> Result<(), WireError> {
        Ok(self.sink.send(Message::binary(Bytes::from(frame))).await?)
    }

    /// Queues a stanza for the next [`flush`](Self::flush); says its size on the wire.
    pub(crate) async fn feed(&mut self, node: &Node) -> Result<usize, WireError> {
        let mut payload = wacore_binary::marshal(node)?;
        if payload.len() >= DEFLATE_FROM {
            payload = deflate(&payload)?;
        }
        if let Some(cipher) = &self.cipher {
            payload = cipher
                .encrypt_with_counter(self.counter, &payload)
                .map_err(|error| WireError::Noise(error.to_string()))?;
            self.counter = self.counter.wrapping_add(1);
        }
        let size = payload.len();
        self.sink.feed(Message::binary(Bytes::from(frame(&payload)?))).await?;
        Ok(size)
    }

    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        Ok(self.sink.flush().await?)
    }

    /// Says goodbye. The connection is over when the client has answered that, which the reader sees.
    ///
    /// Not by closing the sink: that waits for the answer, and takes from the socket whatever comes
    /// before it. The reader would miss frames, and could read none that follow.
    pub(crate) async fn goodbye(&mut self) -> Result<(), WireError> {
        Ok(self.sink.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), "")).await?)
    }
}

/// Length prefix and payload.
pub(crate) fn frame(payload: &[u8]) -> Result<Vec<u8>, WireError> {
    encode_frame(payload, None).map_err(|error| WireError::Frame(error.to_string()))
}

/// Replaces the flag byte 0 of a marshalled stanza by 2 and deflates what follows.
fn deflate(marshalled: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut encoder = ZlibEncoder::new(vec![FLAG_DEFLATED], Compression::fast());
    encoder
        .write_all(&marshalled[1..])
        .and_then(|()| encoder.finish())
        .map_err(|error| WireError::Frame(error.to_string()))
}

#[cfg(test)]
mod tests {
    use wacore_binary::builder::NodeBuilder;

    use super::*;

    #[test]
    fn a_deflated_stanza_reads_back() {
        let node = NodeBuilder::new("iq").bytes(vec![7; 20_000]).build();
        let packed = deflate(&wacore_binary::marshal(&node).unwrap()).unwrap();
        assert!(packed.len() < 1000 && packed[0] == FLAG_DEFLATED);
        let plain = wacore_binary::util::unpack_bytes(BytesMut::from(&packed[..])).unwrap();
        assert_eq!(OwnedNodeRef::new(plain).unwrap().to_owned_node(), node);
    }
}
