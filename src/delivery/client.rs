//! The HTTP client: one for all endpoints, with limits, which calls no address that it must not.
//!
//! - The URL is judged before every request, as a literal address never comes to the resolver.
//! - The resolver answers only with addresses that may be called, and the connection goes to exactly
//!   those: there is no second look-up that could answer otherwise.
//! - Where this daemon listens itself is called by nobody's wish. A resolver is not told the port, so each port
//!   of ours has a client of its own, whose resolver knows it.
//! - Redirects are not followed, no proxy is asked, nothing is unpacked, no cookie is kept.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::{
    RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use super::own::Own;
use crate::webhook::{AddressPolicy, TargetPolicy, target::Refusal};

/// Time to a connection, look-up included.
const CONNECT: Duration = Duration::from_secs(5);

/// For the look-up alone.
const LOOKUP: Duration = Duration::from_secs(4);

/// Connections to one host that are kept open for what comes next. Endpoints of many organizations can be
/// at one: a burst to them connects once, and not for each delivery.
const IDLE: usize = 128;

/// Names whose addresses are remembered. When there are more, all are looked up anew.
const NAMES: usize = 4096;

/// Addresses of one name that are remembered.
const ADDRESSES: usize = 4;

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
    policy: Arc<TargetPolicy>,
    own: Own,
    usual: Route,
    /// For the ports that we listen on.
    own_ports: Arc<BTreeMap<u16, Route>>,
}

/// A way to what may be called.
#[derive(Clone, Debug)]
struct Route {
    http: reqwest::Client,
    guard: Guard,
}

impl Route {
    fn new(guard: Guard) -> Result<Self, reqwest::Error> {
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
        Ok(Self { http, guard })
    }
}

impl Client {
    /// A client that calls what `policy` allows, and never one of our `own` sockets.
    ///
    /// # Errors
    ///
    /// When the machine's certificates cannot be read.
    pub fn new(policy: TargetPolicy, own: Own, lookup: &Lookup) -> Result<Self, reqwest::Error> {
        let guard = |own| Guard {
            lookup: lookup.clone(),
            addresses: policy.addresses.clone(),
            own,
            found: Arc::default(),
        };
        let usual = Route::new(guard(None))?;
        let routes = own
            .ports()
            .into_iter()
            .map(|port| Ok((port, Route::new(guard(Some((own.clone(), port))))?)));
        let own_ports = Arc::new(routes.collect::<Result<_, reqwest::Error>>()?);
        Ok(Self { policy: Arc::new(policy), own, usual, own_ports })
    }

    /// Reads a URL that may be called, as far as it says itself.
    pub fn parse(&self, text: &str) -> Result<Url, Refusal> {
        let url = self.policy.parse(text)?;
        if literal(&url).is_some_and(|at| self.own.answers_at(at.ip(), at.port())) {
            return Err(Refusal::Own);
        }
        Ok(url)
    }

    /// The same, and looks its name up. One that leads nowhere at the moment is no mistake.
    pub async fn check(&self, text: &str) -> Result<Url, Refusal> {
        let url = self.parse(text)?;
        if let Some(Host::Domain(name)) = url.host()
            && let Err(Failure::Blocked) = self.route(&url).guard.look(name).await
        {
            return Err(Refusal::Address);
        }
        Ok(url)
    }

    /// A request to a URL that was read here.
    pub(super) fn post(&self, url: Url) -> RequestBuilder {
        self.route(&url).http.post(url)
    }

    fn route(&self, url: &Url) -> &Route {
        let port = url.port_or_known_default().unwrap_or_default();
        self.own_ports.get(&port).unwrap_or(&self.usual)
    }

    /// Where requests to a URL go, as far as that is known: its address, or those that its name had when
    /// it was last looked up.
    pub(super) fn addresses(&self, url: &Url) -> Vec<SocketAddr> {
        let Some(Host::Domain(name)) = url.host() else {
            return literal(url).into_iter().collect();
        };
        let port = url.port_or_known_default().unwrap_or_default();
        let found = self.route(url).guard.found();
        let found = found.get(name).into_iter().flatten();
        found.map(|address| SocketAddr::new(*address, port)).collect()
    }
}

/// The address and port that a URL names without a name.
fn literal(url: &Url) -> Option<SocketAddr> {
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    Some(SocketAddr::new(address, url.port_or_known_default()?))
}

/// Gives addresses to the connector: none but those that may be called.
#[derive(Clone)]
struct Guard {
    lookup: Lookup,
    addresses: AddressPolicy,
    /// Our own sockets, and the one port that is called here, if it is one of theirs.
    own: Option<(Own, u16)>,
    /// What names led to when they were last looked up, for who wants to know where nothing came back from.
    found: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
}

enum Failure {
    Blocked,
    NotFound(io::Error),
}

impl Guard {
    fn found(&self) -> MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allows(&self, address: IpAddr) -> bool {
        let is_own = self.own.as_ref().is_some_and(|(own, port)| own.answers_at(address, *port));
        !is_own && self.addresses.allows(address)
    }

    async fn look(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let look = tokio::time::timeout(LOOKUP, (self.lookup)(name.to_owned()));
        let found = match look.await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Ok(_)) => return Err(Failure::NotFound(io::ErrorKind::NotFound.into())),
            Ok(Err(error)) => return Err(Failure::NotFound(error)),
            Err(_) => return Err(Failure::NotFound(io::ErrorKind::TimedOut.into())),
        };
        let allowed: Vec<_> = found.into_iter().filter(|address| self.allows(*address)).collect();
        if allowed.is_empty() {
            return Err(Failure::Blocked);
        }
        let mut found = self.found();
        if found.len() >= NAMES {
            found.clear();
        }
        found.insert(name.to_owned(), allowed.iter().take(ADDRESSES).copied().collect());
        Ok(allowed)
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
