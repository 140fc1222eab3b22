//! Names of devices inside the simulator.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use wacore_binary::Jid;

/// The primary device of every account: the phone itself.
pub(crate) const PHONE: u16 = 0;

/// One device of one account, whatever namespace (phone number or LID) it was addressed in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKey {
    /// The account's phone number, digits only.
    pub pn: Arc<str>,
    /// 0 for the phone, the companion's number otherwise.
    pub device: u16,
}

impl DeviceKey {
    pub(crate) fn new(pn: &Arc<str>, device: u16) -> Self {
        Self { pn: Arc::clone(pn), device }
    }

    /// The device's address by phone number.
    pub(crate) fn jid(&self) -> Jid {
        Jid::pn_device(&*self.pn, self.device)
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pn, self.device)
    }
}

impl Serialize for DeviceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Digits only, as phone numbers name accounts: `+1 555 000-1111` is `15550001111`.
pub(crate) fn digits(number: &str) -> String {
    let number = number.split(['@', ':']).next().unwrap_or_default();
    number.chars().filter(char::is_ascii_digit).collect()
}
