//! Faults on demand: what the network and the server do to a client, when a test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::DeviceKey;
use crate::locked;

/// What goes wrong.
///
/// Faults of a connection act on live connections at once; if there is none, the next one gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
#[non_exhaustive]
pub enum Fault {
    /// The socket closes without a word.
    Drop,
    /// Frames are accepted and nothing is ever answered on this connection.
    BlackHole,
    /// TCP is accepted and the handshake never answered. For a single account, which is not known
    /// until the handshake is over, the login is never answered.
    SilentHandshake,
    /// Each stanza to the client is late by this much.
    Slow {
        /// The delay in milliseconds.
        millis: u64,
    },
    /// `<stream:error>` with conflict `replaced`: somebody else took the connection over.
    Replaced,
    /// The device is unlinked: `<stream:error>` with conflict `device_removed`, 401 afterwards.
    Removed,
    /// Login is refused with this `<failure reason>`; a live connection is closed.
    Failure {
        /// For example 401: not linked (any more).
        reason: u16,
    },
    /// A request for a pairing code is answered with this error.
    RefusePairingCode {
        /// 400, 403, 429, 452 and 500 have names in the protocol.
        code: u16,
    },
    /// A message is delivered twice.
    DuplicateDelivery,
    /// A message is held back until the one after it has been delivered.
    ReorderDelivery,
    /// A bit of a message's MAC is flipped on the way.
    CorruptCiphertext,
    /// A message of the client is acknowledged with this error, and not delivered.
    ErrorAck {
        /// For example 463, 479 or 500.
        code: u16,
    },
    /// A message of the client is delivered, and its acknowledgement lost.
    LoseAck,
}

/// Whom a fault befalls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every client.
    #[default]
    Everyone,
    /// All devices of one account, by phone number.
    Account(String),
    /// One device.
    Device(String, u16),
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// Once.
    #[default]
    Once,
    /// So many times.
    Times(u32),
    /// Until it is cleared.
    UntilCleared,
}

impl Scope {
    /// Whether this scope includes a device; `None` is a client before login.
    pub(crate) fn includes(&self, device: Option<&DeviceKey>) -> bool {
        match (self, device) {
            (Self::Everyone, _) => true,
            (_, None) => false,
            (Self::Account(pn), Some(device)) => **pn == *device.pn,
            (Self::Device(pn, number), Some(device)) => {
                **pn == *device.pn && *number == device.device
            }
        }
    }
}

impl Fault {
    /// Faults that act on a whole connection rather than on one stanza.
    pub(crate) fn strikes_connections(&self) -> bool {
        matches!(
            self,
            Self::Drop
                | Self::BlackHole
                | Self::Replaced
                | Self::Removed
                | Self::Failure { .. }
                | Self::SilentHandshake
        )
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Slow { millis } => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Armed {
    scope: Scope,
    fault: Fault,
    /// `None` until it is cleared.
    left: Option<u32>,
}

/// The faults that are waiting to happen.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
    /// Whether there are any, so that an undisturbed benchmark takes no lock per stanza.
    any: AtomicBool,
}

impl Faults {
    pub(crate) fn arm(&self, scope: Scope, fault: Fault, lasting: Lasting) {
        let left = match lasting {
            Lasting::Once => Some(1),
            Lasting::Times(times) => Some(times),
            Lasting::UntilCleared => None,
        };
        if left == Some(0) {
            return;
        }
        locked(&self.armed).push(Armed { scope, fault, left });
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self, scope: Option<&Scope>) {
        let mut armed = locked(&self.armed);
        armed.retain(|armed| scope.is_some_and(|scope| armed.scope != *scope));
        self.any.store(!armed.is_empty(), Ordering::Release);
    }

    /// Takes the first fault that applies, and counts it.
    pub(crate) fn strike(
        &self,
        device: Option<&DeviceKey>,
        wanted: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut armed = locked(&self.armed);
        let at = armed.iter().position(|it| it.scope.includes(device) && wanted(&it.fault))?;
        let fault = armed[at].fault.clone();
        if let Some(left) = &mut armed[at].left {
            *left -= 1;
            if *left == 0 {
                armed.remove(at);
                self.any.store(!armed.is_empty(), Ordering::Release);
            }
        }
        Some(fault)
    }

    /// What is armed, for `info`.
    pub(crate) fn list(&self) -> Vec<(Scope, Fault, Option<u32>)> {
        let armed = locked(&self.armed);
        armed.iter().map(|it| (it.scope.clone(), it.fault.clone(), it.left)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_fault_strikes_whom_it_is_meant_for_as_often_as_it_is_meant_to() {
        let faults = Faults::default();
        let alice = DeviceKey::new(&Arc::from("1"), 1);
        let bob = DeviceKey::new(&Arc::from("2"), 1);
        faults.arm(Scope::Account("1".to_owned()), Fault::LoseAck, Lasting::Times(2));
        let lose = |fault: &Fault| *fault == Fault::LoseAck;
        assert_eq!(faults.strike(Some(&bob), lose), None);
        assert_eq!(faults.strike(None, lose), None);
        assert!(faults.strike(Some(&alice), |fault| *fault == Fault::Drop).is_none());
        assert!(faults.strike(Some(&alice), lose).is_some());
        assert!(faults.strike(Some(&alice), lose).is_some());
        assert!(faults.strike(Some(&alice), lose).is_none());

        faults.arm(Scope::Everyone, Fault::Drop, Lasting::UntilCleared);
        assert!((0..9).all(|_| faults.strike(None, |fault| *fault == Fault::Drop).is_some()));
        faults.clear(None);
        assert!(faults.list().is_empty());
    }
}
