//! A client that is made of frames, to say what no real one would.

use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::consts::WA_CONN_HEADER;
use wacore_noise::NoiseCipher;
use wacore_noise::framing::{FrameDecoder, encode_frame};
use whatsapp_rust::async_channel::Receiver;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::wacore::handshake::XxHandshakeState;
use whatsapp_rust::wacore::net::{Transport, TransportEvent, TransportFactory as _};
use whatsapp_rust::wacore::store::InMemoryBackend;
use whatsapp_rust::wacore::store::traits::DeviceStore as _;

/// How many messages of the server the transport takes from the socket while nobody asks for them.
const READ_AHEAD: usize = 64;

pub(crate) struct Raw {
    transport: Arc<dyn Transport>,
    cipher: NoiseCipher,
    counter: u32,
    /// Never read from: the server's goodbye is not seen when enough comes before it.
    _events: Receiver<TransportEvent>,
}

impl Raw {
    /// So many requests have so many answers that the transport reads none of what follows them.
    pub(crate) const ENOUGH: usize = 2 * READ_AHEAD;

    /// Logs in as the device in this store.
    pub(crate) async fn log_in(url: &str, store: &InMemoryBackend) -> Self {
        let device = store.load().await.unwrap().unwrap();
        let dialler = TokioWebSocketTransportFactory::new().with_url(url);
        let (transport, events) = dialler.create_transport().await.unwrap();
        let payload = waproto::codec::client_payload_to_vec(&device.get_client_payload());
        let mut noise =
            XxHandshakeState::new(device.noise_key.clone(), payload, &WA_CONN_HEADER).unwrap();
        let hello = noise.build_client_hello().unwrap();
        let hello = encode_frame(&hello, Some(&WA_CONN_HEADER)).unwrap();
        transport.send(hello.into()).await.unwrap();
        let answer = next_frame(&events).await;
        let finish = noise.read_server_hello_and_build_client_finish(&answer).unwrap();
        transport.send(encode_frame(&finish, None).unwrap().into()).await.unwrap();
        let cipher = noise.finish().unwrap().write_cipher;
        Self { transport, cipher, counter: 0, _events: events }
    }

    /// The next frame: a request that is answered and has no other consequences.
    pub(crate) fn request(&mut self) -> Vec<u8> {
        let request = NodeBuilder::new("iq")
            .attr("id", self.counter)
            .attr("type", "get")
            .attr("xmlns", "w:p")
            .attr("to", "s.whatsapp.net")
            .build();
        let plain = wacore_binary::marshal(&request).unwrap();
        let sealed = self.cipher.encrypt_with_counter(self.counter, &plain).unwrap();
        self.counter += 1;
        encode_frame(&sealed, None).unwrap()
    }

    pub(crate) async fn send(&self, frame: Vec<u8>) {
        self.transport.send(frame.into()).await.unwrap();
    }

    pub(crate) async fn send_requests(&mut self, count: usize) {
        for _ in 0..count {
            let request = self.request();
            self.send(request).await;
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        self.transport.disconnect().await;
    }
}

async fn next_frame(events: &Receiver<TransportEvent>) -> Vec<u8> {
    let mut decoder = FrameDecoder::new();
    loop {
        match events.recv().await.unwrap() {
            TransportEvent::DataReceived(data) => decoder.feed(&data),
            TransportEvent::Connected => {}
            other @ TransportEvent::Disconnected(_) => panic!("{other:?}"),
        }
        if let Some(frame) = decoder.decode_frame() {
            return frame.to_vec();
        }
    }
}
