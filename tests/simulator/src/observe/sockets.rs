//! The sockets that are open, and the most that ever were.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::address::DeviceKey;
use crate::{clock, locked};

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketState {
    /// Accepted; no handshake yet.
    Opening,
    /// The handshake is over, and nobody has logged in.
    Open,
    /// A device has logged in.
    LoggedIn,
    /// A fault has made the server deaf on it.
    Deaf,
}

/// An open socket of a client.
#[derive(Clone, Debug, Serialize)]
pub struct Socket {
    /// The connection's number, rising in the order they were accepted.
    pub id: u64,
    /// The client's end.
    pub peer: SocketAddr,
    /// How far it has come.
    pub state: SocketState,
    /// Who has logged in on it.
    pub device: Option<DeviceKey>,
    /// When it was accepted, in milliseconds since the epoch.
    pub since: u64,
}

/// All open sockets by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    sockets: BTreeMap<u64, (SocketAddr, u64)>,
    most: usize,
}

/// Takes a socket off the list when it is dropped.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Sockets>, u64);

impl Drop for Opened {
    fn drop(&mut self) {
        locked(&self.0.0).sockets.remove(&self.1);
    }
}

impl Sockets {
    pub(crate) fn open(self: &Arc<Self>, id: u64, peer: SocketAddr) -> Opened {
        let mut open = locked(&self.0);
        open.sockets.insert(id, (peer, clock::unix_millis()));
        open.most = open.most.max(open.sockets.len());
        Opened(Arc::clone(self), id)
    }

    /// How many are open now, and how many were at once.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let open = locked(&self.0);
        (open.sockets.len(), open.most)
    }

    /// Number, peer and time of each.
    pub(crate) fn list(&self) -> Vec<(u64, SocketAddr, u64)> {
        locked(&self.0).sockets.iter().map(|(id, (peer, since))| (*id, *peer, *since)).collect()
    }
}
