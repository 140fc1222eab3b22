//! Refusals before a client is let in: of its connection, of the upgrade, of its login.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::{Hub, Link};
use crate::address::DeviceKey;
use crate::fault::Fault;

/// No request for an upgrade is longer.
const LONGEST_REQUEST: usize = 16 * 1024;

/// `<failure reason>` of somebody who is banned for a time.
const BANNED: u16 = 402;

impl Hub {
    /// What a new connection gets instead of an upgrade, if it gets none.
    pub(crate) async fn refuse_connection(&self, stream: TcpStream) -> Option<TcpStream> {
        let refusal = self.faults.strike(None, |fault| {
            matches!(fault, Fault::Outage | Fault::RefuseUpgrade { .. } | Fault::SilentHandshake)
        });
        match refusal {
            None => return Some(stream),
            Some(Fault::RefuseUpgrade { status, retry_after }) => {
                refuse_upgrade(stream, status, retry_after).await;
            }
            // The socket stays open and unanswered until the client or the simulator gives up.
            Some(Fault::SilentHandshake) => wait_for_end(stream).await,
            // A reset rather than a goodbye, as from a port nobody listens on.
            Some(_) => {
                stream.set_zero_linger().ok();
            }
        }
        None
    }

    /// Whether the login of a device, or of a client that has none yet, was refused.
    pub(crate) fn refuse_login(&self, link: &Link, device: Option<&DeviceKey>) -> bool {
        let refusal = self.faults.strike(device, |fault| {
            // A client without a device has got past its outage already.
            fault.is_refusal() && (device.is_some() || *fault != Fault::Outage)
        });
        match refusal {
            Some(Fault::Failure { reason }) => link.finish(failure(reason)),
            Some(Fault::Ban { code, expire }) => link.finish(ban(code, expire)),
            Some(_) => link.cut(),
            None => return false,
        }
        true
    }
}

/// `<failure>`: the login is refused.
pub(crate) fn failure(reason: u16) -> Node {
    NodeBuilder::new("failure").attr("reason", reason).attr("location", "sim").build()
}

/// `<failure>` with what a client tells its user of a ban.
fn ban(code: u16, expire: u64) -> Node {
    NodeBuilder::new("failure")
        .attr("reason", BANNED)
        .attr("location", "sim")
        .attr("code", code)
        .attr("expire", expire)
        .attr("message", "temporarily banned")
        .attr("url", "https://faq.whatsapp.com/465883178708358")
        .build()
}

async fn refuse_upgrade(mut stream: TcpStream, status: u16, retry_after: Option<u32>) {
    let mut request = Vec::new();
    // Read to its end first: closing with something unread is a reset, and the answer lost.
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > LONGEST_REQUEST {
            return;
        }
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
    let retry = retry_after.map(|it| format!("Retry-After: {it}\r\n")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {status} {}\r\n{retry}Content-Length: 0\r\nConnection: close\r\n\r\n",
        axum::http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused"),
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        stream.shutdown().await.ok();
        wait_for_end(stream).await;
    }
}

async fn wait_for_end(mut stream: TcpStream) {
    let mut nothing = [0; 1024];
    while stream.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}
