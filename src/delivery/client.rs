//! The HTTP client: one for all endpoints, with limits, which calls no address that it must not.
//!
//! - The URL is judged before every request, as a literal address never comes to the resolver.
//! - The resolver answers only with addresses that may be called, and the connection goes to exactly
//!   those: there is no second look-up that could answer otherwise.
//! - Redirects are not followed, no proxy is asked, nothing is unpacked, no cookie is kept.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use crate::webhook::{AddressPolicy, TargetPolicy, target::Refusal};

/// Time to a connection, look-up included.
const CONNECT: Duration = Duration::from_secs(5);

/// For the look-up alone.
const LOOKUP: Duration = Duration::from_secs(4);

/// Connections to one host that are kept open for what comes next. Endpoints of many organizations can be
/// at one: a burst to them connects once, and not for each delivery.
const IDLE: usize = 128;

/// Looks a name up.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// As the machine looks names up: `/etc/hosts`, then DNS.
pub fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// The name leads only to addresses that must not be called.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the address must not be called")]
pub(super) struct Blocked;

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be looked up")]
pub(super) struct NotFound(#[source] io::Error);

/// Calls tenants' URLs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) http: reqwest::Client,
    policy: Arc<TargetPolicy>,
    guard: Guard,
}

impl Client {
    /// A client that calls what `policy` allows.
    ///
    /// # Errors
    ///
    /// When the machine's certificates cannot be read.
    pub fn new(policy: TargetPolicy, lookup: Lookup) -> Result<Self, reqwest::Error> {
        let guard = Guard { lookup, addresses: policy.addresses.clone() };
        let http = reqwest::Client::builder()
            .dns_resolver(guard.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            // Also in a build where something else would have answers unpacked.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .connect_timeout(CONNECT)
            // A policy that has changed is in force soon: nothing idles for long.
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE)
            .user_agent(concat!("wagate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, policy: Arc::new(policy), guard })
    }

    /// Reads a URL that may be called, as far as it says itself.
    pub fn parse(&self, text: &str) -> Result<Url, Refusal> {
        self.policy.parse(text)
    }

    /// The same, and looks its name up. One that leads nowhere at the moment is no mistake.
    pub async fn check(&self, text: &str) -> Result<Url, Refusal> {
        let url = self.parse(text)?;
        if let Some(Host::Domain(name)) = url.host()
            && let Err(Failure::Blocked) = self.guard.look(name).await
        {
            return Err(Refusal::Address);
        }
        Ok(url)
    }
}

/// Gives addresses to the connector: none but those that may be called.
#[derive(Clone)]
struct Guard {
    lookup: Lookup,
    addresses: AddressPolicy,
}

enum Failure {
    Blocked,
    NotFound(io::Error),
}

impl Guard {
    async fn look(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let look = tokio::time::timeout(LOOKUP, (self.lookup)(name.to_owned()));
        let found = match look.await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Ok(_)) => return Err(Failure::NotFound(io::ErrorKind::NotFound.into())),
            Ok(Err(error)) => return Err(Failure::NotFound(error)),
            Err(_) => return Err(Failure::NotFound(io::ErrorKind::TimedOut.into())),
        };
        let allowed: Vec<_> =
            found.into_iter().filter(|address| self.addresses.allows(*address)).collect();
        if allowed.is_empty() { Err(Failure::Blocked) } else { Ok(allowed) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            match guard.look(name.as_str()).await {
                Ok(allowed) => {
                    // Port 0: the URL's own.
                    let allowed = allowed.into_iter().map(|ip| SocketAddr::new(ip, 0));
                    Ok(Box::new(allowed) as Addrs)
                }
                Err(Failure::Blocked) => Err(Blocked.into()),
                Err(Failure::NotFound(error)) => Err(NotFound(error).into()),
            }
        })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
