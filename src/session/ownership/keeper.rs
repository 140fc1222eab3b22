//! What a daemon does all the time to live among others.
//!
//! Three loops, so that none waits for another: saying that we live, looking what nobody runs, and
//! doing what others ask. The first is what everything depends on.
//!
//! # Fair shares
//!
//! Each node takes free sessions until it owns as many as are its share: all that run or shall run,
//! divided by the nodes, rounded up. Nothing that runs is moved: a node that joins gets what becomes
//! free and its share of what is new. A session that stays free for [`TOO_LONG`] is taken by
//! whoever sees it, so that a node that lives but takes nothing keeps none from running.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use entity::{id::SessionKey, session};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Ask, Ownership, certain, forward::Answer, neighbours::Neighbours};
use crate::{
    clock::Clock,
    session::{manager::Sessions, standing::is_ended},
    store::nodes::Life,
};

/// How often one looks what is free, and what is not wanted any more.
const LOOK: Duration = Duration::from_secs(1);

/// How often a daemon that shares its database with nobody does: what is free then is what a step of its own
/// has left behind.
const LOOK_ALONE: Duration = Duration::from_secs(10);

/// How often one looks what others ask, while there are others.
const LISTEN: Duration = Duration::from_millis(250);

/// How long after a renewal that failed the next is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a session may be free before its being more than our share is no reason to leave it.
const TOO_LONG: Duration = Duration::from_secs(5);

/// The loops, and what they remember.
#[derive(Debug)]
pub(in crate::session) struct Keeper {
    sessions: Sessions,
    ownership: Ownership,
    clock: Clock,
    /// Since when sessions have been seen free.
    free_since: HashMap<SessionKey, Duration>,
    /// Sessions that were not wanted at the last look. One look may come between what the API
    /// writes and what it does.
    unwanted: HashSet<SessionKey>,
    neighbours: Neighbours,
}

impl Keeper {
    pub(in crate::session) fn new(sessions: Sessions, ownership: Ownership) -> Self {
        let clock = ownership.clock.clone();
        Self {
            sessions,
            ownership,
            clock,
            free_since: HashMap::new(),
            unwanted: HashSet::new(),
            neighbours: Neighbours::default(),
        }
    }

    /// Says that we live, until `left`.
    pub(in crate::session) async fn live(ownership: Ownership, left: CancellationToken) {
        let Some(lease) = ownership.me.lease else { return };
        left.run_until_cancelled(live(&ownership, lease)).await;
    }

    /// Looks what nobody runs, until `stop`.
    pub(in crate::session) async fn look(mut self, stop: CancellationToken) {
        let pause = if self.ownership.is_shared() { LOOK } else { LOOK_ALONE };
        let looking = async {
            loop {
                self.clock.sleep_until_monotonic(self.clock.monotonic() + pause).await;
                if self.ownership.holds()
                    && let Err(error) = self.look_once().await
                {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "What nobody runs could not be looked at"
                    );
                }
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    /// Does what others ask, until `stop`.
    pub(in crate::session) async fn listen(
        sessions: Sessions,
        ownership: Ownership,
        stop: CancellationToken,
    ) {
        let listening = async {
            let clock = ownership.clock.clone();
            let mut pulse = 0;
            loop {
                let pause = if ownership.is_alone() { LOOK } else { LISTEN };
                clock.sleep_until_monotonic(clock.monotonic() + pause).await;
                if ownership.holds()
                    && let Err(error) = listen_once(&sessions, &ownership, &mut pulse).await
                {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "What other daemons ask could not be looked at"
                    );
                }
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    async fn look_once(&mut self) -> Result<(), crate::session::Error> {
        let store = self.ownership.store.clone();
        if let Some(lease) = self.ownership.me.lease {
            self.look_at_others(lease).await?;
        }
        let neglected = store.leases().neglected().await?;
        let claiming: Vec<SessionKey> = neglected
            .iter()
            .filter(|row| !is_ended(row.status))
            .map(|row| row.id.clone())
            .collect();
        if !claiming.is_empty() {
            store.leases().take_back(claiming).await?;
        }

        let wanted: Vec<session::Model> =
            neglected.into_iter().filter(|row| self.sessions.goes_on(row)).collect();
        let room = self.ownership.room(wanted.len()).await?;
        let chosen = self.choose(&wanted, room);
        if !chosen.is_empty() {
            let holds = self.ownership.own_all(chosen).await?;
            tracing::info!(sessions = holds.len(), "Taking over {} sessions", holds.len());
            self.sessions.start_held(holds);
        }

        let unwanted = store.leases().unwanted(self.ownership.tenure().node()).await?;
        let unwanted: HashSet<SessionKey> = unwanted.into_iter().collect();
        for key in unwanted.intersection(&self.unwanted) {
            self.sessions.stop_unwanted(key.clone());
        }
        self.unwanted = unwanted;
        Ok(())
    }

    /// Looks who is dead, and says of whom has fallen silent that its sessions are not connected.
    async fn look_at_others(&mut self, lease: Duration) -> Result<(), crate::session::Error> {
        let store = &self.ownership.store;
        let lives = store.nodes().lives().await?;
        let lost = self.neighbours.look(lives, self.clock.monotonic(), lease);
        let buried = store.nodes().bury(lost.dead).await?;
        for (_, name) in &buried {
            tracing::warn!(node.name = %name, "{name} is taken for dead; its sessions are free");
        }
        let tenure = self.ownership.tenure();
        let is_there = |life: &Life| {
            life.node != *tenure.node() && buried.iter().all(|(id, _)| *id != life.node)
        };
        for life in lost.silent.into_iter().filter(is_there) {
            let sessions = store.leases().claimed(&life.node).await?;
            if !sessions.is_empty() {
                tracing::warn!(
                    node.id = %life.node,
                    sessions = sessions.len(),
                    "A daemon has fallen silent; its sessions are not connected any more"
                );
                store.leases().take_back_from(&life, sessions).await?;
            }
        }
        store.commands().expire().await?;
        Ok(())
    }

    /// Which of the free sessions to take: so many, and those that nobody else takes.
    fn choose(&mut self, wanted: &[session::Model], room: usize) -> Vec<SessionKey> {
        let now = self.clock.monotonic();
        self.free_since.retain(|key, _| wanted.iter().any(|row| row.id == *key));
        let mut chosen = Vec::new();
        for (place, row) in wanted.iter().enumerate() {
            let since = *self.free_since.entry(row.id.clone()).or_insert(now);
            if place < room || now.saturating_sub(since) >= TOO_LONG {
                chosen.push(row.id.clone());
            }
        }
        chosen
    }
}

/// Renews in time; ends the tenure when that does not succeed, and begins anew when it can.
async fn live(ownership: &Ownership, lease: Duration) {
    let (clock, nodes) = (&ownership.clock, ownership.store.nodes());
    loop {
        let tenure = ownership.tenure();
        let begun = clock.monotonic();
        let pause = tokio::select! {
            biased;
            () = tenure.over().cancelled() => None,
            () = tenure.expired() => {
                tracing::error!(
                    "The database could not be told in time that we live: \
                     all sessions stop here, others may run them"
                );
                None
            }
            renewed = nodes.renew(tenure.node(), lease) => match renewed {
                Ok(true) => {
                    tenure.extend(begun + certain(lease));
                    Some(lease / 6)
                }
                Ok(false) => {
                    tracing::error!("We were taken for dead: all sessions stop here");
                    None
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "The database could not be told that we live; trying again"
                    );
                    Some(AGAIN.min(lease / 12))
                }
            },
        };
        if let Some(pause) = pause {
            tokio::select! {
                biased;
                () = tenure.expired() => {}
                () = clock.sleep_until_monotonic(clock.monotonic() + pause) => {}
            }
            continue;
        }
        tenure.end();
        while let Err(error) = ownership.rejoin().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "The other daemons cannot be joined yet"
            );
            clock.sleep_until_monotonic(clock.monotonic() + AGAIN).await;
        }
        tracing::info!("Among the living again");
    }
}

async fn listen_once(
    sessions: &Sessions,
    ownership: &Ownership,
    pulse: &mut i64,
) -> Result<(), crate::session::Error> {
    // What others record rings their bell, not ours.
    let felt = ownership.store.organizations().pulse().await?;
    if std::mem::replace(pulse, felt) != felt {
        ownership.store.writer().ring();
    }
    let tenure = ownership.tenure();
    let commands = ownership.store.commands();
    for (letter, request) in commands.waiting(tenure.node()).await? {
        if !commands.take(&letter, tenure.node()).await? {
            continue;
        }
        let (asked, commands) = (sessions.clone(), commands.clone());
        let sessions = sessions.clone();
        let span = tracing::info_span!(parent: None, "asked", session.key = %letter.session);
        let answering = async move {
            let answer = match serde_json::from_str::<Ask>(&request) {
                Ok(ask) => Answer::of(sessions.obey(&letter.session, ask).await),
                // From a daemon of another version.
                Err(_) => Answer::of(Err(crate::session::Error::Timeout)),
            };
            let answer = serde_json::to_string(&answer).unwrap_or_default();
            if let Err(error) = commands.answer(&letter, &answer).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Another daemon could not be answered"
                );
            }
        };
        asked.spawn(answering.instrument(span));
    }
    Ok(())
}
