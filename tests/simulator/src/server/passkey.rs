//! Accounts that are protected by a passkey: instead of success, a pairing ends in a request for it.
//!
//! Only the request is simulated: nobody here holds a passkey, so whatever a client answers is
//! refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use wacore_binary::Node;

use super::pairing::Waiting;
use super::{Hub, Link};
use crate::fault::Fault;
use crate::people::person::Person;
use crate::wire::stanza::{self, node_with_bytes, server_jid};
use crate::{Error, locked};

/// The options of a request, as `WebAuthn` defines them and as JSON.
const OPTIONS: &str = "passkey_request_options";

impl Hub {
    /// Asks a client for the passkey, if a fault says so.
    pub(crate) fn demand_passkey(&self, person: &Arc<Person>, waiting: &Waiting) -> Option<Error> {
        let asks = |fault: &Fault| matches!(fault, Fault::AskPasskey { .. });
        let Some(Fault::AskPasskey { fetched }) =
            self.faults.strike(Some(&person.phone_key()), asks)
        else {
            return None;
        };
        waiting.asked_for_passkey.store(true, Ordering::Release);
        let mut request = self.notification("passkey_prologue_request", server_jid());
        if !fetched {
            request = request.children([options()]);
        }
        waiting.link.send(request.build());
        Some(Error::PasskeyRequired)
    }

    /// Whether a request before login is about a passkey that was asked for.
    pub(crate) fn concerns_passkey(&self, link: &Link, child: &Node) -> bool {
        let waiting = locked(&self.waiting);
        let mut asked = waiting.values().filter(|it| it.link.id() == link.id());
        asked.any(|it| it.asked_for_passkey.load(Ordering::Acquire))
            && matches!(&*child.tag, OPTIONS | "ref" | "passkey_prologue")
    }

    pub(crate) fn passkey_request(&self, iq: &Node, child: &Node) -> Node {
        match &*child.tag {
            OPTIONS => stanza::result(iq, vec![options()]),
            "ref" => {
                let reference = format!("4@{:016x}", self.number()).into_bytes();
                stanza::result(iq, vec![node_with_bytes("ref", reference)])
            }
            _ => stanza::error(iq, 403, "forbidden"),
        }
    }
}

fn options() -> Node {
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let credential = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    let options = json!({
        "challenge": challenge,
        "rpId": "web.whatsapp.com",
        "allowCredentials": [{"type": "public-key", "id": credential}],
        "userVerification": "required",
        "timeout": 60_000,
    });
    node_with_bytes(OPTIONS, options.to_string().into_bytes())
}
