//! Which addresses a tenant's URL may lead to: the public internet, and what the operator allows.
//!
//! Tenants choose URLs, and the daemon stands in the operator's network: without this, any of them could
//! have it call a metadata service, a database or the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 that is not the public internet (IANA's special-purpose registry), multicast and reserved.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

/// The part of IPv6 that is given out, and what in it is not the public internet.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Which addresses may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Allowed although they are not the public internet.
    pub allow: Vec<IpNet>,
    /// Refused whatever they are.
    pub deny: Vec<IpNet>,
}

impl AddressPolicy {
    /// Whether this address may be called.
    pub fn allows(&self, address: IpAddr) -> bool {
        // The same destination has several spellings; each must be judged.
        let inner = embedded(address);
        let spellings = [Some(address), inner];
        let among = |nets: &[IpNet]| {
            spellings.iter().flatten().any(|address| nets.iter().any(|net| net.contains(address)))
        };
        if among(&self.deny) {
            return false;
        }
        among(&self.allow) || is_public(inner.unwrap_or(address))
    }
}

/// The address that packets to this one end up at.
pub fn destination(address: IpAddr) -> IpAddr {
    embedded(address).unwrap_or(address)
}

/// The IPv4 address that packets to this IPv6 address end up at: mapped, NAT64, 6to4.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let segments = v6.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4
            .iter()
            .any(|(net, length)| Ipv4Net::new_assert(*net, *length).contains(&v4)),
        IpAddr::V6(v6) => {
            let within =
                |(net, length): (Ipv6Addr, u8)| Ipv6Net::new_assert(net, length).contains(&v6);
            within(PUBLIC_V6) && !NOT_PUBLIC_V6.into_iter().any(within)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_may_be_called() {
        let policy = AddressPolicy::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:800::200e",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(policy.allows(public.parse().unwrap()), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "100::1",
            "4000::1",
        ] {
            assert!(!policy.allows(inside.parse().unwrap()), "{inside}");
        }
    }

    #[test]
    fn the_operator_can_allow_some_and_deny_more() {
        let policy = AddressPolicy {
            allow: vec!["10.1.0.0/16".parse().unwrap()],
            deny: vec!["10.1.2.0/24".parse().unwrap(), "1.1.1.1/32".parse().unwrap()],
        };
        for (address, allowed) in [
            ("10.1.0.1", true),
            ("::ffff:10.1.0.1", true),
            ("10.1.2.1", false),
            ("::ffff:10.1.2.1", false),
            ("10.2.0.1", false),
            ("1.1.1.1", false),
            ("64:ff9b::101:101", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(policy.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
