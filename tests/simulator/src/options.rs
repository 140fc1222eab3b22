//! How a simulator is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::people::ReceiptPolicy;

/// Options of a simulator; the defaults suit tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Time between the end of a pairing and the `515` that makes the client log in.
    ///
    /// The real server takes its time as well. Clients exist that get confused when it does not:
    /// whatsapp-rust 0.7 marks the disconnect as expected only after it has sent its answer.
    pub restart_delay: Duration,
    /// How long the waiting calls wait.
    pub deadline: Duration,
    /// Pairing references given to an unpaired client at once, each good for one QR code.
    pub pairing_refs: usize,
    /// How long a second connection of a device waits for the first one's socket to end before
    /// the first is replaced and the double login recorded as a violation.
    pub replace_grace: Duration,
    /// Messages and receipts remembered per account or contact.
    pub memory: usize,
    /// Whether clients are told a route and must show it when they come back.
    pub edge_routing: bool,
    /// What contacts do with a message unless told otherwise.
    pub receipts: ReceiptPolicy,
    /// Whether pairing tells the client that chats are kept under LIDs.
    pub lid_migrated: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            restart_delay: Duration::from_millis(100),
            deadline: Duration::from_secs(30),
            pairing_refs: 6,
            replace_grace: Duration::from_secs(1),
            memory: 100_000,
            edge_routing: true,
            receipts: ReceiptPolicy::Delivered,
            lid_migrated: false,
        }
    }
}
