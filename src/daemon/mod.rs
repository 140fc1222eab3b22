//! The daemon: every part made and put together, bottom-up, by the one module that sees them all.
//!
//! Start: state directory, store, first run, listener, sessions, HTTP. Stop: HTTP, sessions, store;
//! each has its own time, and what exceeds it is left behind. The program and the tests use the
//! same functions, and several daemons can run in one process.

mod certificate;
mod configured;
mod error;
mod listeners;
mod remembered;
mod stopping;
mod token;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use entity::id::OrganizationId;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info_span};

use self::{
    configured::{
        deliveries, edge, external, http_limits, membership, meta, policy, session_options,
    },
    remembered::Remembered,
    stopping::{STORE_GRACE, Stopping},
};
pub use self::{
    configured::{master_key, store_options, tls},
    error::StartError,
    listeners::Listeners,
    stopping::{Stopped, longest_stop},
};
use crate::{
    clock::Clock,
    config::{AfterRestore, Config, DatabaseUrl},
    copies::Copies,
    delivery::Own,
    descriptors, device,
    fault::moment,
    http::{self, HttpState},
    lifecycle::Stop,
    maintenance::{self, Maintenance},
    service,
    session::{self, Ownership, Sessions},
    state_dir::StateDir,
    store::{self, Patience, Store},
    vault::Vault,
};

/// A running daemon. Dropping it stops nothing: call [`Daemon::shutdown`].
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    database: DatabaseUrl,
    token_path: PathBuf,
    remembered: Remembered,
    store: Store,
    sessions: Sessions,
    stop: Stop,
    failed: CancellationToken,
    http_tasks: TaskTracker,
    session_tasks: TaskTracker,
    /// What nobody asked for; ends at once, and before the store.
    background: TaskTracker,
    copies: Copies,
    tls: Option<Arc<http::Tls>>,
    meters: http::Meters,
    http_grace: Duration,
    session_grace: Duration,
    longest_stop: Duration,
    /// Let go last: the next daemon may begin when this one has closed its database.
    state: StateDir,
}

impl Daemon {
    /// Starts every part. Returns when requests are answered and every session that should run has
    /// been started; they connect in the background.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_on(Listeners::default(), config, clock).await
    }

    /// The same, where sockets are there already.
    pub async fn start_on(
        listeners: Listeners,
        config: Config,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let tls = tls(&config.http)?.map(Arc::new);
        // The directory is ours before anything in it is read.
        let mut state = StateDir::open(&config.state_dir)?;
        let database = config.database.url_in(state.path());
        if let Some(file) = database.sqlite_file() {
            state.lock_database(&file)?;
        }

        // The store's own tasks end when it is closed, which is after all others.
        let store_tasks = TaskTracker::new();
        let options = store_options(&config, &database);
        // A database that is sealed under another key is not touched.
        let source = master_key(&config.encryption, state.path())?;
        let keys = store::keys::inspect(&options).await?;
        let master = source.find(!keys.is_empty(), |key| key.opens(&keys))?;
        let vault = Arc::new(Vault::new(master, Some(source)));
        let store = Store::open(options, vault, clock.clone(), &store_tasks).await?;

        moment!("start.store_opened");
        let build = Self::build(listeners, config, clock, store.clone(), state, database, tls);
        match Box::pin(build).await {
            Ok(daemon) => Ok(daemon),
            Err(error) => {
                timeout(STORE_GRACE, store.close()).await.ok();
                Err(error)
            }
        }
    }

    /// What stands on the store.
    async fn build(
        listeners: Listeners,
        config: Config,
        clock: Clock,
        store: Store,
        state: StateDir,
        database: DatabaseUrl,
        tls: Option<Arc<http::Tls>>,
    ) -> Result<Self, StartError> {
        let starting = store.starting().await.map_err(StartError::Alone)?;
        let copies = Copies::new(store.clone(), state.path());
        if copies.is_out_of_place().await.map_err(StartError::Restart)? {
            return Err(StartError::OtherDatabase { file: copies.file().to_owned() });
        }
        let first = first_run(&store, &state).await?;
        starting.check().await.map_err(StartError::Alone)?;
        seal_old_rows(&store).await.map_err(StartError::Sealing)?;
        moment!("start.first_run_done");
        // Before we count as living: flagging many sessions may take longer than a lease lasts.
        let hold = config.database.after_restore == AfterRestore::Hold;
        starting.check().await.map_err(StartError::Alone)?;
        let restored = copies.look(hold).await.map_err(StartError::Restart)?;
        let membership = membership(&config, &state, &database, &clock)?;
        let home = membership.home.clone();
        let remembered = Remembered::new(&store, first, state.path(), &membership.name);
        remembered.goes_by(&config).await;
        let ownership = Ownership::join(store.clone(), clock.clone(), membership)
            .await
            .map_err(StartError::Join)?;
        if restored.is_some() {
            starting.check().await.map_err(StartError::Alone)?;
            // Whoever lived when it was copied lives elsewhere, or not at all.
            ownership.outlive().await.map_err(StartError::Join)?;
        }
        starting.over().await;
        // Nobody shall read that a socket is up which went with the last process.
        store.sessions().after_restart().await.map_err(StartError::Restart)?;
        moment!("start.statuses_corrected");

        // Before any session dials: an address that is taken is the likeliest mistake.
        let ((listener, address), admin) = listeners.open(&config.http).await?;

        let session_tasks = TaskTracker::new();
        let sessions = Sessions::new(
            store.clone(),
            clock,
            session_options(&config, &state),
            ownership,
            session_tasks.clone(),
        );
        sessions.live();
        let resumed = sessions.resume().await.map_err(StartError::Resume)?;
        tracing::info!(sessions = resumed, "Resuming {resumed} sessions");
        tell_room_for(resumed);

        let background = TaskTracker::new();
        // A port that was found when 0 was asked for, too.
        let own = Own::new([address].into_iter().chain(admin.as_ref().map(|(_, at)| *at)));
        let deliveries = deliveries(&config, &store, &home, own, sessions.daemons(), &background)
            .map_err(StartError::Webhooks)?;

        let stop = Stop::new();
        let services = service::Services::new(
            &store,
            sessions.clone(),
            &deliveries,
            config.webhooks.max_age,
            meta(&config),
        )
        .with_external(external(&config.external))
        .with_lock({
            let lock = state.held();
            move || lock.is_ours()
        });
        let processor = services.meta.processor(&home);
        let (sender, watch) = (services.meta.sender(&home), services.meta.watch());
        let http_state = HttpState::new(
            services,
            http_limits(&config),
            edge(&config.http),
            stop.soft.clone(),
            session_tasks.clone(),
        );
        let (meters, connections) = (http_state.meters(), http_state.connections());
        // Without HTTP there is no daemon.
        let failed = CancellationToken::new();
        let http_tasks = TaskTracker::new();
        let serve = |listener, router, tls| {
            let (edge, counts) = (edge(&config.http), connections.clone());
            let options = http::ServeOptions { edge, counts, tls, ..http::ServeOptions::default() };
            let (soft, hard) = (stop.soft.clone(), stop.hard.clone());
            let serving = http::serve(listener, router, options, soft, hard);
            listeners::serve(serving, failed.clone().drop_guard())
        };
        let admin = admin.map(|(listener, address)| {
            let serving = serve(listener, http::admin_router(http_state.clone()), None);
            http_tasks.spawn(serving.instrument(info_span!("http.admin")));
            tracing::info!(http.address = %address, "Listening on {address}, for watchers");
            address
        });
        let serving = serve(listener, http::router(http_state), tls.clone());
        http_tasks.spawn(serving.instrument(info_span!("http")));
        tracing::info!(http.address = %address, "Listening on {address}");

        let maintenance = Maintenance::new(store.clone(), policy(&config), stop.soft.clone()).run();
        background.spawn(maintenance.instrument(info_span!("maintenance")));
        let handovers = maintenance::look_again(store.clone(), stop.soft.clone());
        background.spawn(handovers.instrument(info_span!("handovers")));
        let clearing = maintenance::clear_deleted(store.clone(), stop.soft.clone());
        background.spawn(clearing.instrument(info_span!("deleted")));
        let processing = processor.run(stop.soft.clone());
        background.spawn(processing.instrument(info_span!("meta")));
        background.spawn(sender.run(stop.soft.clone()).instrument(info_span!("meta.sending")));
        background.spawn(watch.run(stop.soft.clone()).instrument(info_span!("meta.silence")));
        let sending = deliveries.run(stop.soft.clone());
        background.spawn(sending.instrument(info_span!("delivery")));
        background.spawn(
            copies.clone().run(stop.soft.clone(), failed.clone()).instrument(info_span!("copies")),
        );

        if let Some(tls) = tls.clone() {
            let watch = certificate::watch(tls, stop.soft.clone());
            background.spawn(watch.instrument(info_span!("tls")));
        }

        Ok(Self {
            tls,
            meters,
            address,
            admin,
            database,
            token_path: state.token_path(),
            remembered,
            store,
            sessions,
            stop,
            failed,
            http_tasks,
            session_tasks,
            background,
            copies,
            http_grace: config.http.shutdown_grace,
            session_grace: config.whatsapp.shutdown_grace,
            longest_stop: longest_stop(&config),
            state,
        })
    }

    /// Where HTTP is answered; the port that was found when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The database, for tests that look behind the scenes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What was done with the past of newly paired accounts, since the start.
    pub fn history_stats(&self) -> session::HistoryStats {
        self.sessions.history_stats()
    }

    /// The file with the operator's bearer token.
    pub fn operator_token_path(&self) -> &Path {
        &self.token_path
    }

    /// Reads the certificate again, if there is one.
    pub async fn reload(&self) {
        if let Some(tls) = &self.tls {
            certificate::look(tls).await;
        }
    }

    /// From now on it may be asked as often as `config` says.
    pub fn set_limits(&self, config: &Config) {
        self.meters.set(&http_limits(config));
    }

    /// Has the audit log say what of this configuration is gone by from now on, and was another one.
    pub async fn goes_by(&self, config: &Config) {
        self.remembered.goes_by(config).await;
    }

    /// Returns when a part that the daemon cannot do without has ended unasked.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// What someone at a terminal wants to know: where everything is, and what to try.
    pub fn welcome(&self) -> String {
        let Self { address, database, .. } = self;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let version = env!("CARGO_PKG_VERSION");
        let token = self.token_path.display();
        let admin = self.admin.map(|it| format!("watchers  http://{it}\n  ")).unwrap_or_default();
        format!(
            "wagate {version} is running.\n  \
             address   {scheme}://{address}\n  \
             dashboard {scheme}://{address}/dashboard\n  \
             {admin}\
             database  {database}\n  \
             token     {token}\n  \
             try       curl -H \"Authorization: Bearer $(cat '{token}')\" \
             {scheme}://{address}/api/whatsapp/session/list-realtime\n"
        )
    }

    /// Ends every part in order, and answers which ended within their time.
    ///
    /// Dropping the future leaves at once, which the database survives as it survives a power cut.
    pub async fn shutdown(self) -> Stopped {
        // First those who ask, so that nothing new begins. Streams are closed at once, and no session
        // is dialled any more that would be closed in a moment.
        moment!("shutdown.begun");
        let stopping = Stopping::begin(self.longest_stop);
        self.stop.soft.cancel();
        self.sessions.stop_dialling();
        self.http_tasks.close();
        let http = timeout(self.http_grace, self.http_tasks.wait()).await.is_ok();
        self.stop.hard.cancel();
        if !http {
            tracing::warn!("Some requests were not answered in time and are cut off");
        }

        moment!("shutdown.http_closed");
        // Then the clients, all at once: each says goodbye and hands over what it has received.
        let mut sessions = self.sessions.shutdown(self.session_grace).await;
        self.session_tasks.close();
        sessions &= timeout(stopping.writing(), self.session_tasks.wait()).await.is_ok();
        if !sessions {
            tracing::warn!("Some sessions did not close in time and are cut off");
        }

        moment!("shutdown.sessions_closed");
        // What Meta was being asked is to be heard: otherwise nobody knows what came of it.
        self.background.close();
        if timeout(stopping.background(), self.background.wait()).await.is_ok() {
            timeout(stopping.writing(), self.copies.advance()).await.ok();
        } else {
            tracing::warn!(
                "Some of what runs in the background did not end in time and is cut off"
            );
        }

        // The store at last: everything above writes to it until it has ended.
        let store = timeout(STORE_GRACE, self.store.close()).await.is_ok();
        if !store {
            tracing::warn!("The database did not take the last writes in time");
        }
        moment!("shutdown.store_closed");
        drop(self.state);
        tracing::info!("Stopped");
        Stopped { http, sessions, store }
    }
}

/// Says how many sessions the limit on descriptors is enough for, and complains if they are more.
fn tell_room_for(sessions: usize) {
    let Some(limit) = descriptors::limit() else { return };
    let room = descriptors::sessions_within(limit);
    let is_enough = u64::try_from(sessions).is_ok_and(|sessions| sessions <= room);
    if is_enough {
        tracing::info!(limit, "{limit} descriptors are enough for about {room} sessions");
    } else {
        tracing::warn!(
            limit,
            "{limit} descriptors are enough for about {room} sessions, and {sessions} are to run: raise \
             LimitNOFILE= in the unit"
        );
    }
}

/// What a new installation begins with: an organization, and a token to act for it. At every later
/// start this finds both and changes nothing. Answers which organization is the first.
async fn first_run(store: &Store, state: &StateDir) -> Result<OrganizationId, StartError> {
    let organization = store
        .organizations()
        .ensure_default()
        .await
        .map_err(|err| StartError::FirstRun(err.into()))?;
    // The first data key: from here on another master key is noticed.
    store
        .sealer(&organization.id, Patience::Fail)
        .await
        .map_err(|err| StartError::FirstRun(err.into()))?;
    token::adopt(store, state, &organization.id).await?;
    Ok(organization.id)
}

/// Seals what an installation from before there were keys has in clear. Nothing at any later start.
async fn seal_old_rows(store: &Store) -> Result<(), store::Error> {
    if !store.has_clear_secrets().await? {
        return Ok(());
    }
    tracing::info!("Sealing secrets that are in the database in clear; this happens once");
    let sealed = device::seal_old_rows(store).await? + store.seal_old_rows().await?;
    tracing::info!(vault.rows = sealed, "Sealed {sealed} secrets");
    if let Err(error) = store.finish_sealing().await {
        // No reason to keep sessions offline: every row is sealed.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Free pages of the database may still show secrets; the next start tries again"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle;

    pub(super) const UNIT: &str = include_str!("../../systemd/wagate.service");

    /// What a unit says, in seconds.
    pub(super) fn seconds(unit: &str, key: &str) -> Duration {
        let seconds = unit.lines().find_map(|line| {
            line.strip_prefix(key)?.strip_prefix('=')?.strip_suffix('s')?.parse().ok()
        });
        Duration::from_secs(seconds.expect("the unit has it in seconds"))
    }

    #[test]
    fn the_watchdog_waits_for_a_database_that_is_away_and_says_so_late() {
        let config = Config::default();
        let patience = seconds(UNIT, "WatchdogSec");
        let options = store_options(&config, &config.database.url_in(&config.state_dir));
        // A commit that hangs, or a statement that SQLite runs until it is broken off, for a quarter longer; and then no
        // connection. What comes after is another step.
        let ping = options.deadline * 5 / 4 + 2 * options.acquire_timeout;
        assert!(patience / lifecycle::WATCHDOG_TURNS + ping < patience, "{ping:?} of {patience:?}");
    }
}
