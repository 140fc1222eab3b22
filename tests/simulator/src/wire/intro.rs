//! What a client says before Noise: an optional routing header, then `WA` and two version bytes.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio_websockets::WebSocketStream;
use wacore_binary::consts::WA_CONN_HEADER;

use super::WireError;

const ROUTING_MAGIC: &[u8] = b"ED\x00\x01";
/// Magic and a three-byte big-endian length.
const ROUTING_HEADER: usize = ROUTING_MAGIC.len() + 3;

/// The intro, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Intro {
    /// Routing information of an earlier `<edge_routing>`, if the client showed one.
    pub(crate) routing: Option<Vec<u8>>,
    /// Bytes after the intro: the beginning of the first frame.
    pub(crate) rest: BytesMut,
}

/// Reads the intro, which may be spread over several WebSocket messages.
pub(crate) async fn read<S>(stream: &mut S) -> Result<Intro, WireError>
where
    S: StreamExt<Item = Result<tokio_websockets::Message, tokio_websockets::Error>> + Unpin,
{
    let mut seen = BytesMut::new();
    loop {
        if let Some(intro) = parse(&mut seen)? {
            return Ok(intro);
        }
        match stream.next().await {
            Some(Ok(message)) if message.is_binary() => {
                seen.extend_from_slice(&Bytes::from(message.into_payload()));
            }
            Some(Ok(message)) if message.is_close() => return Err(WireError::Closed("the intro")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(WireError::Closed("the intro")),
        }
    }
}

fn parse(seen: &mut BytesMut) -> Result<Option<Intro>, WireError> {
    let mut at = 0;
    let mut routing = None;
    if seen.starts_with(&ROUTING_MAGIC[..2]) {
        let Some(length) = seen.get(ROUTING_MAGIC.len()..ROUTING_HEADER) else {
            return Ok(None);
        };
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        at = ROUTING_HEADER + length;
        let Some(info) = seen.get(ROUTING_HEADER..at) else { return Ok(None) };
        routing = Some(info.to_vec());
    }
    let Some(header) = seen.get(at..at + WA_CONN_HEADER.len()) else { return Ok(None) };
    if header != WA_CONN_HEADER {
        return Err(WireError::Intro(header.to_vec()));
    }
    let rest = seen.split_off(at + WA_CONN_HEADER.len());
    Ok(Some(Intro { routing, rest }))
}

/// The WebSocket of one client.
pub(crate) type Socket = WebSocketStream<tokio::net::TcpStream>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intro_may_come_with_and_without_a_route() {
        let mut plain = BytesMut::from(&b"WA\x06\x03rest"[..]);
        let intro = parse(&mut plain).unwrap().unwrap();
        assert_eq!((intro.routing, &intro.rest[..]), (None, &b"rest"[..]));

        let mut routed = BytesMut::from(&b"ED\x00\x01\x00\x00\x02xyWA\x06\x03"[..]);
        let intro = parse(&mut routed).unwrap().unwrap();
        assert_eq!((intro.routing.as_deref(), intro.rest.len()), (Some(&b"xy"[..]), 0));
    }

    #[test]
    fn a_partial_intro_waits_and_a_foreign_one_is_refused() {
        assert!(parse(&mut BytesMut::from(&b"ED\x00\x01\x00\x00\x05xy"[..])).unwrap().is_none());
        assert!(parse(&mut BytesMut::from(&b"WA"[..])).unwrap().is_none());
        assert!(parse(&mut BytesMut::from(&b"GET /"[..])).is_err());
    }
}
