//! The gateway with webhook endpoints, as a process: it records events as sessions would.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering as Atomic},
    },
    time::Duration,
};

use entity::{
    id::{EndpointId, OrganizationId, SessionKey},
    webhook::state::{Format, Ordering},
};
use sea_orm::{ConnectionTrait, DbBackend};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::TaskTracker;
use wagate::{
    clock::Clock,
    daemon::Daemon,
    store::{
        Made, Patience, Store,
        audit::By,
        events::Recorded,
        organizations::NewOrganization,
        webhooks::{Making, NewEndpoint},
    },
    webhook::SigningSecret,
};

use crate::{
    failure::Failure,
    gateway,
    receiver::micros,
    role,
    usage::Usage,
    writer::{create, message, refused},
};

/// Rows that are made at once.
const STEP: usize = 20_000;

/// How the gateway is started.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where its state is
    pub(crate) state_dir: PathBuf,
    /// Its database; without one, SQLite in its state
    pub(crate) database: Option<String>,
}

impl Arguments {
    /// The same, for the command line.
    pub(crate) fn to_line(&self) -> Vec<OsString> {
        let database = self.database.clone().map(OsString::from);
        [self.state_dir.clone().into()].into_iter().chain(database).collect()
    }
}

/// What it can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Make organizations with endpoints, and a session each.
    Prepare { receiver: SocketAddr, organizations: usize, endpoints: usize },
    /// Give the first organization one more endpoint, that is dead and owed so much.
    Die { receiver: SocketAddr, owed: usize },
    /// Take that one away.
    Bury,
    /// Record so many events, spread over the organizations; so many a second, or as fast as they are
    /// taken. Answers when each was committed.
    Publish { events: usize, per_second: Option<f64> },
    /// CPU time so far, in microseconds.
    Cpu,
    /// Stop in good order.
    Stop,
}

/// When an event was committed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    /// Microseconds since 1970.
    pub(crate) at: u64,
}

#[derive(Debug)]
struct Tenant {
    id: OrganizationId,
    client: u64,
    session: SessionKey,
}

#[derive(Debug)]
struct Gateway {
    daemon: Mutex<Option<Daemon>>,
    tenants: Mutex<Vec<Arc<Tenant>>>,
    dead: Mutex<Option<EndpointId>>,
    numbers: AtomicU64,
}

/// Is the gateway until there are no more orders.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    // Nobody listens there, and no session is started.
    let mut config = gateway::config(&arguments.state_dir, "ws://127.0.0.1:9/");
    let network = "127.0.0.0/8".parse().map_err(|_| Failure::wrong("no network"))?;
    config.webhooks.allow_cidrs.0 = vec![network];
    config.webhooks.require_https = false;
    config.webhooks.ports.0 = Vec::new();
    if let Some(url) = arguments.database {
        config.database.url =
            Some(url.parse().map_err(|_| Failure::wrong("no URL of a database"))?);
    }
    let daemon = Daemon::start(config, Clock::system()).await?;
    let gateway = Gateway {
        daemon: Mutex::new(Some(daemon)),
        tenants: Mutex::default(),
        dead: Mutex::default(),
        numbers: AtomicU64::default(),
    };
    role::serve(Arc::new(gateway), carry_out).await;
    Ok(())
}

async fn carry_out(gateway: Arc<Gateway>, ask: Ask) -> Result<Value, Failure> {
    let store = match gateway.daemon.lock().await.as_ref() {
        Some(daemon) => daemon.store().clone(),
        None => return Err(Failure::wrong("it was stopped")),
    };
    match ask {
        Ask::Prepare { receiver, organizations, endpoints } => {
            let tenants = prepare(&store, receiver, organizations, endpoints).await?;
            *gateway.tenants.lock().await = tenants;
            Ok(Value::Null)
        }
        Ask::Die { receiver, owed } => {
            let tenant = gateway.tenants.lock().await.first().cloned();
            let tenant = tenant.ok_or_else(|| Failure::wrong("nobody is there"))?;
            let url = format!("http://{receiver}/dead");
            let id = endpoint(&store, &tenant.id, url).await?;
            owe(&store, &tenant, &id, owed).await?;
            *gateway.dead.lock().await = Some(id);
            Ok(Value::Null)
        }
        Ask::Bury => {
            let tenant = gateway.tenants.lock().await.first().cloned();
            let dead = gateway.dead.lock().await.take();
            if let (Some(tenant), Some(dead)) = (tenant, dead) {
                let paused = store.webhooks().pause(&tenant.id, &dead, By::default()).await;
                paused.map_err(refused)?;
            }
            Ok(Value::Null)
        }
        Ask::Publish { events, per_second } => {
            let tenants = gateway.tenants.lock().await.clone();
            Ok(json!(publish(&gateway, &store, &tenants, events, per_second).await?))
        }
        Ask::Cpu => {
            let cpu = Usage::of(std::process::id())?.cpu;
            Ok(json!(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX)))
        }
        Ask::Stop => {
            let clean = match gateway.daemon.lock().await.take() {
                Some(daemon) => daemon.shutdown().await.is_clean(),
                None => true,
            };
            if clean {
                Ok(Value::Null)
            } else {
                Err(Failure::wrong("it did not stop in good order"))
            }
        }
    }
}

async fn prepare(
    store: &Store,
    receiver: SocketAddr,
    organizations: usize,
    endpoints: usize,
) -> Result<Vec<Arc<Tenant>>, Failure> {
    let first = store.organizations().ensure_default().await.map_err(refused)?;
    let mut tenants = Vec::new();
    for number in 0..organizations {
        let new = NewOrganization { name: format!("tenant {number}"), max_sessions: None };
        let made = store.organizations().create(&first.id, new, None, By::default()).await;
        let (Made::New(row) | Made::Before(row)) = made.map_err(refused)? else {
            return Err(Failure::wrong("an organization could not be made"));
        };
        for endpoint_number in 0..endpoints {
            let url = format!("http://{receiver}/{number}/{endpoint_number}");
            endpoint(store, &row.id, url).await?;
        }
        let session = create(store, &row.id, number).await?;
        tenants.push(Arc::new(Tenant {
            id: row.id,
            client: row.client_id.unsigned_abs(),
            session,
        }));
    }
    Ok(tenants)
}

/// An endpoint as the API makes one by default.
async fn endpoint(
    store: &Store,
    organization: &OrganizationId,
    url: String,
) -> Result<EndpointId, Failure> {
    let new = NewEndpoint {
        url,
        description: None,
        format: Format::Envelope,
        event_types: vec!["message.*".to_owned()],
        session_ids: Vec::new(),
        phone_numbers: Vec::new(),
        headers: std::collections::BTreeMap::new(),
        ordering: Ordering::None,
        max_in_flight: 4,
        rate_per_second: None,
        timeout: Duration::from_secs(15),
        max_retries: None,
        max_age: Duration::from_hours(72),
    };
    let secret = SigningSecret::generate();
    let by = (None, By::default());
    let made = store.webhooks().create(organization, new, &secret, 500, false, by).await;
    match made.map_err(refused)? {
        Making::Made(Made::New(row) | Made::Before(row)) => Ok(row.id),
        _ => Err(Failure::wrong("an endpoint could not be made")),
    }
}

/// Has an endpoint be owed many events that were recorded before.
async fn owe(
    store: &Store,
    tenant: &Tenant,
    endpoint: &EndpointId,
    owed: usize,
) -> Result<(), Failure> {
    let payload = json!({ "message": { "id": "3EB0", "body": "x".repeat(200) } }).to_string();
    let expires = Clock::system().now().0 + 72 * 3_600_000;
    for first in (0..owed).step_by(STEP) {
        let last = (first + STEP).min(owed) - 1;
        let (id, endpoint, payload) = (tenant.id.clone(), endpoint.clone(), payload.clone());
        let owing = store.writer().run("fill", Patience::Fail, move |txn| {
            let (padded, numbers) = match txn.get_database_backend() {
                DbBackend::Postgres => (
                    "lpad(n::text, 26, '0')",
                    format!("generate_series({first}, {last}) AS numbers(n)"),
                ),
                _ => (
                    "printf('%026d', n)",
                    format!(
                        "(WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL \
                         SELECT n + 1 FROM numbers WHERE n < {last}) SELECT n FROM numbers)"
                    ),
                ),
            };
            // Their numbers lie before the first one that was ever given.
            let event = format!(
                "INSERT INTO webhook_event (id, organization_id, seq, event_type, conversation, \
                 payload, occurred_at) SELECT 'evt_' || {padded}, '{id}', n - {owed}, \
                 'message.received', '', '{payload}', 1 FROM {numbers}"
            );
            let delivery = format!(
                "INSERT INTO webhook_delivery (id, organization_id, endpoint_id, event_id, \
                 event_type, seq, replay_id, cause, state, attempts, next_at, expires_at, \
                 created_at) SELECT 'dlv_' || {padded}, '{id}', '{endpoint}', 'evt_' || {padded}, \
                 'message.received', n - {owed}, '', 'event', 'pending', 0, 0, {expires}, 1 \
                 FROM {numbers}"
            );
            Box::pin(async move {
                txn.execute_unprepared(&event).await?;
                txn.execute_unprepared(&delivery).await.map(drop)
            })
        });
        owing.await.map_err(refused)?;
    }
    store.webhooks().touch([endpoint.clone()]);
    Ok(())
}

async fn publish(
    gateway: &Gateway,
    store: &Store,
    tenants: &[Arc<Tenant>],
    events: usize,
    per_second: Option<f64>,
) -> Result<Vec<Commit>, Failure> {
    let tracker = TaskTracker::new();
    let begun = Instant::now();
    let mut recording = Vec::with_capacity(events);
    // As many sessions as that have something to say at a time when nobody holds them back.
    let places = Arc::new(tokio::sync::Semaphore::new(256));
    for at in 0..events {
        if let Some(rate) = per_second {
            let due = Duration::from_secs_f64(crate::report::count(at as u64) / rate);
            tokio::time::sleep_until(begun + due).await;
        }
        let place = places.clone().acquire_owned().await.map_err(refused)?;
        let (store, tenant) = (store.clone(), tenants[at % tenants.len()].clone());
        let number = gateway.numbers.fetch_add(1, Atomic::Relaxed);
        recording.push(tracker.spawn(async move {
            let new = message(&tenant.id, &tenant.session, usize::try_from(number).unwrap_or(0));
            let recorded = store.writer().record(new, Patience::Fail).await.map_err(refused)?;
            drop(place);
            match recorded {
                Recorded::New { seq, .. } => {
                    Ok(Commit { client: tenant.client, sequence: seq.unsigned_abs(), at: micros() })
                }
                other => Err(Failure::wrong(format!("a message was {other:?}"))),
            }
        }));
    }
    let mut commits = Vec::with_capacity(events);
    for recorded in recording {
        commits.push(recorded.await.map_err(refused)??);
    }
    Ok(commits)
}
