//! What a route says about itself: its method, its address, who may ask, how long it may take.
//!
//! The router and the OpenAPI document are built from a list of [`Route`]s and from nothing else, so a
//! route without a role, or without its description, cannot be written down. The list itself is in [`super::api`].

use std::{collections::HashMap, time::Duration};

use axum::{
    Extension, Router,
    handler::Handler,
    http::Method,
    middleware,
    routing::{MethodFilter, MethodRouter, on},
};
use entity::state::Role;

use super::{
    HttpState, Limits, auth, code::Code, cors, limit, operation::Operation, problem::Problem,
    request,
};

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port. For what holds nothing.
    Anybody,
    /// The holder of a token with this role or a higher one.
    AtLeast(Role),
    /// Whoever shows what the route itself asks for.
    Holder(Key),
}

/// What is shown instead of a token. The handler looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A session's own secret, or a token with this role.
    Session(Role),
    /// What the operator has set for those who report statuses, or a token with this role in its place.
    Status(Role),
}

impl Key {
    /// The role of a token that is as good.
    pub const fn role(self) -> Role {
        match self {
            Self::Session(role) | Self::Status(role) => role,
        }
    }
}

impl From<Key> for Access {
    fn from(key: Key) -> Self {
        Self::Holder(key)
    }
}

impl From<Role> for Access {
    fn from(role: Role) -> Self {
        Self::AtLeast(role)
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It is answered at once.
    Prompt,
    /// It may wait for something to happen, or be a stream.
    Waiting,
}

impl Pace {
    fn limit(self, limits: &Limits) -> Duration {
        match self {
            Self::Prompt => limits.request_time,
            Self::Waiting => limits.request_time + limits.longest_wait,
        }
    }
}

/// What its errors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Problem documents.
    Problems,
    /// The same, with what clients of seed 002 read of them besides.
    Elder,
}

/// A route without its handler: what can be read about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub method: Method,
    /// With its variable parts in braces: `/api/whatsapp/session/{sessionId}`.
    pub path: &'static str,
    pub access: Access,
    pub pace: Pace,
    /// Whether it may be asked only so often. Not what tells a load balancer that we live.
    pub is_metered: bool,
    /// Whether a signed address opens it, without a token.
    pub takes_signature: bool,
    /// Whether pages of all origins may call it, whatever others may.
    pub is_for_all_origins: bool,
    pub errors: Errors,
    /// What it is called in the OpenAPI document.
    pub operation: &'static str,
}

/// One method at one address.
pub(super) struct Route {
    statement: Statement,
    operation: Operation,
    handler: MethodRouter<HttpState>,
}

impl Route {
    fn new<H, T>(
        method: Method,
        path: &'static str,
        access: Access,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, HttpState>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        let statement = Statement {
            method,
            path,
            access,
            pace: Pace::Prompt,
            is_metered: true,
            takes_signature: false,
            is_for_all_origins: false,
            errors: Errors::Problems,
            operation: operation.id,
        };
        Self { statement, operation, handler: on(filter, handler) }
    }

    /// It may wait for something to happen.
    pub(super) fn waits(mut self) -> Self {
        self.statement.pace = Pace::Waiting;
        self
    }

    /// A signed address opens it, for tags of a page that cannot show a token. For what is about one
    /// session, and read.
    pub(super) fn signable(mut self) -> Self {
        self.statement.takes_signature = true;
        self
    }

    /// Pages of all origins may call it: what opens it is shown in a header that no browser adds by itself.
    pub(super) fn for_all_origins(mut self) -> Self {
        self.statement.is_for_all_origins = true;
        self
    }

    /// Its errors have what clients of seed 002 read of them, besides.
    pub(super) fn with_elder_errors(mut self) -> Self {
        self.statement.errors = Errors::Elder;
        self
    }

    /// It may be asked as often as anybody likes.
    pub(super) fn unmetered(mut self) -> Self {
        self.statement.is_metered = false;
        self
    }

    pub(super) fn statement(&self) -> &Statement {
        &self.statement
    }

    pub(super) fn operation(&self) -> &Operation {
        &self.operation
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident: $method:ident),* $(,)?) => {
        $($(#[$doc])*
        pub(super) fn $name<H, T>(
            path: &'static str,
            access: impl Into<Access>,
            handler: H,
            operation: Operation,
        ) -> Route
        where
            H: Handler<T, HttpState>,
            T: 'static,
        {
            Route::new(Method::$method, path, access.into(), handler, operation)
        })*
    };
}

methods! {
    /// Reads, and changes nothing.
    get: GET,
    post: POST,
    patch: PATCH,
    delete: DELETE,
}

/// The router that these routes make.
///
/// The check of the token surrounds all routes that need one, and what is not there: what exists is
/// not told to strangers. How often an address asks is counted before that. The role is checked before a handler reads anything of the request.
pub(super) fn router(routes: Vec<Route>, state: &HttpState) -> Router<HttpState> {
    let mut doorkeeper = auth::Doorkeeper {
        tokens: state.services.tokens.clone(),
        signatures: state.services.signatures.clone(),
        signable: HashMap::new().into(),
        organizations: state.services.organizations.clone(),
        meters: state.meters.clone(),
    };
    let mut unmetered = Router::new();
    let mut public = Router::new();
    let mut open = Router::new();
    let mut guarded = Router::new();
    let mut signable = HashMap::new();
    for Route { statement, handler, .. } in routes {
        let limit = statement.pace.limit(&state.limits);
        let limit = request::TimeLimit { limit, work: state.work.clone() };
        let handler =
            handler.route_layer(middleware::from_fn_with_state(limit, request::time_limit));
        match statement.access {
            Access::Anybody if !statement.is_metered => {
                unmetered = unmetered.route(statement.path, handler);
            }
            Access::Anybody => open = open.route(statement.path, handler),
            Access::Holder(key) if statement.is_for_all_origins => {
                let handler: MethodRouter<HttpState> = handler.layer(Extension(key));
                public = public.route(statement.path, handler.layer(cors::for_all()));
            }
            Access::Holder(key) => {
                let role = middleware::from_fn_with_state(key.role(), auth::authorize_shown);
                let handler = handler.route_layer(role);
                let perhaps = middleware::from_fn_with_state(doorkeeper.clone(), auth::perhaps);
                open = open.route(statement.path, handler.route_layer(perhaps));
            }
            Access::AtLeast(role) => {
                if statement.takes_signature {
                    signable.insert(statement.path, role);
                }
                let handler =
                    handler.route_layer(middleware::from_fn_with_state(role, auth::authorize));
                guarded = guarded.route(statement.path, handler);
            }
        }
    }
    doorkeeper.signable = signable.into();
    let guarded = guarded
        .fallback(async || Problem::of(Code::RouteNotFound))
        .layer(middleware::from_fn_with_state(doorkeeper, auth::authenticate));
    let by_address = middleware::from_fn_with_state(state.meters.clone(), limit::by_address);
    let mut all = open.merge(guarded).layer(by_address.clone()).merge(unmetered);
    if let Some(cors) = state.edge.origins.layer() {
        all = all.layer(cors);
    }
    all.merge(public.layer(by_address))
}
