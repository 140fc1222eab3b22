//! Who is connecting: somebody to be paired, or a device that logs in.

use std::sync::Arc;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::whatsapp::client_payload::DevicePairingRegistrationData;

use super::connection::Greeting;
use super::refusals::failure;
use super::{Hub, Link};
use crate::clock::{self, unix_seconds};
use crate::fault::Fault;
use crate::observe::Login;
use crate::people::companion::{Companion, Registration};
use crate::people::person::Person;
use crate::signal::bundle::{KEY_TYPE, SignedKey};
use crate::violation::ViolationKind;
use crate::wire::stanza::{node_with_bytes, number};

/// `<failure>` for a device that is not, or no longer, linked.
const NOT_LINKED: u16 = 401;

impl Hub {
    /// Answers what the client said in its handshake payload.
    pub(crate) async fn greet(self: &Arc<Self>, link: &Link, greeting: Greeting) {
        if let Some(data) = greeting.payload.device_pairing_data.as_option() {
            let Some(registration) = self.registration(data, &greeting) else {
                link.finish(failure(500));
                return;
            };
            if !self.refuse_login(link, None) {
                self.offer_pairing(link, greeting.client, registration);
                self.strike_newcomer(link);
            }
            return;
        }
        self.log_in(link, &greeting).await;
    }

    /// Reads and checks what a new client registers with.
    fn registration(
        &self,
        data: &DevicePairingRegistrationData,
        greeting: &Greeting,
    ) -> Option<Registration> {
        let read = || {
            Some(Registration {
                number: number(data.e_regid.as_deref()?),
                identity: data.e_ident.as_deref()?.try_into().ok()?,
                signed: SignedKey {
                    id: number(data.e_skey_id.as_deref()?),
                    public: data.e_skey_val.as_deref()?.try_into().ok()?,
                    signature: data.e_skey_sig.clone()?,
                },
                platform: platform(data),
            })
        };
        let Some(registration) = read() else {
            let text = "the pairing data lacks a key";
            self.violations.record(ViolationKind::Malformed, None, text);
            return None;
        };
        if data.e_keytype.as_deref().is_some_and(|kind| kind != [KEY_TYPE]) {
            let text = "the pairing data has keys of an unknown type";
            self.violations.record(ViolationKind::Malformed, None, text);
        }
        if !registration.signed.is_signed_by(&registration.identity) {
            let text = "the signed prekey of the registration is not signed by the identity";
            self.violations.record(ViolationKind::BadSignature, None, text);
        }
        if greeting.routing.is_some() {
            let text = "a client that was never linked shows a route";
            self.violations.record(ViolationKind::BadRouting, None, text);
        }
        Some(registration)
    }

    async fn log_in(&self, link: &Link, greeting: &Greeting) {
        let pn = greeting.payload.username.unwrap_or_default().to_string();
        let device = greeting.payload.device.unwrap_or_default();
        let found = self.directory.find(&pn).and_then(|person| {
            let companion = person.companion(u16::try_from(device).ok()?)?;
            (companion.noise == greeting.client).then_some((person, companion))
        });
        let Some((person, companion)) = found else {
            tracing::debug!(device = %format_args!("{pn}:{device}"), "unknown device");
            link.finish(failure(NOT_LINKED));
            return;
        };
        if self.refuse_login(link, Some(&companion.key)) {
            return;
        }
        let silent = |fault: &Fault| *fault == Fault::SilentHandshake;
        if self.faults.strike(Some(&companion.key), silent).is_some() {
            link.deafen();
            return;
        }
        self.take_over(link, &person, &companion).await;
        link.belongs_to(companion.key.clone());
        let routed = self.check_route(&companion, greeting);
        self.welcome(link, &person, &companion, routed);
        person.journal.push(
            |entries| &mut entries.logins,
            Login {
                device: companion.key.clone(),
                pattern: greeting.pattern,
                routed,
                counter: greeting.payload.lc,
                at: clock::unix_millis(),
            },
        );
        self.strike_newcomer(link);
    }

    /// Ends an earlier connection of the same device, which ought not to be there.
    ///
    /// A client that lost its network may be back before we notice, so the old socket gets a
    /// moment to end by itself. One that does not is alive: two clients dial one device.
    async fn take_over(&self, link: &Link, person: &Person, companion: &Companion) {
        let old = companion.state().link.clone();
        if let Some(old) = old {
            let ends = tokio::time::timeout(self.options.replace_grace, old.until_gone()).await;
            // One that we are deaf on stays open, to see what its client does.
            if ends.is_err() && !old.is_deaf() {
                let text = "the device logged in while it was connected";
                let kind = ViolationKind::LoggedInTwice;
                self.violations.record(kind, Some(&companion.key), text);
                old.finish(conflict("replaced", None));
            }
        }
        let mut state = companion.state();
        state.link = Some(link.clone());
        state.active = false;
        state.held = None;
        state.logins += 1;
        drop(state);
        person.journal.write(|entries| {
            entries.online.retain(|device| *device != companion.key);
            entries.online.push(companion.key.clone());
        });
    }

    fn check_route(&self, companion: &Companion, greeting: &Greeting) -> bool {
        let Some(shown) = &greeting.routing else { return false };
        let known = companion.state().routing.as_ref() == Some(shown);
        if !known {
            let text = "the route in the intro is not the one given to this device";
            self.violations.record(ViolationKind::BadRouting, Some(&companion.key), text);
        }
        known
    }

    fn welcome(&self, link: &Link, person: &Person, companion: &Companion, routed: bool) {
        self.counters.logins.one();
        let mut success = NodeBuilder::new("success")
            .attr("t", unix_seconds())
            .attr("props", "27")
            .attr("companion_enc_static", "x")
            .attr("location", "sim");
        if let Some(lid) = person.lid() {
            success = success.attr("lid", Jid::lid_device(lid, companion.key.device));
        }
        link.send(success.build());
        if self.options.edge_routing && !routed {
            let route = self.number().to_be_bytes().to_vec();
            companion.state().routing = Some(route.clone());
            let routing = NodeBuilder::new("edge_routing")
                .children([node_with_bytes("routing_info", route)])
                .build();
            link.send(NodeBuilder::new("ib").children([routing]).build());
        }
    }

    /// Forgets a connection that has ended.
    pub(crate) fn departed(&self, link: &Link) {
        self.forget_waiting(link);
        let Some(device) = link.device() else { return };
        let Some(person) = self.directory.find(&device.pn) else { return };
        let gone = person.companion(device.device).is_none_or(|companion| {
            let mut state = companion.state();
            let current = state.link.as_ref().is_some_and(|it| it.id() == link.id());
            if current {
                state.link = None;
                state.active = false;
            }
            current
        });
        if gone {
            person.journal.write(|entries| {
                entries.online.retain(|online| online != device);
                entries.available.retain(|(available, _)| available != device);
            });
        }
    }
}

/// `<stream:error>` because of another session or the end of this one.
pub(crate) fn conflict(kind: &str, code: Option<u16>) -> Node {
    let mut error = NodeBuilder::new("stream:error");
    if let Some(code) = code {
        error = error.attr("code", code);
    }
    error.children([NodeBuilder::new("conflict").attr("type", kind).build()]).build()
}

fn platform(data: &DevicePairingRegistrationData) -> String {
    use waproto::buffa::Message as _;
    let props = data.device_props.as_deref().unwrap_or_default();
    waproto::whatsapp::DeviceProps::decode_from_slice(props)
        .ok()
        .and_then(|props| props.os)
        .unwrap_or_default()
}
