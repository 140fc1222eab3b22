//! Faults that befall a connection, and unlinking.

use std::sync::Arc;

use super::login::conflict;
use super::{Hub, Link};
use crate::fault::{Fault, Lasting, Scope};
use crate::locked;
use crate::people::companion::Companion;
use crate::people::person::Person;

impl Hub {
    /// Arms a fault; one that is about connections strikes the live ones at once. Connections that
    /// it ends are over when this returns.
    pub(crate) async fn inflict(&self, scope: Scope, fault: Fault, lasting: Lasting) {
        // Live connections are struck first: arming it for them would strike only the next ones.
        let live = fault.strikes_connections() && fault != Fault::SilentHandshake;
        let struck = if live { self.strike_live(&scope, &fault) } else { Vec::new() };
        let ends = matches!(fault, Fault::Drop | Fault::Failure { .. });
        if struck.is_empty() || lasting == Lasting::UntilCleared {
            self.faults.arm(scope, fault, lasting);
        }
        for link in struck.iter().filter(|_| ends) {
            link.until_gone().await;
        }
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

    /// A device has just logged in: faults that waited for it strike now.
    pub(crate) fn strike_newcomer(&self, link: &Link, person: &Arc<Person>, companion: &Companion) {
        let waits = |fault: &Fault| {
            fault.strikes_connections()
                && !matches!(fault, Fault::Failure { .. } | Fault::SilentHandshake)
        };
        if let Some(fault) = self.faults.strike(Some(&companion.key), waits) {
            tracing::debug!(device = %companion.key, account = %person.pn, ?fault, "struck");
            self.strike(link, &fault);
        }
    }

    fn strike(&self, link: &Link, fault: &Fault) {
        match fault {
            Fault::Drop | Fault::Failure { .. } => link.cut(),
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
