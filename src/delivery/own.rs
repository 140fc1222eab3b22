//! Where this daemon itself listens: no tenant's URL may lead there, whatever else of the machine may be called.

use std::{
    collections::BTreeSet,
    io::ErrorKind::AddrNotAvailable,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use crate::webhook::destination;

/// The sockets that this daemon answers on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own(Vec<SocketAddr>);

impl Own {
    /// These, as they were bound.
    pub fn new(sockets: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(sockets.into_iter().collect())
    }

    pub(super) fn ports(&self) -> BTreeSet<u16> {
        self.0.iter().map(SocketAddr::port).collect()
    }

    /// Whether who connects there comes to one of them.
    pub(super) fn answers_at(&self, address: IpAddr, port: u16) -> bool {
        // No address at all is what a machine calls itself.
        let address = match destination(address) {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        self.0.iter().filter(|own| own.port() == port).any(|own| match destination(own.ip()) {
            IpAddr::V4(v4) if v4.is_unspecified() => {
                address.is_ipv4() && is_of_this_machine(address)
            }
            // It takes IPv4, too, unless somebody has told the system otherwise.
            IpAddr::V6(v6) if v6.is_unspecified() => is_of_this_machine(address),
            own => own == address,
        })
    }
}

/// Addresses of documentation, which are no machine's.
const NOBODYS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Asked each time, as addresses come and go: a machine lets nobody have a socket at another's. Unless it was told to
/// (`ip_nonlocal_bind`): then it is asked from where it would call.
fn is_of_this_machine(address: IpAddr) -> bool {
    let (nobodys, any): (IpAddr, IpAddr) = if address.is_ipv4() {
        (NOBODYS.0.into(), Ipv4Addr::UNSPECIFIED.into())
    } else {
        (NOBODYS.1.into(), Ipv6Addr::UNSPECIFIED.into())
    };
    address.is_loopback() || (is_bound(address) && (!is_bound(nobodys) || calls_from(any, address)))
}

fn is_bound(address: IpAddr) -> bool {
    // Anything else that is wrong says nothing of whose the address is.
    UdpSocket::bind((address, 0)).err().is_none_or(|error| error.kind() != AddrNotAvailable)
}

/// Whether the machine would call this address from the address itself. Nothing is sent.
fn calls_from(any: IpAddr, address: IpAddr) -> bool {
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(own: &str, at: &str) -> bool {
        let at: SocketAddr = at.parse().unwrap();
        Own::new([own.parse().unwrap()]).answers_at(at.ip(), at.port())
    }

    #[test]
    fn a_socket_is_known_by_address_and_port_in_every_spelling() {
        for (own, at, is_own) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8080", "[64:ff9b::127.0.0.1]:8080", true),
            ("127.0.0.1:8080", "0.0.0.0:8080", true),
            ("[::1]:8080", "[::]:8080", true),
            ("0.0.0.0:8080", "127.7.7.7:8080", true),
            ("[::]:8080", "127.7.7.7:8080", true),
            ("[::]:8080", "[::1]:8080", true),
            // Who else listens on this machine may be called.
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1:8080", "127.0.0.2:8080", false),
            ("127.0.0.1:8080", "[::1]:8080", false),
            ("0.0.0.0:8080", "[::1]:8080", false),
            ("0.0.0.0:8080", "127.0.0.1:8081", false),
            // And who listens on others.
            ("0.0.0.0:8080", "192.0.2.1:8080", false),
            ("[::]:8080", "[2001:db8::1]:8080", false),
        ] {
            assert_eq!(answers(own, at), is_own, "{own} {at}");
        }
    }
}
