//! A real client, and what it says about itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::wacore::net::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::wacore::store::InMemoryBackend;
use whatsapp_rust::wacore::types::events::{Event, EventHandler};
use whatsapp_rust::{Jid, wacore};

const DEADLINE: Duration = Duration::from_mins(1);

/// A running client and its events.
pub(crate) struct Client {
    handle: BotHandle,
    events: Arc<Events>,
    pub(crate) store: Arc<InMemoryBackend>,
}

#[derive(Default)]
struct Events {
    seen: Mutex<Vec<Arc<Event>>>,
    changed: Notify,
}

impl EventHandler for Events {
    fn handle_event(&self, event: Arc<Event>) {
        self.seen.lock().unwrap().push(event);
        self.changed.notify_waiters();
    }
}

/// Plain HTTP to the simulator's media host, whatever scheme is asked for.
struct PlainHttp;

#[async_trait]
impl HttpClient for PlainHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let address = request.url.strip_prefix("https://").context("not an HTTPS URL")?;
        let (host, path) = address.split_once('/').context("a URL without a path")?;
        let mut stream = TcpStream::connect(host).await?;
        let head = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").context("no head")?;
        let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).context("no status")?;
        let status_code = status.parse()?;
        Ok(HttpResponse { status_code, body: answer.split_off(end + 4) })
    }
}

impl Client {
    /// A client that was never linked.
    pub(crate) async fn fresh(url: &str) -> Self {
        Self::with_store(url, Arc::new(InMemoryBackend::new())).await
    }

    /// A client on an existing store.
    pub(crate) async fn with_store(url: &str, store: Arc<InMemoryBackend>) -> Self {
        let events = Arc::new(Events::default());
        let bot = Bot::builder()
            .with_backend_arc(Arc::clone(&store) as Arc<dyn wacore::store::traits::Backend>)
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(url))
            .with_http_client(PlainHttp)
            .with_version((2, 3000, 1_042_742_319))
            .build()
            .await
            .unwrap();
        bot.client().subscribe_handler(Arc::clone(&events) as Arc<dyn EventHandler>).detach();
        Self { handle: bot.spawn(), events, store }
    }

    /// Waits for an event, among those there were and those to come.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        look: impl Fn(&Event) -> Option<T> + Send + Sync,
    ) -> T {
        self.wait_all(what, |events| events.iter().find_map(|event| look(event))).await
    }

    /// Waits until all events together say something.
    pub(crate) async fn wait_all<T>(
        &self,
        what: &str,
        look: impl Fn(&[Arc<Event>]) -> Option<T> + Send + Sync,
    ) -> T {
        let waiting = async {
            loop {
                let changed = self.events.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.events.seen.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, waiting).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}; seen: {:#?}", self.summary()))
    }

    /// What events say, of all there were.
    pub(crate) fn all<T>(&self, look: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.seen.lock().unwrap().iter().filter_map(|event| look(event)).collect()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.seen.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }

    /// The QR code shown now.
    pub(crate) async fn qr(&self) -> String {
        self.wait("a QR code", |event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn connected(&self, times: usize) {
        self.wait_all("Connected", |events| {
            let seen = events.iter().filter(|it| matches!(***it, Event::Connected(_))).count();
            (seen >= times).then_some(())
        })
        .await;
    }

    /// Waits for a message with this text; returns its id and sender.
    pub(crate) async fn text(&self, text: &str) -> (String, Jid) {
        self.wait(&format!("the text {text:?}"), |event| match event {
            Event::Messages(batch) => batch.iter().find_map(|it| {
                let extended = it.message.extended_text_message.as_option();
                let extended = extended.and_then(|extended| extended.text.as_deref());
                let found = it.message.conversation.as_deref().or(extended) == Some(text);
                found.then(|| (it.info.id.clone(), it.info.source.sender.clone()))
            }),
            _ => None,
        })
        .await
    }

    /// Waits for the server's ack of a message; returns its error, if it has one.
    pub(crate) async fn acknowledged(&self, id: &str) -> Option<String> {
        self.wait(&format!("the ack of {id}"), |event| match event {
            Event::ServerAck(ack) if ack.id == id => {
                Some(ack.error.as_ref().map(|error| format!("{error:?}")))
            }
            _ => None,
        })
        .await
    }

    /// The texts that have come, in their order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let seen = self.events.seen.lock().unwrap();
        let batches = seen.iter().filter_map(|event| match &**event {
            Event::Messages(batch) => {
                Some(batch.iter().filter_map(|it| it.message.conversation.clone()))
            }
            _ => None,
        });
        batches.flatten().collect()
    }

    pub(crate) async fn send(&self, to: &str, text: &str) -> String {
        self.handle.client().send_text(jid(to), text).await.unwrap().message_id
    }

    pub(crate) fn inner(&self) -> Arc<whatsapp_rust::Client> {
        self.handle.client()
    }

    pub(crate) async fn shutdown(self) -> Arc<InMemoryBackend> {
        let store = Arc::clone(&self.store);
        self.handle.shutdown().await;
        store
    }

    fn summary(&self) -> Vec<String> {
        let seen = self.events.seen.lock().unwrap();
        seen.iter().map(|event| format!("{event:?}").chars().take(120).collect()).collect()
    }
}

/// The address of a phone number.
pub(crate) fn jid(number: &str) -> Jid {
    if number.contains('@') {
        number.parse().unwrap()
    } else {
        format!("{number}@s.whatsapp.net").parse().unwrap()
    }
}

/// Waits until something is so that nothing tells of.
pub(crate) async fn until(what: &str, look: impl Fn() -> bool + Send + Sync) {
    let waiting = async {
        while !look() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
