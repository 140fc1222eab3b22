//! The simulator as tests hold it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::address::DeviceKey;
use crate::fault::{Fault, Lasting, Scope, Script};
use crate::observe::{Inflicted, Info, Login, SentMessage, Socket, SocketState};
use crate::options::Options;
use crate::people::{Contact, Group, Phone};
use crate::server::{Hub, Listening, Play};
use crate::violation::Violation;
use crate::{Error, locked};

/// A running WhatsApp. Clones share it; it stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Running>);

#[derive(Debug)]
struct Running {
    hub: Arc<Hub>,
    listener: Mutex<Listening>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.end();
    }
}

impl Simulator {
    /// Starts a simulator.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let hub = Hub::new(options);
        let listener = Mutex::new(hub.listen(hub.options.listen).await?);
        hub.open_media().await?;
        Ok(Self(Arc::new(Running { hub, listener })))
    }

    /// Stops all connections and tasks and waits for their end.
    pub async fn stop(&self) {
        self.0.hub.stop().await;
    }

    /// The address clients connect to, `ws://127.0.0.1:PORT/ws/chat`.
    pub fn url(&self) -> String {
        format!("ws://{}/ws/chat", self.address())
    }

    /// Where the simulator listens.
    pub fn address(&self) -> SocketAddr {
        locked(&self.0.listener).address
    }

    /// Where the media host listens, over plain HTTP.
    pub fn media_address(&self) -> Option<SocketAddr> {
        self.0.hub.media.address()
    }

    /// The media host forgets a file.
    pub fn forget_media(&self, path: &str) -> bool {
        self.0.hub.media.forget(path)
    }

    /// What the media host was asked for, each with its query.
    pub fn media_asked(&self) -> Vec<String> {
        self.0.hub.media.asked()
    }

    /// The most files that the media host has handed over at once.
    pub fn most_media_at_once(&self) -> usize {
        self.0.hub.media.most_serving()
    }

    /// Closes the listener and all connections, and keeps everybody: the server is away.
    pub async fn close(&self) {
        let listener = locked(&self.0.listener).clone();
        listener.close().await;
        let links: Vec<_> = locked(&self.0.hub.links).values().cloned().collect();
        for link in links {
            link.cut();
        }
    }

    /// Listens again after [`close`](Self::close), at the same address.
    pub async fn reopen(&self) -> Result<(), Error> {
        let listener = self.0.hub.listen(self.address()).await?;
        *locked(&self.0.listener) = listener;
        Ok(())
    }

    /// From now on everything for clients is encrypted and queued, and nothing sent.
    ///
    /// For benchmarks that want the simulator's work done before the clock starts. It holds back
    /// what a client needs to become ready as well, so link and connect clients before.
    pub fn hold(&self) {
        self.0.hub.hold();
    }

    /// Sends what was held back, in order and as if it had just been written.
    pub fn release(&self) {
        self.0.hub.counters.book(|| self.0.hub.release());
    }

    /// Takes a new Noise key, so that clients that cached the old one must fall back.
    pub fn rotate_server_key(&self) {
        self.0.hub.rotate_keys();
    }

    /// The phone with a number; created if nobody has it.
    pub fn phone(&self, number: &str) -> Result<Phone, Error> {
        let person = self.0.hub.person(number)?;
        Ok(Phone { hub: Arc::clone(&self.0.hub), person })
    }

    /// The contact with a number; created if nobody has it.
    pub fn contact(&self, number: &str) -> Result<Contact, Error> {
        Ok(self.phone(number)?.as_contact())
    }

    /// The phone of somebody who must exist already.
    pub fn existing(&self, number: &str) -> Result<Phone, Error> {
        let person = self.0.hub.existing(number)?;
        Ok(Phone { hub: Arc::clone(&self.0.hub), person })
    }

    /// Everybody.
    pub fn everybody(&self) -> Vec<Phone> {
        let hub = &self.0.hub;
        let everybody = hub.directory.everybody().into_iter();
        everybody.map(|person| Phone { hub: Arc::clone(hub), person }).collect()
    }

    /// A new group; the first member owns it. Members must exist.
    pub fn group(&self, subject: &str, members: &[&str]) -> Result<Group, Error> {
        let hub = &self.0.hub;
        let members: Result<Vec<_>, _> =
            members.iter().map(|pn| hub.existing(pn).map(|it| Arc::clone(&it.pn))).collect();
        let chat = hub.directory.add_group(subject, members?);
        Ok(Group { hub: Arc::clone(hub), chat })
    }

    /// Makes something go wrong.
    pub async fn fault(&self, scope: Scope, fault: Fault, lasting: Lasting) {
        self.0.hub.inflict(scope, fault, lasting).await;
    }

    /// Takes all faults of a scope back, or all there are, and delivers what they held back.
    pub fn clear_faults(&self, scope: Option<&Scope>) {
        self.0.hub.clear_faults(scope);
    }

    /// The faults that are armed: whom, what, and how many times more.
    pub fn faults(&self) -> Vec<(Scope, Fault, Option<u32>)> {
        self.0.hub.faults.list()
    }

    /// Plays a script in tokio's time; it goes on when what this returns is dropped.
    pub fn play(&self, script: Script) -> Play {
        self.0.hub.play(script)
    }

    /// Prepares a script whose clock only [`Play::advance`] moves.
    pub fn stage(&self, script: Script) -> Play {
        self.0.hub.stage(script)
    }

    /// The scripts that are not over.
    pub fn plays(&self) -> Vec<Play> {
        locked(&self.0.hub.plays).clone()
    }

    /// Every fault that was made to happen, by hand or by a script, the oldest first.
    pub fn inflicted(&self) -> Vec<Inflicted> {
        locked(&self.0.hub.inflicted).iter().cloned().collect()
    }

    /// How often each fault has happened to somebody: one that was armed and that nobody came to is not there.
    pub fn met(&self) -> Vec<(Fault, u64)> {
        self.0.hub.faults.met()
    }

    /// The sockets that are open, in the order they were accepted.
    pub fn sockets(&self) -> Vec<Socket> {
        let links = locked(&self.0.hub.links).clone();
        let sockets = self.0.hub.sockets.list().into_iter();
        sockets
            .map(|(id, peer, since)| {
                let link = links.get(&id);
                let device = link.and_then(|link| link.device().cloned());
                let state = match link {
                    None => SocketState::Opening,
                    Some(link) if link.is_deaf() => SocketState::Deaf,
                    Some(_) if device.is_some() => SocketState::LoggedIn,
                    Some(_) => SocketState::Open,
                };
                Socket { id, peer, state, device, since }
            })
            .collect()
    }

    /// How often each device has logged in since it was linked.
    pub fn logins_by_device(&self) -> BTreeMap<DeviceKey, u32> {
        let devices = self.everybody().into_iter().flat_map(|phone| phone.devices());
        devices.map(|info| (info.device, info.logins)).collect()
    }

    /// Protocol errors noticed so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.0.hub.violations.all()
    }

    /// Protocol errors noticed since the last call, for tests that provoke some.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.0.hub.violations.take()
    }

    /// Devices connected and logged in.
    pub fn online_devices(&self) -> Vec<DeviceKey> {
        self.everybody().iter().flat_map(Phone::online_devices).collect()
    }

    /// Logins since the start.
    pub fn logins(&self) -> usize {
        self.everybody().iter().map(|phone| phone.logins().len()).sum()
    }

    /// All logins, in no particular order between accounts.
    pub fn all_logins(&self) -> Vec<Login> {
        self.everybody().iter().flat_map(Phone::logins).collect()
    }

    /// Messages an account's clients have sent.
    pub fn sent_by(&self, number: &str) -> Result<Vec<SentMessage>, Error> {
        Ok(self.existing(number)?.sent())
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Counters.
    pub fn info(&self) -> Info {
        let hub = &self.0.hub;
        let companions: Vec<_> =
            hub.directory.everybody().iter().flat_map(|it| it.companions()).collect();
        let mut info = hub.counters.snapshot();
        let (open, most) = hub.sockets.counts();
        (info.sockets, info.most_sockets) = (open as u64, most as u64);
        info.online = companions.iter().filter(|it| it.is_online()).count() as u64;
        info.unacknowledged =
            companions.iter().map(|it| it.state().queue.len() as u64).sum::<u64>();
        info
    }
}
