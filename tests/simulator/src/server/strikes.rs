//! Faults that befall a connection, and unlinking.

use std::sync::Arc;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::login::conflict;
use super::{Hub, Link};
use crate::fault::{Fault, FaultId, Lasting, Scope};
use crate::observe::Inflicted;
use crate::people::person::Person;
use crate::{clock, locked};

impl Hub {
    /// Arms a fault; one that is about connections strikes the live ones at once. Connections that
    /// it cuts are over when this returns.
    ///
    /// Returns the name of what is armed, if there is still something to happen.
    pub(crate) async fn inflict(
        &self,
        scope: Scope,
        fault: Fault,
        lasting: Lasting,
    ) -> Option<FaultId> {
        let arm = || self.faults.arm(scope.clone(), fault.clone(), lasting);
        // A refusal is there before anybody it cuts off can come back.
        let refusal = fault.is_refusal().then(arm);
        let live = fault.strikes_connections();
        let struck = if live { self.strike_live(&scope, &fault) } else { Vec::new() };
        self.faults.meet(&fault, struck.len());
        let lasts = matches!(lasting, Lasting::UntilCleared | Lasting::Millis(_));
        let armed = refusal.or_else(|| (struck.is_empty() || lasts).then(arm));
        for link in struck.iter().filter(|_| fault.cuts()) {
            link.until_gone().await;
        }
        self.journal(Inflicted {
            at: clock::unix_millis(),
            struck: struck.len(),
            scope,
            fault,
            lasting,
        });
        armed
    }

    fn journal(&self, inflicted: Inflicted) {
        tracing::debug!(?inflicted, "fault");
        let mut journal = locked(&self.inflicted);
        if journal.len() >= self.options.memory {
            journal.pop_front();
        }
        journal.push_back(inflicted);
    }

    fn strike_live(&self, scope: &Scope, fault: &Fault) -> Vec<Link> {
        let links: Vec<Link> = locked(&self.links)
            .values()
            .filter(|link| scope.includes(link.device()) && !link.is_deaf())
            .cloned()
            .collect();
        for link in &links {
            self.strike(link, fault);
        }
        links
    }

    /// Somebody has just been let in: faults that waited for that strike now.
    pub(crate) fn strike_newcomer(&self, link: &Link) {
        if let Some(fault) = self.faults.strike(link.device(), Fault::strikes_newcomers) {
            tracing::debug!(device = ?link.device(), ?fault, "struck");
            self.strike(link, &fault);
        }
    }

    fn strike(&self, link: &Link, fault: &Fault) {
        match fault {
            fault if fault.cuts() => link.cut(),
            Fault::StreamError { code, child, stays_open } => {
                let error = stream_error(*code, child.as_deref());
                if *stays_open {
                    link.send(error);
                } else {
                    link.finish(error);
                }
            }
            Fault::BlackHole => link.deafen(),
            Fault::Replaced => link.finish(conflict("replaced", None)),
            Fault::Removed => match link.device().cloned() {
                Some(device) => {
                    if let Some(person) = self.directory.find(&device.pn) {
                        self.unlink(&person, device.device);
                    }
                }
                None => link.cut(),
            },
            _ => {}
        }
    }

    /// Unlinks a companion, as its owner does on the phone.
    pub(crate) fn unlink(&self, person: &Arc<Person>, device: u16) -> bool {
        let Some(companion) = person.unlink(device) else { return false };
        let link = companion.state().link.take();
        if let Some(link) = link {
            link.finish(conflict("device_removed", Some(401)));
        }
        person.journal.write(|entries| entries.online.retain(|it| *it != companion.key));
        self.announce_device(person, &companion, false);
        true
    }
}

/// `<stream:error>` with a code, a child, both or neither.
pub(crate) fn stream_error(code: Option<u16>, child: Option<&str>) -> Node {
    let mut error = NodeBuilder::new("stream:error");
    if let Some(code) = code {
        error = error.attr("code", code);
    }
    match child {
        Some(child) => error.children([NodeBuilder::new_dynamic(child.to_owned()).build()]).build(),
        None => error.build(),
    }
}
