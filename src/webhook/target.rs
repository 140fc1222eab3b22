//! Which URLs may be called, as far as the text says.
//!
//! `url` reads an address as browsers do, so `http://0x7f.1` and `http://2130706433` are 127.0.0.1 here as
//! they are for whoever connects. Names are looked up when they are called, and then every address is
//! judged again: see `crate::delivery`.

use std::net::IpAddr;

use url::{Host, Url};

use super::AddressPolicy;

/// The longest URL.
const LONGEST: usize = 2048;

/// Names that lead into the operator's own network wherever they are looked up.
const INSIDE: [&str; 5] = ["localhost", "local", "internal", "localdomain", "home.arpa"];

/// What may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPolicy {
    pub addresses: AddressPolicy,
    pub require_https: bool,
    /// Ports; empty for any.
    pub ports: Vec<u16>,
}

impl Default for TargetPolicy {
    fn default() -> Self {
        Self {
            addresses: AddressPolicy::default(),
            require_https: true,
            ports: vec![443, 80, 8443, 8080],
        }
    }
}

/// Why a URL is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("must be an absolute URL")]
    Malformed,
    #[error("must be no longer than 2048 characters")]
    TooLong,
    #[error("must begin with `https://`")]
    NotHttps,
    #[error("must begin with `https://` or `http://`")]
    Scheme,
    #[error("must not contain a user name or password: use a header")]
    Credentials,
    #[error("must not contain a fragment")]
    Fragment,
    #[error("must use a port that the operator allows (443, 80, 8443, 8080 by default)")]
    Port,
    #[error("must lead to a public address, or one that the operator allows")]
    Address,
    #[error("must not lead to this gateway itself")]
    Own,
}

impl TargetPolicy {
    /// Reads a URL that may be called.
    pub fn parse(&self, text: &str) -> Result<Url, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::TooLong);
        }
        let url = Url::parse(text).map_err(|_| Refusal::Malformed)?;
        self.check(&url)?;
        Ok(url)
    }

    /// Whether a URL may be called, as far as it says itself.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        match url.scheme() {
            "http" if self.require_https => return Err(Refusal::NotHttps),
            "https" | "http" => {}
            _ => return Err(Refusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        if url.fragment().is_some() {
            return Err(Refusal::Fragment);
        }
        let port = url.port_or_known_default().ok_or(Refusal::Port)?;
        if port == 0 || (!self.ports.is_empty() && !self.ports.contains(&port)) {
            return Err(Refusal::Port);
        }
        let allowed = match url.host().ok_or(Refusal::Malformed)? {
            Host::Ipv4(address) => self.addresses.allows(IpAddr::V4(address)),
            Host::Ipv6(address) => self.addresses.allows(IpAddr::V6(address)),
            // Unless the operator has let inside addresses in, the name alone gives it away.
            Host::Domain(name) => !self.addresses.allow.is_empty() || !is_inside(name),
        };
        if allowed { Ok(()) } else { Err(Refusal::Address) }
    }
}

fn is_inside(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    INSIDE.iter().any(|inside| {
        name.strip_suffix(inside).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to write 127.0.0.1, 169.254.169.254 and their like that parsers are known to take.
    #[test]
    fn no_spelling_of_an_inside_address_gets_by() {
        let policy = TargetPolicy { require_https: false, ports: Vec::new(), ..Default::default() };
        for spelling in [
            "http://127.0.0.1/",
            "http://127.0.0.1./",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0x7f.0x0.0x0.0x1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0177.1/",
            "http://127.0.0.0x1/",
            "http://127.0.0.01/",
            "http://00000177.0.0.1/",
            "http://0/",
            "http://0.0.0.0/",
            "http://0x0/",
            "http://127.255.255.254/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://①②⑦.⓪.⓪.①/",
            "http://[::1]/",
            "http://[::]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001::1]/",
            "http://[fe80::1]/",
            "http://[fc00::1]/",
            "http://[fd00:ec2::254]/",
            "http://[ff02::1]/",
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://10.0.0.1/",
            "http://167772161/",
            "http://10.1/",
            "http://192.168.1.1/",
            "http://192.168.257/",
            "http://3232235777/",
            "http://172.16.0.1/",
            "http://100.64.0.1/",
            "http://localhost/",
            "http://LOCALHOST/",
            "http://localhost./",
            "http://a.localhost/",
            "http://printer.local/",
            "http://metadata.google.internal/",
            "http://nas.home.arpa/",
            "http://ⓛocalhost/",
            "HTTP://127.0.0.1/",
            "http:127.0.0.1",
            "http:/127.0.0.1",
            "http:\\\\127.0.0.1\\",
            " http://127.0.0.1/",
            "http://127.0.0.1\t/",
            "http://12\n7.0.0.1/",
            "http://user@127.0.0.1/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1#@example.com",
            "http://127.0.0.1:80\\@example.com/",
            "http://localhost:65535/",
            "http://255.255.255.255/",
            "http://224.0.0.1/",
            "http://198.18.0.1/",
        ] {
            assert!(policy.parse(spelling).is_err(), "{spelling}");
        }
        for good in
            ["http://example.com/", "http://1.1.1.1/", "https://[2606:4700:4700::1111]/x?y=z"]
        {
            assert!(policy.parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let policy = TargetPolicy::default();
        for (text, refusal) in [
            ("", Refusal::Malformed),
            ("/relative", Refusal::Malformed),
            ("https://", Refusal::Malformed),
            ("http://example.com/", Refusal::NotHttps),
            ("ftp://example.com/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::Scheme),
            ("gopher://example.com/", Refusal::Scheme),
            ("https://a:b@example.com/", Refusal::Credentials),
            ("https://example.com/#x", Refusal::Fragment),
            ("https://example.com:22/", Refusal::Port),
            ("https://example.com:0/", Refusal::Port),
            ("https://127.0.0.1/", Refusal::Address),
            (&format!("https://example.com/{}", "x".repeat(2048)), Refusal::TooLong),
        ] {
            assert_eq!(policy.parse(text).unwrap_err(), refusal, "{text}");
        }
    }
}
