//! `[http]`: where and how requests are answered.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Listed,
    rule::{Rule, Ruled},
    shape,
};

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on. Port 0 takes a free one. Without a certificate there is no TLS
    /// here: put a proxy in front before listening on anything but the machine itself.
    #[schemars(with = "shape::Address")]
    pub listen: SocketAddr,
    /// Another address, for the machine's own watchers: `/livez`, `/readyz` and `/metrics`, without a
    /// token and without TLS. Only they should reach it.
    #[schemars(with = "shape::Address")]
    pub admin_listen: Option<SocketAddr>,
    /// A file with the certificate chain, in PEM, its own certificate first. It is read again when it
    /// changes, and at SIGHUP.
    #[schemars(with = "shape::File")]
    pub tls_certificate: Option<PathBuf>,
    /// The file with the private key of `tls_certificate`, in PEM.
    #[schemars(with = "shape::File")]
    pub tls_key: Option<PathBuf>,
    /// Proxies in front of the daemon, as networks: what they say of whom they pass on is believed.
    pub trusted_proxies: Listed<IpNet>,
    /// Where the proxies of `trusted_proxies` say whom they pass on. Only one of the two is read: a proxy that
    /// writes the one passes the other on as its client wrote it.
    pub forwarded_header: ForwardedHeader,
    /// Origins whose pages may call the API from a browser, or `*`.
    pub cors_origins: Listed<Origin>,
    /// The longest request body that is read; a longer one is answered with 413. Of what Meta posts it is 4 MiB, whatever is
    /// said here: Meta says that it posts 3 MB at most.
    #[schemars(with = "shape::Size")]
    pub max_body: ByteSize,
    /// How long one request may take to be answered. Streams and long polls have their own limits.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub request_timeout: Duration,
    /// How long requests in progress may go on after the daemon was asked to stop. Streams are
    /// closed at once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "shape::Time")]
    pub shutdown_grace: Duration,
    /// Answer `/metrics` without a token. Otherwise it takes an operator's.
    pub open_metrics: bool,
}

/// Where proxies write whom they pass on. One of the two: a proxy that writes the one passes the other
/// on as its client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// The header most proxies write.
    XForwardedFor,
    /// That of RFC 7239.
    Forwarded,
}

/// An origin as browsers write it, `https://app.example.com`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// None for all.
    pub fn named(&self) -> Option<&str> {
        (self.0 != "*").then_some(&self.0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin, as in https://app.example.com, or *")]
pub struct ParseOriginError;

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        let url = Url::parse(text).ok();
        // As it is written without a path, or browsers would never say it.
        let is_origin = url.is_some_and(|url| url.origin().ascii_serialization() == text);
        if text == "*" || is_origin { Ok(Self(text.to_owned())) } else { Err(ParseOriginError) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: None,
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Listed(Vec::new()),
            forwarded_header: ForwardedHeader::XForwardedFor,
            cors_origins: Listed(Vec::new()),
            max_body: ByteSize::mib(1),
            request_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(10),
            open_metrics: false,
        }
    }
}

impl Http {
    /// [`Self::max_body`] as the number HTTP counts in.
    pub fn max_body_bytes(&self) -> usize {
        usize::try_from(self.max_body.as_u64()).unwrap_or(usize::MAX)
    }
}

impl Ruled for Http {
    const RULES: &'static [Rule<Self>] = &[
        Rule {
            key: "http.max_body",
            must: "must be at least 1KiB",
            holds: |it| it.max_body >= ByteSize::kib(1),
        },
        Rule {
            key: "http.request_timeout",
            must: "must be longer than nothing",
            holds: |it| !it.request_timeout.is_zero(),
        },
        Rule {
            key: "http.admin_listen",
            must: "must be another address than http.listen",
            holds: |it| it.listen.port() == 0 || it.admin_listen != Some(it.listen),
        },
        Rule {
            key: "http.tls_key",
            must: "a certificate and its key go together",
            holds: |it| it.tls_certificate.is_none() || it.tls_key.is_some(),
        },
        Rule {
            key: "http.tls_certificate",
            must: "a certificate and its key go together",
            holds: |it| it.tls_key.is_none() || it.tls_certificate.is_some(),
        },
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path_and_a_list_of_them_stands_in_one_text() {
        for good in ["*", "https://app.example.com", "http://localhost:3000", "http://[::1]:81"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        // Browsers leave the usual port out.
        assert!("https://app.example.com:443".parse::<Origin>().is_err());
        for wrong in ["", "app.example.com", "https://app.example.com/", "data:x", "null"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_listeners_need_two_addresses() {
        let listen = |listen: &str, admin: &str| Http {
            listen: listen.parse().unwrap(),
            admin_listen: Some(admin.parse().unwrap()),
            ..Http::default()
        };
        let wrong = listen("127.0.0.1:80", "127.0.0.1:80").check().unwrap_err();
        assert_eq!(wrong.key, "http.admin_listen");
        for (one, other) in [("127.0.0.1:80", "127.0.0.1:81"), ("127.0.0.1:0", "127.0.0.1:0")] {
            assert_eq!(listen(one, other).check(), Ok(()));
        }
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let http = Http { tls_certificate: Some("/cert.pem".into()), ..Http::default() };
        assert_eq!(http.check().unwrap_err().key, "http.tls_key");
    }
}
