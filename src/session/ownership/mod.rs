//! Which sessions are ours to run, among the daemons that share a database.
//!
//! - [`Ownership`] is this daemon's membership: whoever runs a session asks it for the lease first.
//! - `tenure.rs`: how long what we own is surely ours, by our own measure.
//! - `keeper.rs` says in time that we live, takes our share of what nobody runs, and does what others
//!   ask of us. `forward.rs` is how we ask. `neighbours.rs` knows which daemons have fallen silent, and which are dead.
//!
//! # Never two clients of one device
//!
//! A client is opened only by the owner of the session, and there is one: `store::leases` sees to
//! that. An owner that dies is known to be dead when its time has run out in the database. An owner
//! that lives but cannot say so, because it is cut off from the database or was paused, stops at the
//! end of its [`Tenure`], which is always earlier:
//!
//! | since the last renewal began | default | |
//! |---|---|---|
//! | a sixth of the lease | 5 s | the next renewal; one that fails is tried again each second |
//! | two thirds | 20 s | the tenure is over: sockets are cut, nothing more is sent; others say that the sessions are not connected |
//! | all of it | 30 s | other daemons take the sessions over |
//!
//! A process that is paused cannot stop anything. When it goes on, each frame it is about to send and
//! each dial asks the tenure first, on a clock that went on, so nothing leaves; and whatever it
//! still writes carries the epoch of a lease that somebody else has renewed, and is refused with all
//! its effects. What WhatsApp has delivered to it meanwhile is therefore not acknowledged. That its old socket
//! stays open while it is paused is nobody's to change; WhatsApp closes it when the new owner
//! logs in.
//!
//! When the database comes back after that, or the process goes on, it joins again under a new name,
//! and takes over what nobody else has taken: alone, everything.
//!
//! # SQLite
//!
//! A SQLite file is locked by one process (`state_dir`), so nobody can take anything over: the tenure
//! has no end, and a session waits out a disk that is full or read-only, connected. What nobody runs is
//! looked for all the same, less often: a step that the database refused may have left a session so.

mod forward;
mod keeper;
mod neighbours;
mod tenure;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::id::SessionKey;
use tokio_util::sync::CancellationToken;

pub(super) use self::{
    forward::{Answer, Ask, Asked},
    keeper::Keeper,
    tenure::Tenure,
};
use super::Error;
use crate::{
    clock::Clock,
    fault::moment,
    store::{Lease, Store, leases::Survey, nodes::NewNode},
};

/// Who this daemon is among those that share its database.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Names the state directory, whose lock is held: what ran here before is dead.
    pub home: String,
    /// For people.
    pub name: String,
    /// How long we are taken to live without saying so again; none when no other process can use
    /// the database.
    pub lease: Option<Duration>,
}

/// This daemon's membership. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ownership {
    store: Store,
    clock: Clock,
    me: Arc<Membership>,
    tenure: Arc<Mutex<Arc<Tenure>>>,
    /// Nodes that lived when we last looked.
    nodes: Arc<AtomicU64>,
}

impl Ownership {
    /// Begins to live among the others. What a predecessor in the same state directory owned is free
    /// from now on.
    pub async fn join(store: Store, clock: Clock, me: Membership) -> Result<Self, Error> {
        let me = Arc::new(me);
        let tenure = begin(&store, &clock, &me).await?;
        Ok(Self {
            store,
            clock,
            me,
            tenure: Arc::new(Mutex::new(Arc::new(tenure))),
            nodes: Arc::new(AtomicU64::new(1)),
        })
    }

    /// Takes all others for dead, for a database that is a copy: they were copied with it. One that
    /// lives all the same notices, stops its sessions and joins again.
    pub async fn outlive(&self) -> Result<(), Error> {
        Ok(self.store.nodes().outlive(self.tenure().node()).await?)
    }

    /// The present tenure.
    pub(super) fn tenure(&self) -> Arc<Tenure> {
        Arc::clone(&self.tenure.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether what we own is surely ours.
    pub fn holds(&self) -> bool {
        self.tenure().holds()
    }

    /// Whether other processes may use the database.
    pub(super) fn is_shared(&self) -> bool {
        self.me.lease.is_some()
    }

    /// Begins anew after a tenure has ended.
    async fn rejoin(&self) -> Result<(), Error> {
        let tenure = begin(&self.store, &self.clock, &self.me).await?;
        *self.tenure.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tenure);
        Ok(())
    }

    /// Becomes, or stays, the owner of a session.
    pub(super) async fn own(&self, key: &SessionKey) -> Result<Hold, Error> {
        let tenure = self.tenure();
        if !tenure.holds() {
            return Err(Error::NoLease);
        }
        let leases = self.store.leases();
        match leases.claim(tenure.node(), vec![key.clone()]).await?.pop() {
            Some(lease) => {
                moment!("lease.taken");
                Ok(Hold::new(lease, tenure))
            }
            None => Err(self.somebody_else(key).await),
        }
    }

    /// Becomes the owner of all of these sessions that are free.
    pub(super) async fn own_all(&self, keys: Vec<SessionKey>) -> Result<Vec<Hold>, Error> {
        let tenure = self.tenure();
        if !tenure.holds() {
            return Err(Error::NoLease);
        }
        let leases = self.store.leases().claim(tenure.node(), keys).await?;
        if !leases.is_empty() {
            moment!("leases.taken");
        }
        Ok(leases.into_iter().map(|lease| Hold::new(lease, Arc::clone(&tenure))).collect())
    }

    /// Gives a session back.
    pub(super) async fn release(&self, hold: &Hold) {
        // A tenure that is over has given everything back.
        if hold.tenure.is_over() {
            return;
        }
        if let Err(error) = self.store.leases().release(&hold.lease).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session.key = %hold.lease.session,
                "A session could not be given back"
            );
        }
    }

    /// Why a session cannot be ours.
    pub(super) async fn somebody_else(&self, key: &SessionKey) -> Error {
        match self.owner(key).await {
            Ok(Some(node)) => Error::Elsewhere { node },
            Ok(None) => match self.store.sessions().find_by_key(key).await {
                Ok(Some(_)) => Error::Elsewhere { node: String::new() },
                Ok(None) => Error::NotFound,
                Err(error) => error.into(),
            },
            Err(error) => error,
        }
    }

    /// The name of the other node that owns a session, if one does.
    pub(super) async fn owner(&self, key: &SessionKey) -> Result<Option<String>, Error> {
        if !self.is_shared() {
            return Ok(None);
        }
        let owner = self.store.leases().owner(key).await?;
        let me = self.tenure();
        Ok(owner.filter(|node| node.id != *me.node()).map(|node| node.name))
    }

    /// How many daemons live, we among them: kept to what we see when we look.
    pub(super) fn nodes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.nodes)
    }

    /// Whether somebody else lives, as far as we know.
    pub(super) fn is_alone(&self) -> bool {
        self.nodes.load(Ordering::Relaxed) <= 1
    }

    /// Whether one session more would be more than our share.
    pub(super) async fn is_full(&self) -> Result<bool, Error> {
        if self.is_alone() {
            return Ok(false);
        }
        let survey = self.survey().await?;
        Ok(survey.own >= (survey.held + 1).div_ceil(survey.nodes.max(1)))
    }

    /// How many of `free` sessions that shall run are ours to take.
    pub(super) async fn room(&self, free: usize) -> Result<usize, Error> {
        let survey = self.survey().await?;
        let share = (survey.held + free as u64).div_ceil(survey.nodes.max(1));
        Ok(usize::try_from(share.saturating_sub(survey.own)).unwrap_or(0))
    }

    async fn survey(&self) -> Result<Survey, Error> {
        let survey = self.store.leases().survey(self.tenure().node()).await?;
        self.nodes.store(survey.nodes, Ordering::Relaxed);
        Ok(survey)
    }

    /// Ends our life: what we own is free at once. Everything that we ran must have ended; what has
    /// not is cut off.
    pub(super) async fn leave(&self) {
        let tenure = self.tenure();
        tenure.end();
        let nodes = self.store.nodes();
        let left = async {
            nodes.leave(tenure.node()).await?;
            // Nobody shall read that a socket is up which we have closed.
            self.store.sessions().after_restart().await
        };
        if let Err(error) = left.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The sessions could not be given back; others take them over when the lease is over"
            );
        }
    }
}

async fn begin(store: &Store, clock: &Clock, me: &Membership) -> Result<Tenure, Error> {
    // Before the database writes its own time: ours ends first.
    let begun = clock.monotonic();
    let new = NewNode { home: me.home.clone(), name: me.name.clone(), lease: me.lease };
    let node = store.nodes().join(new).await?;
    Ok(Tenure::new(node, clock.clone(), me.lease.map(|lease| begun + certain(lease))))
}

/// How long after the beginning of a renewal we own what we own.
const fn certain(lease: Duration) -> Duration {
    lease.saturating_mul(2).checked_div(3).expect("three is not zero")
}

/// A session that is ours: the right to run it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    lease: Lease,
    tenure: Arc<Tenure>,
}

impl Hold {
    fn new(lease: Lease, tenure: Arc<Tenure>) -> Self {
        Self { lease, tenure }
    }

    /// Which session.
    pub(super) fn session(&self) -> &SessionKey {
        &self.lease.session
    }

    /// The store, to write for the session.
    pub(super) fn store(&self, store: &Store) -> Store {
        store.under(self.lease.clone())
    }

    /// How long it is ours.
    pub(super) fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    /// Runs the session. `stop` is cancelled when it is not ours any more.
    pub(super) async fn until_lost<T>(
        &self,
        run: impl Future<Output = T>,
        stop: &CancellationToken,
    ) -> T {
        let lost = async {
            tokio::select! {
                () = self.tenure.over().cancelled() => {}
                () = self.lease.lost.cancelled() => tracing::warn!(
                    session.epoch = self.lease.epoch,
                    "Another daemon has taken the session over; it stops here"
                ),
            }
            stop.cancel();
            std::future::pending::<T>().await
        };
        tokio::select! {
            biased;
            ended = run => ended,
            never = lost => never,
        }
    }
}
