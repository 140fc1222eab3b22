//! Pairing by QR code.
//!
//! An unpaired client gets references; it shows them as codes, with its keys and a secret only the
//! code carries. The phone that scans one vouches for the client's identity under that secret, the
//! client checks and countersigns, and the stream is restarted with `515`.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tracing::debug_span;
use wacore::pair::PairUtils;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::buffa::Message as _;

use super::{Hub, Link};
use crate::clock::unix_seconds;
use crate::fault::Fault;
use crate::people::companion::{Companion, Registration};
use crate::people::person::Person;
use crate::signal::bundle::Key;
use crate::violation::ViolationKind;
use crate::wire::stanza::{Stanza, node_with_bytes, server_jid};
use crate::{Error, adv, locked};

/// The stream must be opened again to go on as a linked device.
const RESTART: u16 = 515;

/// An unpaired connection.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) link: Link,
    pub(crate) noise: Key,
    pub(crate) registration: Registration,
    /// Whether the client has been asked for the passkey of the account.
    pub(crate) asked_for_passkey: AtomicBool,
    /// The pairing that was begun and waits for the client's signature.
    begun: Mutex<Option<Begun>>,
}

#[derive(Debug)]
struct Begun {
    /// The id of the `<pair-success>` the client answers.
    request: String,
    person: Arc<Person>,
    companion: Arc<Companion>,
    done: oneshot::Sender<Result<u16, Error>>,
}

impl Hub {
    /// Gives an unpaired client its references.
    pub(crate) fn offer_pairing(&self, link: &Link, noise: Key, registration: Registration) {
        let refuses = |fault: &Fault| matches!(fault, Fault::RefusePairing { .. });
        if let Some(Fault::RefusePairing { code }) = self.faults.strike(None, refuses) {
            link.finish(refused_offer(format!("pair-device-{}", self.number()), code));
            return;
        }
        let waiting = Arc::new(Waiting {
            link: link.clone(),
            noise,
            registration,
            asked_for_passkey: AtomicBool::new(false),
            begun: Mutex::default(),
        });
        let refs: Vec<String> = (0..self.options.pairing_refs.max(1))
            .map(|_| format!("2@{:016x}{:016x}", self.number(), rand::random::<u64>()))
            .collect();
        {
            let mut all = locked(&self.waiting);
            for reference in &refs {
                all.insert(reference.clone(), Arc::clone(&waiting));
            }
        }
        let refs = refs.into_iter().map(|it| node_with_bytes("ref", it.into_bytes()));
        let offer = NodeBuilder::new("pair-device").children(refs).build();
        // `from` is not decoration: a client answers to it, or not at all.
        link.send(request(format!("pair-device-{}", self.number()), offer));
    }

    /// The phone scans a code; returns the device number once the client has signed.
    pub(crate) async fn scan(&self, person: &Arc<Person>, qr: &str) -> Result<u16, Error> {
        let qr = qr.trim();
        let (reference, noise, identity) =
            PairUtils::parse_qr_code(qr).map_err(|error| Error::BadQr(error.to_string()))?;
        let secret = adv_secret(qr)?;
        let waiting = locked(&self.waiting).get(&reference).map(Arc::clone);
        let waiting = waiting.ok_or(Error::StaleQr)?;
        if waiting.noise != noise || waiting.registration.identity != identity {
            return Err(Error::ForeignQr);
        }
        self.pair(person, &waiting, &secret).await
    }

    /// Vouches for a waiting client and waits for its signature.
    pub(crate) async fn pair(
        &self,
        person: &Arc<Person>,
        waiting: &Arc<Waiting>,
        secret: &[u8],
    ) -> Result<u16, Error> {
        if let Some(error) = self.demand_passkey(person, waiting) {
            return Err(error);
        }
        let strikes = |it: &Fault| *it == Fault::ForgePairing;
        let forged = self.faults.strike(Some(&person.phone_key()), strikes).is_some();
        let secret = if forged { &[0; 32] } else { secret };
        let companion =
            Companion::new(person.next_key(), waiting.noise, waiting.registration.clone());
        let companion = Arc::new(companion);
        let identity = adv::introduce(
            person.endpoint.identity(),
            person.raw_id,
            &waiting.registration.identity,
            u32::from(companion.key.device),
            secret,
        );
        let request_id = format!("pair-success-{}", self.number());
        let (done, signed) = oneshot::channel();
        let begun = Begun {
            request: request_id.clone(),
            person: Arc::clone(person),
            companion: Arc::clone(&companion),
            done,
        };
        *locked(&waiting.begun) = Some(begun);
        waiting.link.send(request(request_id, self.pair_success(person, &companion, identity)));
        match tokio::time::timeout(self.options.deadline, signed).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::PairingRefused("its connection ended".to_owned())),
            Err(_) => Err(Error::PairingRefused("it did not sign in time".to_owned())),
        }
    }

    fn pair_success(&self, person: &Person, companion: &Companion, identity: Vec<u8>) -> Node {
        let mut device = NodeBuilder::new("device").attr("jid", companion.key.jid());
        if let Some(lid) = person.lid() {
            device = device.attr("lid", Jid::lid_device(lid, companion.key.device));
        }
        let mut children = vec![
            node_with_bytes("device-identity", identity),
            device.build(),
            NodeBuilder::new("platform").attr("name", "android").build(),
        ];
        if self.options.lid_migrated {
            let props = waproto::whatsapp::ClientPairingProps {
                is_chat_db_lid_migrated: Some(true),
                ..Default::default()
            };
            children.push(node_with_bytes("client-props", props.encode_to_vec()));
        }
        NodeBuilder::new("pair-success").children(children).build()
    }

    /// The client's answer to `<pair-success>`.
    pub(crate) fn pairing_answered(&self, link: &Link, answer: &Node) {
        let id = answer.id();
        let waiting = locked(&self.waiting).values().find(|it| it.link.id() == link.id()).cloned();
        let Some(waiting) = waiting else { return };
        let begun = {
            let mut begun = locked(&waiting.begun);
            begun.take_if(|begun| begun.request == id)
        };
        // Anything else is the answer to the references, which needs no answer.
        let Some(begun) = begun else { return };
        let outcome = self.countersigned(&begun, answer);
        if outcome.is_ok() {
            self.counters.pairings.one();
            begun.person.link(Arc::clone(&begun.companion));
            self.announce_device(&begun.person, &begun.companion, true);
            self.forget_waiting(link);
            self.restart(link);
        }
        // Whoever scanned may have stopped waiting; the pairing stands.
        begun.done.send(outcome).ok();
    }

    fn countersigned(&self, begun: &Begun, answer: &Node) -> Result<u16, Error> {
        if answer.kind() == "error" {
            let text = answer.child("error").and_then(|error| error.text("text"));
            return Err(Error::PairingRefused(text.unwrap_or_default()));
        }
        let identity =
            answer.child("pair-device-sign").and_then(|sign| sign.child_bytes("device-identity"));
        let companion = &begun.companion;
        let checked = identity.ok_or("pair-device-sign has no device identity").and_then(|bytes| {
            let account = begun.person.endpoint.identity_public();
            adv::verify(bytes, &account, &companion.registration.identity).map(|()| bytes.to_vec())
        });
        match checked {
            Ok(identity) => {
                companion.state().device_identity = Some(identity);
                Ok(companion.key.device)
            }
            Err(text) => {
                self.violations.record(ViolationKind::BadSignature, Some(&companion.key), text);
                Err(Error::PairingRefused(text.to_owned()))
            }
        }
    }

    fn restart(&self, link: &Link) {
        let (link, delay) = (link.clone(), self.options.restart_delay);
        self.spawn(debug_span!("restart"), async move {
            tokio::time::sleep(delay).await;
            link.finish(NodeBuilder::new("stream:error").attr("code", RESTART).build());
        });
    }

    /// A connection that is over, or paired, is no longer waiting.
    pub(crate) fn forget_waiting(&self, link: &Link) {
        locked(&self.waiting).retain(|_, waiting| {
            let over = waiting.link.id() == link.id();
            if over {
                // Whoever scanned is told at once.
                locked(&waiting.begun).take();
            }
            !over
        });
        locked(&self.codes).retain(|_, code| code.waiting.link.id() != link.id());
    }
}

/// An `<iq type="set">` of the server.
pub(crate) fn request(id: String, child: Node) -> Node {
    NodeBuilder::new("iq")
        .attr("from", server_jid())
        .attr("type", "set")
        .attr("id", id)
        .attr("xmlns", "md")
        .attr("t", unix_seconds())
        .children([child])
        .build()
}

/// What a client gets that may not be linked at all.
fn refused_offer(id: String, code: u16) -> Node {
    let text = match code {
        401 => "not-authorized",
        403 => "forbidden",
        405 => "not-allowed",
        429 => "rate-overlimit",
        _ => "internal-server-error",
    };
    let error = NodeBuilder::new("error").attr("code", code).attr("text", text).build();
    NodeBuilder::new("iq")
        .attr("from", server_jid())
        .attr("type", "error")
        .attr("id", id)
        .attr("t", unix_seconds())
        .children([error])
        .build()
}

/// The fourth field of a code. The link some clients put in front has no comma.
fn adv_secret(qr: &str) -> Result<Vec<u8>, Error> {
    use base64::Engine as _;
    let field = qr.split(',').nth(3).unwrap_or_default();
    base64::prelude::BASE64_STANDARD
        .decode(field)
        .map_err(|error| Error::BadQr(format!("its secret is not base64: {error}")))
}
