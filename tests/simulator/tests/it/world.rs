//! A simulator with an account and a contact, the setting of most tests.

use wagate_simulator::{Contact, Options, Phone, Simulator, ViolationKind};

use crate::Client;

pub(crate) const ALICE: &str = "15550001111";
pub(crate) const BOB: &str = "15550002222";
pub(crate) const CAROL: &str = "15550003333";

pub(crate) struct World {
    pub(crate) sim: Simulator,
    pub(crate) alice: Phone,
    pub(crate) bob: Contact,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let sim = Simulator::start(options).await.unwrap();
        let alice = sim.phone(ALICE).unwrap();
        let bob = sim.contact(BOB).unwrap();
        Self { sim, alice, bob }
    }

    /// A client linked to Alice's phone and ready.
    pub(crate) async fn linked(&self) -> Client {
        self.linked_to(&self.alice).await
    }

    pub(crate) async fn linked_to(&self, phone: &Phone) -> Client {
        let client = Client::fresh(&self.sim.url()).await;
        let qr = client.qr().await;
        phone.scan(&qr).await.unwrap();
        client.connected(1).await;
        client
    }

    /// Another client on the same store, as after a restart.
    pub(crate) async fn restarted(&self, client: Client) -> Client {
        let store = client.shutdown().await;
        self.alice.wait_offline().await.unwrap();
        Client::with_store(&self.sim.url(), store).await
    }

    /// The end of a test in which the client did nothing wrong.
    pub(crate) async fn end(self) {
        self.end_with(&[]).await;
    }

    /// The end of a test that provoked exactly these errors.
    pub(crate) async fn end_with(self, provoked: &[ViolationKind]) {
        self.sim.stop().await;
        let violations = self.sim.take_violations();
        let kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, provoked, "{violations:#?}");
    }
}
