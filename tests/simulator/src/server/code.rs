//! Pairing by an eight-character code, typed into the phone.
//!
//! Client and phone exchange ephemeral keys through the server, each encrypted under the code, and
//! derive from them and their identities the secret that a QR code would have carried. Nobody can
//! tell a wrong code from a right one until the client's key bundle does not decrypt.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wacore::crypto::hkdf_sha256_into;
use wacore::pair_code::PairCodeUtils;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_libsignal::crypto::aes_256_gcm_decrypt;
use wacore_libsignal::protocol::KeyPair;

use super::{Hub, Link, Waiting};
use crate::clock::unix_seconds;
use crate::fault::Fault;
use crate::people::person::Person;
use crate::signal::bundle::{Key, key_bytes, public_key};
use crate::violation::ViolationKind;
use crate::wire::stanza::{self, Stanza, node_with_bytes, server_jid};
use crate::{Error, address, locked};

/// Salt, initialisation vector, and 96 bytes sealed with a 16-byte tag.
const WRAPPED_BUNDLE: usize = 32 + 12 + 96 + 16;

/// The time over which requests are counted while they are limited.
const WINDOW: Duration = Duration::from_mins(1);

/// Seconds that whoever asks too often is told to wait on top of that.
const MARGIN: u64 = 5;

const RATE_LIMITED: u16 = 429;

/// A client that waits for its code to be typed.
#[derive(Debug)]
pub(crate) struct WaitingCode {
    pub(crate) waiting: Arc<Waiting>,
    reference: String,
    /// The client's ephemeral key, under the code.
    wrapped: Vec<u8>,
    typed: Mutex<Option<Typed>>,
}

/// What the phone knows once a code has been typed into it.
struct Typed {
    ephemeral: KeyPair,
    companion_ephemeral: Key,
    finished: oneshot::Sender<Result<Vec<u8>, Error>>,
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

impl Hub {
    /// `<link_code_companion_reg>` from a client, in either of its stages.
    pub(crate) fn link_code(&self, link: &Link, iq: &Node, registration: &Node) -> Node {
        match registration.text("stage").as_deref() {
            Some("companion_hello") => self.companion_hello(link, iq, registration),
            Some("companion_finish") => self.companion_finish(iq, registration),
            _ => {
                let text = "link_code_companion_reg without a known stage";
                self.violations.record(ViolationKind::UnknownStanza, link.device(), text);
                stanza::error(iq, 400, "bad-request")
            }
        }
    }

    fn companion_hello(&self, link: &Link, iq: &Node, registration: &Node) -> Node {
        if let Some(refusal) = self.refuse_code(iq) {
            return refusal;
        }
        let waiting = locked(&self.waiting).values().find(|it| it.link.id() == link.id()).cloned();
        let number = registration.text("jid").map(|jid| address::digits(&jid));
        let wrapped = registration.child_bytes("link_code_pairing_wrapped_companion_ephemeral_pub");
        let (Some(waiting), Some(number), Some(wrapped)) = (waiting, number, wrapped) else {
            let text = "companion_hello lacks a part, or comes from a linked device";
            self.violations.record(ViolationKind::Malformed, link.device(), text);
            return stanza::error(iq, 400, "bad-request");
        };
        let noise = registration.child_bytes("companion_server_auth_key_pub");
        if noise != Some(&waiting.noise[..]) {
            let text = "companion_hello names another Noise key than the connection's";
            self.violations.record(ViolationKind::BadSignature, None, text);
        }
        let reference = format!("3@{:016x}", rand::random::<u64>());
        let code = WaitingCode {
            waiting,
            reference: reference.clone(),
            wrapped: wrapped.to_vec(),
            typed: Mutex::default(),
        };
        locked(&self.codes).insert(number, Arc::new(code));
        let answer = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([node_with_bytes("link_code_pairing_ref", reference.into_bytes())])
            .build();
        stanza::result(iq, vec![answer])
    }

    /// The refusal of a request for a code, if a fault says so.
    fn refuse_code(&self, iq: &Node) -> Option<Node> {
        let refuse = |fault: &Fault| {
            matches!(fault, Fault::RefusePairingCode { .. } | Fault::LimitPairingCodes { .. })
        };
        match self.faults.strike(None, refuse)? {
            Fault::RefusePairingCode { code } => Some(stanza::error(iq, code, refusal(code))),
            Fault::LimitPairingCodes { per_minute } => {
                let backoff = self.count_code_request(per_minute)?;
                Some(stanza::error_with_backoff(iq, RATE_LIMITED, refusal(RATE_LIMITED), backoff))
            }
            _ => None,
        }
    }

    /// Books one more request; the seconds to wait if it is one too many.
    fn count_code_request(&self, per_minute: u32) -> Option<u64> {
        let now = Instant::now();
        let mut requests = locked(&self.code_requests);
        requests.retain(|at| now.duration_since(*at) < WINDOW);
        if requests.len() < usize::try_from(per_minute).unwrap_or(usize::MAX) {
            requests.push_back(now);
            return None;
        }
        let over = requests
            .front()
            .map_or(WINDOW, |first| WINDOW.saturating_sub(now.duration_since(*first)));
        // Whoever waits this long is answered. Longer than the window, so that nobody's own minute is taken for it.
        Some(over.as_secs() + MARGIN)
    }

    /// The phone is given a code; returns the device number once the client is linked.
    pub(crate) async fn enter_code(&self, person: &Arc<Person>, code: &str) -> Result<u16, Error> {
        let waiting = locked(&self.codes).get(&*person.pn).map(Arc::clone);
        let waiting = waiting.ok_or_else(|| Error::NoCode(person.pn.to_string()))?;
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        let code = code.to_ascii_uppercase();
        let ephemeral = KeyPair::generate(&mut rand::rng());
        let public = key_bytes(&ephemeral.public_key);
        let wrapped = waiting.wrapped.clone();
        // Twice 131,072 rounds of PBKDF2: not on a thread that serves connections.
        let derived = tokio::task::spawn_blocking(move || {
            let theirs = PairCodeUtils::decrypt_primary_ephemeral_pub(&wrapped, &code).ok()?;
            Some((theirs, PairCodeUtils::encrypt_ephemeral_pub(&public, &code)))
        });
        let derived = derived.await.ok().flatten();
        let (companion_ephemeral, wrapped) = derived.ok_or(Error::WrongCode)?;
        let (finished, secret) = oneshot::channel();
        *locked(&waiting.typed) = Some(Typed { ephemeral, companion_ephemeral, finished });
        waiting.waiting.link.send(self.primary_hello(person, &waiting.reference, wrapped.to_vec()));
        let secret = tokio::time::timeout(self.options.deadline, secret).await;
        let secret = secret.map_err(|_| Error::PairingRefused("it did not finish".to_owned()))?;
        let secret = secret.map_err(|_| Error::PairingRefused("it went away".to_owned()))??;
        self.pair(person, &waiting.waiting, &secret).await
    }

    fn primary_hello(&self, person: &Person, reference: &str, wrapped: Vec<u8>) -> Node {
        let hello = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "primary_hello")
            .children([
                node_with_bytes("link_code_pairing_wrapped_primary_ephemeral_pub", wrapped),
                node_with_bytes("primary_identity_pub", person.endpoint.identity_public()),
                node_with_bytes("link_code_pairing_ref", reference.as_bytes()),
            ])
            .build();
        NodeBuilder::new("notification")
            .attr("from", server_jid())
            .attr("type", "link_code_companion_reg")
            .attr("id", format!("link-code-{}", self.number()))
            .attr("t", unix_seconds())
            .children([hello])
            .build()
    }

    fn companion_finish(&self, iq: &Node, registration: &Node) -> Node {
        let reference = registration.child_bytes("link_code_pairing_ref");
        let found = locked(&self.codes)
            .iter()
            .find(|(_, code)| reference == Some(code.reference.as_bytes()))
            .map(|(pn, code)| (pn.clone(), Arc::clone(code)));
        let Some((pn, code)) = found else { return stanza::error(iq, 400, "bad-request") };
        let Some(typed) = locked(&code.typed).take() else {
            let text = "companion_finish before primary_hello";
            self.violations.record(ViolationKind::TooEarly, None, text);
            return stanza::error(iq, 400, "bad-request");
        };
        let secret = self.existing(&pn).and_then(|person| {
            let wrapped = registration.child_bytes("link_code_pairing_wrapped_key_bundle");
            let companion = code.waiting.registration.identity;
            unwrap_bundle(&person, &typed, wrapped.unwrap_or_default(), &companion)
                .ok_or(Error::WrongCode)
        });
        // The server cannot tell whether the phone liked it; only the phone's owner sees.
        typed.finished.send(secret).ok();
        stanza::result(iq, Vec::new())
    }
}

/// Opens the client's key bundle and derives the secret for the pairing.
fn unwrap_bundle(
    person: &Person,
    typed: &Typed,
    wrapped: &[u8],
    companion: &Key,
) -> Option<Vec<u8>> {
    if wrapped.len() != WRAPPED_BUNDLE {
        return None;
    }
    let (salt, rest) = wrapped.split_at(32);
    let (iv, sealed) = rest.split_at(12);
    let ephemeral =
        typed.ephemeral.calculate_agreement(&public_key(&typed.companion_ephemeral).ok()?).ok()?;
    let mut key = [0; 32];
    let info = b"link_code_pairing_key_bundle_encryption_key";
    hkdf_sha256_into(&ephemeral, Some(salt), info, &mut key).ok()?;
    let mut bundle = Vec::new();
    aes_256_gcm_decrypt(&key, iv.try_into().ok()?, b"", sealed, &mut bundle).ok()?;
    let (theirs, rest) = bundle.split_at_checked(32)?;
    let (ours, random) = rest.split_at_checked(32)?;
    if theirs != companion || ours != person.endpoint.identity_public() {
        return None;
    }
    let identity =
        person.endpoint.identity().private_key().calculate_agreement(&public_key(companion).ok()?);
    let material = [&ephemeral[..], &identity.ok()?, random].concat();
    let mut secret = vec![0; 32];
    hkdf_sha256_into(&material, None, b"adv_secret", &mut secret).ok()?;
    Some(secret)
}

/// The words that go with a refusal.
fn refusal(code: u16) -> &'static str {
    match code {
        403 => "forbidden",
        429 => "rate-overlimit",
        452 => "feature-not-available",
        500 => "internal-server-error",
        _ => "bad-request",
    }
}
