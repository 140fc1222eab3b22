//! A receiver of webhooks, as a process: it answers 200 and notes when each delivery came.
//!
//! What is asked for under `/dead` is never answered.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use crate::{failure::Failure, role};

/// What it can be asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Where it listens.
    Address,
    /// How many deliveries have come since they were last taken.
    Count,
    /// Say what has come, and forget it.
    Take,
}

/// A delivery, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    /// The organization's number, and the event's.
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    /// Microseconds since 1970.
    pub(crate) at: u64,
}

/// Microseconds since 1970: what all processes of this machine agree on.
pub(crate) fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Receiver {
    address: SocketAddr,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Receiver {
    fn arrivals(&self) -> std::sync::MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives until there are no more orders.
pub(crate) async fn run() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let receiver = Arc::new(Receiver { address, arrivals: Mutex::default() });
    let tracker = TaskTracker::new();
    let (listening, tasks) = (receiver.clone(), tracker.clone());
    tracker.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            let receiver = listening.clone();
            tasks.spawn(async move {
                let mut stream = BufReader::new(stream);
                while receive(&mut stream, &receiver).await.is_some() {}
            });
        }
    });
    role::serve(receiver, carry_out).await;
    Ok(())
}

async fn carry_out(receiver: Arc<Receiver>, ask: Ask) -> Result<Value, Failure> {
    Ok(match ask {
        Ask::Address => json!(receiver.address),
        Ask::Count => json!(receiver.arrivals().len()),
        Ask::Take => json!(std::mem::take(&mut *receiver.arrivals())),
    })
}

/// Reads one request and answers it; none when the connection is over.
async fn receive(stream: &mut BufReader<TcpStream>, receiver: &Receiver) -> Option<()> {
    let (mut length, mut dead, mut first) = (0, false, true);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if std::mem::take(&mut first) {
            dead = line.starts_with("POST /dead");
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    if dead {
        return std::future::pending().await;
    }
    let at = micros();
    let body: Value = serde_json::from_slice(&body).ok()?;
    let arrival =
        Arrival { client: body["client_id"].as_u64()?, sequence: body["sequence"].as_u64()?, at };
    receiver.arrivals().push(arrival);
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()
}
