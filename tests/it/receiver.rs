//! A receiver of webhooks, on a raw socket: it can misbehave in ways that no HTTP server can.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;
use wagate::webhook::{SigningSecret, verify};

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answer with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Cut the connection with a reset, once the request is read.
    Reset,
    /// Close it without a word.
    Close,
    /// Never answer.
    Silence,
    /// Answer 200 one byte at a time, and never come to an end of the head.
    Drip,
    /// Answer 200, and then one byte of a long body at a time.
    Trickle,
    /// Answer with this status and a body that never ends.
    Endless(u16),
    /// Answer what is no HTTP.
    Nonsense,
}

impl Behaviour {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn sequence(&self) -> i64 {
        let body = self.json();
        let number = body.get("sequence").or_else(|| body["metadata"].get("sequence"));
        number.unwrap().as_i64().unwrap()
    }

    /// Whether it is signed with this secret, at the time that it says.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let secret = SigningSecret::parse(secret).unwrap();
        let at = self.headers["webhook-timestamp"].parse().unwrap();
        let signatures = &self.headers["webhook-signature"];
        verify(&secret, self.id(), at, signatures, &self.body, at).is_ok()
    }
}

/// The receiver. It goes with its value.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    arrived: Notify,
    /// For the next requests, one each; then what `usual` says.
    script: Mutex<VecDeque<Behaviour>>,
    usual: Mutex<Behaviour>,
    /// Whose requests wait until they are let go; none for none.
    gate: Mutex<Option<Arc<Notify>>>,
    /// What the last body without an end had when its reader went.
    poured: watch::Sender<Option<u64>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            arrived: Notify::new(),
            script: Mutex::default(),
            usual: Mutex::new(Behaviour::status(200)),
            gate: Mutex::default(),
            poured: watch::Sender::new(None),
        });
        let tasks = TaskTracker::new();
        let task = tasks.spawn(listen(listener, shared.clone(), tasks.clone()));
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/receive?x=1", self.address)
    }

    /// What is done from now on with requests that the script has nothing for.
    pub(crate) fn usually(&self, behaviour: Behaviour) {
        *self.shared.usual.lock().unwrap() = behaviour;
    }

    /// What is done with the next requests, one each.
    pub(crate) fn next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.script.lock().unwrap().extend(behaviours);
    }

    /// Requests that come from now on wait for the returned bell before they are answered.
    pub(crate) fn hold(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.shared.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// Requests that come from now on are answered at once again.
    pub(crate) fn release(&self) {
        *self.shared.gate.lock().unwrap() = None;
    }

    /// Waits until the reader of a body without an end has gone, and says how many bytes could be written by
    /// then.
    pub(crate) async fn poured(&self) -> u64 {
        let mut poured = self.shared.poured.subscribe();
        let gone = poured.wait_for(Option::is_some);
        tokio::time::timeout(Duration::from_mins(1), gone).await.unwrap().unwrap().unwrap()
    }

    /// What has come so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many have come so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// Waits until what has come satisfies somebody; says what has come if that takes too long.
    pub(crate) async fn until(&self, satisfied: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        loop {
            let arrived = self.shared.arrived.notified();
            let requests = self.requests();
            if satisfied(&requests) {
                return requests;
            }
            if tokio::time::timeout_at(deadline, arrived).await.is_err() {
                let came: Vec<_> = requests.iter().map(|it| it.json()["type"].clone()).collect();
                panic!("that was not all: {came:?}");
            }
        }
    }

    /// Waits until so many have come.
    pub(crate) async fn arrived(&self, count: usize) -> Vec<Request> {
        let all = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if self.count() >= count {
                    return self.requests();
                }
                arrived.await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), all).await.unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tasks.spawn(async move {
            let mut stream = BufReader::new(stream);
            while let Some(request) = read(&mut stream).await {
                let gate = shared.gate.lock().unwrap().clone();
                shared.requests.lock().unwrap().push(request);
                shared.arrived.notify_waiters();
                if let Some(gate) = gate {
                    gate.notified().await;
                }
                let next = shared.script.lock().unwrap().pop_front();
                let behaviour = next.unwrap_or_else(|| shared.usual.lock().unwrap().clone());
                if answer(stream.get_mut(), behaviour, &shared).await.is_none() {
                    return;
                }
            }
        });
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let length = match headers.get("content-length") {
        None if lines[0].starts_with("GET ") => 0,
        length => length.unwrap().parse().unwrap(),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { line: lines[0].clone(), headers, body })
}

/// Does it; none if the connection is over.
async fn answer(stream: &mut TcpStream, behaviour: Behaviour, shared: &Shared) -> Option<()> {
    match behaviour {
        Behaviour::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &[name, ": ", &value, "\r\n"].concat();
            }
            head += "\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            stream.write_all(&body).await.ok()
        }
        Behaviour::Reset => {
            socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            None
        }
        Behaviour::Close => None,
        Behaviour::Silence => std::future::pending().await,
        Behaviour::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.ok()?;
            loop {
                stream.write_all(b"x").await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Behaviour::Trickle => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b"x").await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Behaviour::Endless(status) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            let mut poured = 0;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                poured += 4096;
            }
            shared.poured.send_replace(Some(poured));
            None
        }
        Behaviour::Nonsense => {
            stream.write_all(b"220 mail.example ESMTP ready\r\n").await.ok()?;
            None
        }
    }
}
