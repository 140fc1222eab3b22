//! How the daemon is asked: addresses, tokens, bodies and problem documents.
//!
//! A request passes through, from the outside in: its id, panics and log line (`request`); what browsers
//! are told (`edge`, `cors`); what older clients read of errors (`elder`); whom it comes from (`client`) and how often he asks (`limit`); the
//! check of its token and of its role (`auth`); a time limit; a handler in `api`, one resource a file,
//! which reads the request (`path`, `fields`, `body`), asks one service, and writes a view. Handlers
//! decide nothing.
//!
//! `api/mod.rs` has the table of all routes, with the role that each needs. It is the one place where
//! that is said; the router is built from it (`route`).
//!
//! Requests that may take long by design (streams, long polls) have a time limit of their own, and
//! end when the daemon is asked to stop.

mod accept;
mod api;
mod auth;
mod body;
mod client;
mod code;
mod cors;
mod edge;
mod elder;
mod error;
mod fields;
mod idempotency;
mod limit;
mod openapi;
mod operation;
mod outgoing;
mod page;
mod path;
mod problem;
mod range;
mod refused;
mod request;
mod route;
mod server;
mod signed;
mod stalled;
mod tls;
mod traffic;
mod validity;
mod waiting;

use std::time::Duration;

use axum::{Router, extract::FromRef, middleware};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::limit::Meters;
use self::{
    api::{MetaPosts, Posts},
    openapi::Document,
    traffic::Traffic,
    waiting::Waiting,
};
use crate::{
    qr::Renderer,
    service::{self, Services},
};

pub use self::{
    api::{AuditEntryView, ListedSession, OrganizationView, TokenView},
    client::{ForwardedHeader, Proxies},
    cors::Origins,
    edge::Edge,
    limit::Quota,
    route::{Access, Key, Pace, Statement},
    server::{ServeOptions, serve},
    tls::{Reloaded, Tls, TlsError, TlsFiles},
    traffic::Connections,
    validity::Validity,
};

// What the command line reads and writes as the API does.
pub(crate) use self::{
    api::moment,
    fields::{LONGEST_PAGE, USUAL_PAGE},
    page::{cursor, position},
};

/// How much of everything one request may have, and without a token.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body, where only small ones make sense.
    pub small_body: usize,
    /// Bytes of a body that carries a message.
    pub large_body: usize,
    /// Bytes of what Meta posts.
    pub meta_body: usize,
    /// Bodies of Meta's that are in memory at a time.
    pub meta_posts: usize,
    /// The same of others who have proved nothing before their body is read.
    pub posts: usize,
    /// How long a place for such a body is waited for.
    pub turn: Duration,
    /// How long a body may take to arrive.
    pub body_time: Duration,
    /// How long an answer may take.
    pub request_time: Duration,
    /// How long a long poll may wait.
    pub longest_wait: Duration,
    /// Streams and long polls at the same time, in all and of one caller.
    pub streams: usize,
    pub streams_per_token: usize,
    pub streams_per_organization: usize,
    /// How often a stream that has nothing to say says so.
    pub heartbeat: Duration,
    /// Whether `/metrics` is answered without a token.
    pub open_metrics: bool,
    /// How often one token may ask; as often as it likes without.
    pub per_token: Option<Quota>,
    /// How often one address may ask.
    pub per_address: Option<Quota>,
    /// How often one address may show what opens nothing.
    pub failed_authentications: Option<Quota>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            small_body: 64 << 10,
            large_body: 1 << 20,
            // Meta says 3 MB.
            meta_body: 4 << 20,
            meta_posts: 64,
            posts: 64,
            turn: Duration::from_secs(5),
            body_time: Duration::from_secs(20),
            request_time: Duration::from_secs(30),
            longest_wait: Duration::from_mins(1),
            streams: 2048,
            streams_per_token: 256,
            streams_per_organization: 512,
            // Proxies close what is silent for a minute, some for half of one.
            heartbeat: Duration::from_secs(15),
            open_metrics: false,
            per_token: None,
            per_address: None,
            failed_authentications: None,
        }
    }
}

/// What handlers can reach: services, and what HTTP itself needs.
#[derive(Clone, Debug)]
pub struct HttpState {
    services: Services,
    renderer: Renderer,
    limits: Limits,
    waiting: Waiting,
    meters: Meters,
    meta_posts: MetaPosts,
    posts: Posts,
    edge: Edge,
    traffic: Traffic,
    /// Requests that change something, which are carried out whether or not their caller waits.
    work: TaskTracker,
    /// What is said about the routes.
    document: Document,
}

impl HttpState {
    /// What there is to ask, how much of it, and through what. Streams end with `shutdown`; what a request has begun
    /// to change is finished among `work`.
    pub fn new(
        services: Services,
        limits: Limits,
        edge: Edge,
        shutdown: CancellationToken,
        work: TaskTracker,
    ) -> Self {
        let daemons = services.sessions.daemons();
        let meters = Meters::new(&limits, services.clock().clone(), daemons);
        Self {
            work,
            meta_posts: MetaPosts::new(&limits, services.clock()),
            posts: Posts::new(&limits, services.clock()),
            edge,
            traffic: Traffic::default(),
            document: Document::default(),
            waiting: Waiting::new(limits, meters.streams(), services.tokens.clone(), shutdown),
            meters,
            services,
            renderer: Renderer::default(),
            limits,
        }
    }

    /// What becomes of connections, which is shown among the figures.
    pub(crate) fn connections(&self) -> Connections {
        self.traffic.connections()
    }

    /// How often anybody may ask, which can be changed at any time.
    pub(crate) fn meters(&self) -> Meters {
        self.meters.clone()
    }
}

/// Lets a handler receive one part of the state by its type.
macro_rules! parts {
    ($($($part:ident).+: $type:ty),* $(,)?) => {
        $(impl FromRef<HttpState> for $type {
            fn from_ref(state: &HttpState) -> Self {
                state.$($part).+.clone()
            }
        })*
    };
}

parts! {
    services.sessions: service::Sessions,
    services.messages: service::Messages,
    services.media: service::Media,
    services.events: service::Events,
    services.tokens: service::Tokens,
    services.signatures: service::Signatures,
    services.organizations: service::Organizations,
    services.audit: service::Audit,
    services.health: service::Health,
    services.metrics: service::Metrics,
    services.webhooks: service::Webhooks,
    services.campaigns: service::Campaigns,
    services.contacts: service::Contacts,
    services.external: service::External,
    services.meta: service::Meta,
    meters: Meters,
    meta_posts: MetaPosts,
    posts: Posts,
    renderer: Renderer,
    limits: Limits,
    waiting: Waiting,
    traffic: Traffic,
    document: Document,
}

/// Every route, with everything around it.
pub fn router(state: HttpState) -> Router {
    let routes = api::routes(&state.limits);
    surrounded(routes, state)
}

/// What the machine's own watchers ask: `/livez`, `/readyz`, `/metrics`, without a token. For a listener
/// that only they reach.
pub fn admin_router(state: HttpState) -> Router {
    surrounded(api::admin_routes(), state)
}

fn surrounded(routes: Vec<route::Route>, mut state: HttpState) -> Router {
    state.document = Document::of(&routes);
    state.traffic.expect(routes.iter());
    let elder =
        routes.iter().map(route::Route::statement).filter(|it| it.errors == route::Errors::Elder);
    let elder = elder::Elder::of(elder.map(|it| it.path));
    let around = request::Around { traffic: state.traffic.clone(), elder };
    let all = route::router(routes, &state);
    all.layer(middleware::from_fn_with_state(state.edge.proxies.clone(), client::identify))
        .layer(middleware::from_fn_with_state(around, request::observe))
        .layer(middleware::from_fn_with_state(state.edge.origins.clone(), cors::tell))
        .layer(middleware::from_fn(edge::protect))
        .with_state(state)
}

/// The OpenAPI document about every route.
pub fn document(limits: &Limits) -> serde_json::Value {
    openapi::document(&api::routes(limits))
}

/// Every code that a problem document can have, as a page in Markdown.
pub fn problems_page() -> String {
    code::page()
}

/// What every route of the watchers' listener says about itself.
pub fn admin_routes() -> Vec<Statement> {
    api::admin_routes().iter().map(|route| route.statement().clone()).collect()
}

/// What every route says about itself.
pub fn routes(limits: &Limits) -> Vec<Statement> {
    api::routes(limits).iter().map(|route| route.statement().clone()).collect()
}
