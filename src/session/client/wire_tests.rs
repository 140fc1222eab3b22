use tokio::io::{AsyncReadExt as _, duplex};
use tokio_websockets::WebSocketStream;
use wacore::net::TransportEvent;
use whatsapp_rust::transport::from_websocket;

use super::*;

#[tokio::test]
async fn a_peer_that_reads_nothing_ends_the_connection_instead_of_holding_it_up() {
    // Never read: the pipe is full after sixteen bytes.
    let (ours, _theirs) = duplex(16);
    let wire = Wire::default();
    let socket: WebSocketStream<_> =
        tokio_websockets::ClientBuilder::new().take_over(wire.carry(ours));
    let (inner, events) = from_websocket(socket);
    let mut transport = Watched::new(inner, wire.clone(), Progress::default(), Barrier::default());
    transport.send_deadline = Duration::from_millis(20);
    transport.goodbye_deadline = Duration::from_millis(20);

    let stuck = transport.send(Bytes::from(vec![7; 4096])).await;
    assert!(stuck.unwrap_err().to_string().contains("takes nothing"));
    assert!(transport.send(Bytes::from_static(b"next")).await.is_err(), "it stays broken");
    transport.disconnect().await;
    let told = |event: &TransportEvent| matches!(event, TransportEvent::Disconnected(_));
    while !told(&events.recv().await.expect("the reader is told")) {}
}

#[tokio::test]
async fn a_goodbye_that_cannot_be_said_is_not_waited_for() {
    let (ours, _theirs) = duplex(16);
    let wire = Wire::default();
    let socket: WebSocketStream<_> =
        tokio_websockets::ClientBuilder::new().take_over(wire.carry(ours));
    let (inner, _events) = from_websocket(socket);
    let mut transport = Watched::new(inner, wire.clone(), Progress::default(), Barrier::default());
    transport.goodbye_deadline = Duration::from_millis(20);
    // Holds the library's lock on the socket.
    let transport = Arc::new(transport);
    let writing = transport.send(Bytes::from(vec![7; 4096]));
    tokio::select! {
        biased;
        _ = writing => panic!("nobody reads"),
        () = transport.disconnect() => {}
    }
    assert!(wire.0.cut.is_cancelled());
}

#[tokio::test]
async fn what_is_received_is_counted_and_the_answer_to_the_upgrade_kept() {
    let wire = Wire::default();
    let mut stream = wire.carry(&b"HTTP/1.1 503 No\r\n\r\n"[..]);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(wire.head(), all);
    assert_eq!(wire.received(), all.len() as u64);
    wire.opened();
    assert_eq!((wire.received(), wire.head()), (0, Vec::new()));
    wire.cut();
    assert!(stream.read_u8().await.is_err());
}
