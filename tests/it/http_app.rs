//! The HTTP API over a real socket and a real database; WhatsApp is not there.
//!
//! What a client would report is recorded through the store's one door, so that everything but the
//! client itself is the real thing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::{
    id::{MessageId, OrganizationId, SessionId},
    kind::MessageKind,
    session,
    state::{Direction, MessageStatus, Role},
};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wagate::{
    clock::Clock,
    delivery::{self, Deliveries, Own},
    event::{Account, Event, NewMessage},
    http::{self, Edge, HttpState, Limits, ServeOptions},
    service::{Health, Services, Tokens, external::Policy, meta},
    session::{
        HistorySettings, MediaSettings, Membership, OnOtherAccount, Options, Ownership, Sessions,
    },
    store::{
        Patience, Store,
        events::{NewEvent, Recorded},
        tokens::NewToken,
    },
    webhook::{AddressPolicy, TargetPolicy},
};

use crate::{
    contract::{self, Seen},
    database::{Database, Opened},
    log_watch,
};

/// What whoever reports a status must show.
pub(crate) const STATUS_KEY: &str = "the key of the status webhook";

/// A gateway that listens, and a client of it.
pub(crate) struct App {
    pub(crate) base: String,
    pub(crate) organization: OrganizationId,
    pub(crate) token: String,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    /// Sends webhooks when it is driven.
    pub(crate) deliveries: Deliveries,
    /// Carries out what Meta told when it is driven.
    pub(crate) meta: meta::Processor,
    /// Sends through Meta when it is driven.
    pub(crate) sender: meta::Sender,
    /// Looks for silence when it is asked to.
    pub(crate) watch: meta::Watch,
    /// What the listener for the machine's own watchers answers.
    pub(crate) watchers: axum::Router,
    client: reqwest::Client,
    opened: Opened,
    sessions: Sessions,
    tasks: TaskTracker,
}

/// Lets a secret be a token.
async fn add_token(store: &Store, organization: &OrganizationId, role: Role, secret: &str) {
    let secret_hash = Tokens::hash(secret);
    let new = NewToken { role, secret_hash, label: "test".to_owned(), expires_at: None };
    store.tokens().add(organization, new).await.unwrap();
}

impl App {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, Limits::default()).await
    }

    pub(crate) async fn start_with(database: &Database, limits: Limits) -> Self {
        Self::over(database.open().await, limits).await
    }

    /// A gateway on a store that is open.
    pub(crate) async fn over(opened: Opened, limits: Limits) -> Self {
        Self::behind(opened, limits, Edge::default()).await
    }

    /// A gateway with something in front of it.
    pub(crate) async fn behind(opened: Opened, limits: Limits, edge: Edge) -> Self {
        let external = Policy { key: Some(STATUS_KEY.to_owned().into()), ..Policy::default() };
        Self::with_external(opened, limits, edge, external).await
    }

    /// A gateway whose operator has decided this about sessions that run elsewhere.
    pub(crate) async fn with_external(
        opened: Opened,
        limits: Limits,
        edge: Edge,
        external: Policy,
    ) -> Self {
        // What it holds while it starts is large.
        Box::pin(Self::configured(opened, limits, edge, external, meta::Options::default())).await
    }

    /// A gateway whose operator has decided something about Meta's webhooks.
    pub(crate) async fn with_meta(
        database: &Database,
        limits: Limits,
        meta: meta::Options,
    ) -> Self {
        let opened = database.open().await;
        Box::pin(Self::configured(opened, limits, Edge::default(), Policy::default(), meta)).await
    }

    async fn configured(
        opened: Opened,
        limits: Limits,
        edge: Edge,
        external: Policy,
        meta: meta::Options,
    ) -> Self {
        log_watch::begin();
        // Another test of this process may have installed it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let (store, clock) = (opened.store.clone(), opened.clock.clone());
        let organization = store.organizations().ensure_default().await.unwrap();
        let token = Tokens::new_secret();
        add_token(&store, &organization.id, Role::Operator, &token).await;

        let tasks = TaskTracker::new();
        let options = Options {
            version: Some((2, 3000, 1)),
            // Nobody listens there: a session that is started dials in vain.
            url: Some("ws://127.0.0.1:9/".to_owned()),
            device_name: "wagate".to_owned(),
            max_qr_rounds: 1,
            dial_concurrency: 4,
            replaced_retry_after: None,
            // As in `world.rs`: a clock that stands still gives no second turn.
            dial_rate_per_second: 1_000_000,
            on_other_account: OnOtherAccount::Refuse,
            history: HistorySettings::default(),
            media: media_settings(),
        };
        let me = Membership { home: "test".to_owned(), name: "test".to_owned(), lease: None };
        let ownership = Ownership::join(store.clone(), clock.clone(), me).await.unwrap();
        let sessions =
            Sessions::new(store.clone(), clock.clone(), options, ownership, tasks.clone());
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let deliveries =
            deliveries_beside(Own::new([address]), &store, "test", sessions.daemons(), &tasks);
        let longest = Duration::from_hours(72);
        let services = Services::new(&store, sessions.clone(), &deliveries, longest, meta)
            .with_external(external);
        let processor = services.meta.processor("test");
        let (sender, watch) = (services.meta.sender("test"), services.meta.watch());
        let state = HttpState::new(services, limits, edge, stop.clone(), tasks.clone());
        let watchers = http::admin_router(state.clone());
        let base = format!("http://{address}");
        tasks.spawn(http::serve(
            listener,
            http::router(state),
            ServeOptions::default(),
            stop.clone(),
            CancellationToken::new(),
        ));
        let client =
            reqwest::Client::builder().timeout(Duration::from_secs(20)).no_proxy().build().unwrap();
        Self {
            base,
            organization: organization.id,
            token,
            store,
            clock,
            stop,
            deliveries,
            meta: processor,
            sender,
            watch,
            watchers,
            client,
            opened,
            sessions,
            tasks,
        }
    }

    /// A token of another organization, made for it.
    pub(crate) async fn stranger(&self, database: &Database) -> String {
        let id = OrganizationId::new(self.clock.now(), 7);
        database
            .execute(&format!("INSERT INTO organization (id, client_id, name, last_seq, retired_seq, created_at) VALUES ('{id}', 2, 'other', 0, 0, 0)"))
            .await;
        self.token_of(&id, Role::Admin).await
    }

    pub(crate) async fn token_of(&self, organization: &OrganizationId, role: Role) -> String {
        let secret = Tokens::new_secret();
        add_token(&self.store, organization, role, &secret).await;
        secret
    }

    /// A request with the operator's token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// A request without a token.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::to(json(self.request(Method::POST, path), &body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::to(json(self.request(Method::PATCH, path), &body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    /// Makes a session that is not started.
    pub(crate) async fn session(&self, id: &str) {
        let body = serde_json::json!({ "sessionId": id, "start": false });
        assert_eq!(self.post("/api/whatsapp/session", body).await.status, StatusCode::CREATED);
    }

    /// Makes a session that runs elsewhere, and answers it as it was made.
    pub(crate) async fn external(&self, id: &str, more: Value) -> Value {
        let mut body = serde_json::json!({ "sessionId": id, "origin": "external" });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let made = self.post("/api/whatsapp/session", body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        made.json()["data"].clone()
    }

    /// Posts an event of a session that runs elsewhere, with the operator's token.
    pub(crate) async fn tell(&self, id: &str, event: &str, data: Value) -> Answer {
        let body = serde_json::json!({ "event": event, "data": data });
        self.post(&format!("/api/whatsapp/webhook/{id}"), body).await
    }

    /// What says whether it is ready.
    pub(crate) fn health(&self) -> Health {
        Health::new(self.store.clone(), self.sessions.clone())
    }

    /// How many sessions their manager remembers.
    pub(crate) fn known_sessions(&self) -> usize {
        self.sessions.known()
    }

    /// Stops the sessions alone: none is started any more.
    pub(crate) async fn stop_sessions(&self) {
        self.sessions.shutdown(Duration::from_secs(5)).await;
    }

    pub(crate) async fn row(&self, id: &str) -> session::Model {
        let id: SessionId = id.parse().unwrap();
        self.store.sessions().find(&self.organization, &id).await.unwrap().unwrap()
    }

    /// Has something happen on a session.
    pub(crate) async fn happen(&self, id: &str, event: Event) -> Recorded {
        let new = NewEvent {
            organization_id: self.organization.clone(),
            session_key: self.row(id).await.id,
            generation: None,
            event,
            at: self.clock.now(),
            care: None,
            posted: None,
        };
        self.store.writer().record(new, Patience::Fail).await.unwrap()
    }

    /// Has a session show this code for a minute.
    pub(crate) async fn show_qr(&self, id: &str, qr: &str) {
        let expires_at = self.clock.now() + Duration::from_mins(1);
        self.happen(id, Event::Qr { qr: qr.to_owned(), expires_at }).await;
    }

    /// Has a session claim that it is connected.
    pub(crate) async fn connect(&self, id: &str) {
        let account = Account {
            phone_number: Some("6281234567890".to_owned()),
            push_name: Some("Test".to_owned()),
            jid: Some("6281234567890@s.whatsapp.net".to_owned()),
            lid: None,
        };
        self.happen(id, Event::Ready(account)).await;
    }

    /// Has a contact write to a session.
    pub(crate) async fn hear(&self, id: &str, contact: &str, text: &str) -> Recorded {
        self.happen(id, Event::Message(Box::new(self.message(contact, text)))).await
    }

    /// A message of a contact, who is called by a number.
    pub(crate) fn message(&self, contact: &str, text: &str) -> NewMessage {
        let now = self.clock.now();
        let contact = format!("{contact}@s.whatsapp.net");
        NewMessage {
            id: MessageId::new(now, rand::random()),
            wa_id: format!("3EB0{:016X}", rand::random::<u64>()),
            chat: contact.clone(),
            sender: contact,
            direction: Direction::Inbound,
            kind: MessageKind::Text,
            body: Some(text.to_owned()),
            target_wa_id: None,
            interaction: None,
            raw: None,
            push_name: Some("Ada".to_owned()),
            sent_at: now,
            is_group: false,
            offline: false,
            status: MessageStatus::Received,
        }
    }

    /// Stops everything in the daemon's order.
    pub(crate) async fn close(self) {
        // All who could give it more to do.
        drop((self.deliveries, self.watchers));
        self.stop.cancel();
        self.sessions.shutdown(Duration::from_secs(5)).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.opened.close().await;
        log_watch::assert_clean();
    }
}

/// Downloads of media, of which there are none.
fn media_settings() -> MediaSettings {
    MediaSettings {
        directory: std::env::temp_dir(),
        max_size: 1 << 20,
        spool: 1 << 20,
        keep: Duration::from_mins(1),
        concurrency: 1,
        time_limit: Duration::from_secs(10),
    }
}

/// An engine that may call this machine: by its addresses, and as `receiver.test`.
pub(crate) fn deliveries(store: &Store, node: &str, tasks: &TaskTracker) -> Deliveries {
    // The application's own is there, too.
    deliveries_beside(Own::default(), store, node, Arc::new(2.into()), tasks)
}

/// The same, of a daemon that listens.
fn deliveries_beside(
    own: Own,
    store: &Store,
    node: &str,
    daemons: Arc<AtomicU64>,
    tasks: &TaskTracker,
) -> Deliveries {
    let targets = TargetPolicy {
        addresses: AddressPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            deny: vec!["127.0.0.99/32".parse().unwrap()],
        },
        require_https: false,
        ports: Vec::new(),
    };
    let client = delivery::Client::new(targets, own, &lookup()).unwrap();
    let options = delivery::Options {
        concurrency: 64,
        disable_after: Duration::from_hours(120),
        node: node.to_owned(),
        daemons,
    };
    Deliveries::new(store.clone(), options, client, tasks)
}

/// Names of tests. One answers otherwise each time it is asked.
fn lookup() -> delivery::Lookup {
    let asked = Arc::new(AtomicUsize::new(0));
    Arc::new(move |name| {
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        let found: &[&str] = match name.as_str() {
            "receiver.test" => &["127.0.0.1"],
            "inside.test" => &["10.0.0.1", "169.254.169.254", "::1", "127.0.0.99"],
            "mixed.test" => &["10.0.0.1", "127.0.0.1"],
            "rebinding.test" if asked.is_multiple_of(2) => &["127.0.0.1"],
            "rebinding.test" => &["127.0.0.99"],
            _ => &[],
        };
        let found = found.iter().map(|address| address.parse().unwrap()).collect();
        Box::pin(async move { Ok(found) })
    })
}

pub(crate) fn json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let asked = request.try_clone();
        let response = client.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = Self { status, headers, body: response.bytes().await.unwrap().to_vec() };
        if let Some(asked) = asked {
            log_watch::note(&asked, &answer.body);
        }
        contract::check(&Seen {
            method: method.as_str(),
            path: &path,
            status: status.as_u16(),
            content_type: answer.header("content-type"),
            body: &answer.body,
        });
        answer
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that this is a good problem document with this status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["success"], false);
        assert_eq!(problem["requestId"], self.header("x-request-id"));
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert!(problem["title"].is_string());
        problem
    }

    /// Asserts that the request was refused for these members.
    #[track_caller]
    pub(crate) fn invalid(&self, pointers: &[&str]) {
        let problem = self.problem(400, "VALIDATION_FAILED");
        let found: Vec<_> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(found, pointers, "{problem}");
    }
}
